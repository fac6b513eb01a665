"""The 1 m rasters that one pass makes: which values are blended for them, and what becomes of a blended piece."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jointseg.inference.lattice import LR_M
from jointseg.inference.predictor import REFLECTANCE_PER_DN

UNKNOWN = 255
SCORE_STEPS = 250  # of a probability stored in uint8: 0.004 each


@dataclass(frozen=True)
class Form:
    """How a product is stored.

    Attributes:
        bands: names of its bands.
        dtype: numpy name of its type.
        nodata: the value of unknown pixels.
        overviews: how pixels become coarser ones.
        scale: what a stored number is multiplied with.
    """

    bands: tuple[str, ...]
    dtype: str
    nodata: int
    overviews: str
    scale: float = 1


FORMS = {
    "isa": Form(("isa",), "uint8", UNKNOWN, "nearest"),
    "probability": Form(("probability",), "uint8", UNKNOWN, "average", 1 / SCORE_STEPS),
    "disagreement": Form(("disagreement",), "uint8", UNKNOWN, "average", 1 / SCORE_STEPS),
    "rgb": Form(("B04", "B03", "B02"), "uint16", 0, "average", REFLECTANCE_PER_DN),
}


class Products:
    """What is wanted of a pass.

    Args:
        names: keys of FORMS.
        threshold: probability from which a pixel is impervious.
    """

    def __init__(self, names: Sequence[str], threshold: float) -> None:
        self.names, self.threshold = tuple(names), threshold
        self.spread, self.image = "disagreement" in names, "rgb" in names
        self.channels = 1 + self.spread + 3 * self.image

    def blended(self, probability: Tensor, image: Tensor | None) -> Tensor:
        """The values of a window that are blended.

        Args:
            probability: float32 [1, h, w].
            image: reflectance, float32 [3, h, w]; only read where it is wanted.

        Returns:
            float32 [channels, h, w]: probability, its square and the image, the last two where they are wanted.
        """
        parts = [probability]
        if self.spread:
            parts.append(probability.square())
        if self.image:
            assert image is not None
            parts.append(image)
        return torch.cat(parts) if len(parts) > 1 else probability

    def finished(self, values: Tensor, known: np.ndarray, owned: np.ndarray | None) -> dict[str, np.ndarray]:
        """The stored pixels of a blended piece.

        The disagreement is the standard deviation, in the weights of the blend, of what overlapping windows say; 0 where
        one window alone covers the ground.

        Args:
            values: float32 [channels, rows, columns] at 1 m.
            known: bool [rows / 10, columns / 10]: seen clear.
            owned: bool [rows, columns]: of this UTM zone; None where all is.

        Returns:
            By product, [bands, rows, columns]; unknown pixels hold its nodata.
        """
        unknown = _unknown(known, owned, values.device)
        made: dict[str, np.ndarray] = {}
        for name in self.names:
            if name == "isa":
                stored = (values[:1] >= self.threshold).to(torch.uint8)
            elif name == "probability":
                stored = _steps(values[:1])
            elif name == "disagreement":
                stored = _steps((values[1:2] - values[:1].square()).clamp_(min=0).sqrt_())
            else:
                numbers = (values[-3:] / REFLECTANCE_PER_DN).round_().clamp_(1, np.iinfo(np.uint16).max)
                stored = numbers.to(torch.int32)  # PyTorch computes little with uint16
            if unknown is not None:
                stored.masked_fill_(unknown, FORMS[name].nodata)
            made[name] = stored.cpu().numpy().astype(FORMS[name].dtype, copy=False)
        return made


def _unknown(known: np.ndarray, owned: np.ndarray | None, device: torch.device) -> Tensor | None:
    """bool [rows, columns] at 1 m; None where all is known."""
    unknown = None
    if not known.all():
        low = torch.from_numpy(~known).to(device)
        rows, columns = low.shape
        fine = low[:, None, :, None].expand(rows, LR_M, columns, LR_M)
        unknown = fine.reshape(rows * LR_M, columns * LR_M)
    if owned is not None and not owned.all():
        other = torch.from_numpy(~owned).to(device)
        unknown = other if unknown is None else unknown | other
    return unknown


def _steps(probability: Tensor) -> Tensor:
    """uint8 of a probability of the same shape."""
    return (probability * SCORE_STEPS).round_().clamp_(0, SCORE_STEPS).to(torch.uint8)
