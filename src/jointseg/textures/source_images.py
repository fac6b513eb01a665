"""Labelled high-resolution images as mosaics at 1 m."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED
from jointseg.runtime.errors import DataError

MAX_REFLECTANCE = 0.3  # reflectance of the display value 255


@dataclass(frozen=True)
class Area:
    """One place at 1 m.

    Attributes:
        image: float32 [3, h, w], reflectance of red, green, blue.
        label: uint8 [h, w], 0, 1, 255 unknown.
        fraction: uint16 [1 + kinds, h, w], parts of 10,000 covered, as in the chips' contract.
    """

    image: np.ndarray
    label: np.ndarray
    fraction: np.ndarray


def read_area(folder: Path, entry: dict[str, Any], colours: dict[str, str]) -> Area:
    """One of `textures.areas`.

    Args:
        folder: that the patterns start from.
        entry: images, labels (patterns, in the order of their names), columns.
        colours: of the labels, "RRGGBB" -> a kind of ISA, "none" (not impervious) or "unknown".

    Raises:
        DataError: no image, another number of labels, a colour that is not told, or labels of another size.
    """
    images, labels = (sorted(folder.glob(entry[what])) for what in ("images", "labels"))
    if not images:
        raise DataError(f"{folder / entry['images']} matches no image; set textures.folder and textures.areas")
    if len(labels) != len(images):
        raise DataError(f"{entry['labels']} matches {len(labels)} labels of {len(images)} images; give one an image")
    parts, masks = [_rgb(path) for path in images], [_kinds(path, colours) for path in labels]
    for path, part, mask in zip(labels, parts, masks):
        if part.shape[:2] != mask.shape:
            raise DataError(f"label {path} is {mask.shape} px, its image {part.shape[:2]}; give one of the same size")
    return _area(_mosaic(parts, entry["columns"]), _mosaic(masks, entry["columns"]))


def _rgb(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({error}); fetch it again") from error


def _kinds(path: Path, colours: dict[str, str]) -> np.ndarray:
    """int8 [h, w]: 0 not impervious, 1 + place in ISA_KINDS, -1 unknown."""
    codes = {"none": 0, "unknown": -1} | {kind: place for place, kind in enumerate(ISA_KINDS, 1)}
    rgb = _rgb(path).astype(np.uint32)
    packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    out = np.full(packed.shape, -2, np.int8)
    for colour, kind in colours.items():
        out[packed == int(colour, 16)] = codes[kind]
    if (out == -2).any():
        strange = packed[out == -2][0]
        raise DataError(f"label {path} has the colour {strange:06X}; tell in textures.colours what it means")
    return out


def _mosaic(parts: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles row by row as one image; those of a row are cut to the lowest, those of a column to the narrowest."""
    rows = [parts[start : start + columns] for start in range(0, len(parts), columns)]
    widths = [min(row[place].shape[1] for row in rows if place < len(row)) for place in range(columns)]
    if len(rows[-1]) != columns:
        raise DataError(f"{len(parts)} tiles do not fill rows of {columns}; set textures.areas.columns")
    strips = []
    for row in rows:
        height = min(part.shape[0] for part in row)
        strips.append(np.concatenate([part[:height, :width] for part, width in zip(row, widths)], axis=1))
    return np.concatenate(strips)


def _area(rgb: np.ndarray, kinds: np.ndarray) -> Area:
    # The inverse of the square-root stretch by which such pictures are made.
    image = MAX_REFLECTANCE * np.square(np.moveaxis(rgb, 2, 0).astype(np.float32) / 255)
    label = np.where(kinds < 0, UNLABELLED, kinds > 0).astype(np.uint8)
    planes = [kinds > 0, *(kinds == place for place in range(1, len(ISA_KINDS) + 1))]
    fraction = np.where(kinds < 0, FRACTION_NODATA, FRACTION_SCALE * np.stack(planes)).astype(np.uint16)
    return Area(image, label, fraction)
