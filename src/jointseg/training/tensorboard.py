"""TensorBoard event files of a training: the rows of its history, and its panel at every validation."""

from pathlib import Path

from matplotlib.figure import Figure

from jointseg.runtime.files import remove_path


class EventWriter:
    """Writer of event files. No step reads them; they contain times, so their bytes differ between equal trainings.

    Without a folder it writes nothing. `start` is the number of steps done before a resume: later events of the stopped
    run are invalidated; 0 removes all.
    """

    def __init__(self, folder: str | None, start: int) -> None:
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

            if start == 0:
                remove_path(Path(folder))
            self._writer = SummaryWriter(folder, purge_step=start + 1)

    @property
    def enabled(self) -> bool:
        return self._writer is not None

    def write(self, step: int, metrics: dict[str, float], panel: Figure) -> None:
        """Write the metrics of a validation as scalars, and the panel."""
        assert self._writer is not None
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_figure("panel", panel, step, close=False)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
