"""What a training tells TensorBoard: the rows of its history, and its panel at every validation."""

from pathlib import Path

from matplotlib.figure import Figure

from jointseg.runtime.files import remove_path


class EventWriter:
    """Event files in a folder, which no step reads; they hold times, so two of one training are not the same bytes.

    Args:
        folder: None tells nothing.
        start: steps done by a run that was stopped; its events after them are made invalid, with 0 all are removed.
    """

    def __init__(self, folder: str | None, start: int) -> None:
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # seconds to import

            if start == 0:
                remove_path(Path(folder))
            self._writer = SummaryWriter(folder, purge_step=start + 1)

    @property
    def on(self) -> bool:
        """Whether anything is told."""
        return self._writer is not None

    def tell(self, step: int, figures: dict[str, float], panel: Figure) -> None:
        """The figures of a validation, each a curve, and the panel."""
        assert self._writer is not None
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_figure("panel", panel, step, close=False)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
