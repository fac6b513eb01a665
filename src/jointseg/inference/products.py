"""The 1 m rasters of one prediction pass: which channels are blended, and how blended pieces are stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jointseg.inference.lattice import LR_M
from jointseg.inference.predictor import REFLECTANCE_PER_DN

NODATA = 255
SCORE_STEPS = 250  # of a probability stored in uint8: 0.004 each


@dataclass(frozen=True)
class StorageFormat:
    """How a product is stored."""

    bands: tuple[str, ...]
    dtype: str
    nodata: int
    overviews: str  # resampling method of the overviews
    scale: float = 1  # factor from stored to physical values


FORMATS = {
    "isa": StorageFormat(("isa",), "uint8", NODATA, "nearest"),
    "probability": StorageFormat(("probability",), "uint8", NODATA, "average", 1 / SCORE_STEPS),
    "disagreement": StorageFormat(("disagreement",), "uint8", NODATA, "average", 1 / SCORE_STEPS),
    "rgb": StorageFormat(("B04", "B03", "B02"), "uint16", 0, "average", REFLECTANCE_PER_DN),
}


class Products:
    """The products of a pass, keys of FORMATS; `threshold` is the probability from which a pixel is impervious."""

    def __init__(self, names: Sequence[str], threshold: float) -> None:
        self.names, self.threshold = tuple(names), threshold
        self.spread, self.image = "disagreement" in names, "rgb" in names
        self.channels = 1 + self.spread + 3 * self.image

    def blend_channels(self, probability: Tensor, image: Tensor | None) -> Tensor:
        """Return the channels to blend, float32 [channels, h, w]: probability [1, h, w], its square, reflectance [3, h,
        w].

        The square is included for the product disagreement, the reflectance for rgb.
        """
        parts = [probability]
        if self.spread:
            parts.append(probability.square())
        if self.image:
            assert image is not None
            parts.append(image)
        return torch.cat(parts) if len(parts) > 1 else probability

    def finalise(self, values: Tensor, valid: np.ndarray, owned: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the stored pixels of a blended piece, float32 [channels, rows, columns] at 1 m, by product.

        The disagreement is the standard deviation of the overlapping windows' probabilities, weighted by the blend; it
        is 0 where there is only one window. Pixels are nodata unless they have a clear observation (`valid`, bool [rows
        / 10, columns / 10]) and belong to this UTM zone (`owned`, bool [rows, columns]; None if all do).
        """
        nodata = _nodata_mask(valid, owned, values.device)
        pixels: dict[str, np.ndarray] = {}
        for name in self.names:
            if name == "isa":
                stored = (values[:1] >= self.threshold).to(torch.uint8)
            elif name == "probability":
                stored = _quantised(values[:1])
            elif name == "disagreement":
                stored = _quantised((values[1:2] - values[:1].square()).clamp_(min=0).sqrt_())
            else:
                dn = (values[-3:] / REFLECTANCE_PER_DN).round_().clamp_(1, np.iinfo(np.uint16).max)
                stored = dn.to(torch.int32)  # PyTorch supports few operations on uint16
            if nodata is not None:
                stored.masked_fill_(nodata, FORMATS[name].nodata)
            pixels[name] = stored.cpu().numpy().astype(FORMATS[name].dtype, copy=False)
        return pixels


def _nodata_mask(valid: np.ndarray, owned: np.ndarray | None, device: torch.device) -> Tensor | None:
    """Return bool [rows, columns] at 1 m; None if there is no nodata."""
    nodata = None
    if not valid.all():
        low = torch.from_numpy(~valid).to(device)
        rows, columns = low.shape
        fine = low[:, None, :, None].expand(rows, LR_M, columns, LR_M)
        nodata = fine.reshape(rows * LR_M, columns * LR_M)
    if owned is not None and not owned.all():
        foreign = torch.from_numpy(~owned).to(device)
        nodata = foreign if nodata is None else nodata | foreign
    return nodata


def _quantised(probability: Tensor) -> Tensor:
    """Return a probability as uint8 of the same shape."""
    return (probability * SCORE_STEPS).round_().clamp_(0, SCORE_STEPS).to(torch.uint8)
