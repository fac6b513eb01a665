"""Mosaics at 1 m of labelled high-resolution images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED
from jointseg.runtime.errors import DataError

MAX_REFLECTANCE = 0.3  # of the display value 255
UNLABELLED_KIND, UNDEFINED_KIND = -1, -2


@dataclass(frozen=True)
class Area:
    """One area at 1 m."""

    image: np.ndarray  # float32 [3, h, w], reflectance of red, green, blue
    label: np.ndarray  # uint8 [h, w], 0, 1, 255 unlabelled
    fraction: np.ndarray  # uint16 [1 + kinds, h, w], ISA fractions as in dataset.contract


def read_area(folder: Path, entry: dict[str, Any], colours: dict[str, str]) -> Area:
    """Read the images and labels of one area of `ablation.textures.areas`.

    Raises DataError for no image, different numbers of images and labels, an undefined colour, or differing sizes.

    Args:
        folder: root of the patterns.
        entry: images and labels (patterns, sorted by name), columns (tiles in a row of the mosaic).
        colours: label colour "RRGGBB" -> kind of ISA, "none" (not impervious) or "unlabelled".
    """
    images, labels = (sorted(folder.glob(entry[kind])) for kind in ("images", "labels"))
    if not images:
        raise DataError(
            f"{folder / entry['images']} matches no image; set ablation.textures.folder and ablation.textures.areas"
        )
    if len(labels) != len(images):
        raise DataError(
            f"{entry['labels']} matches {len(labels)} labels for {len(images)} images; one label per image is required"
        )
    tiles, kinds = [_read_rgb(path) for path in images], [_read_kinds(path, colours) for path in labels]
    for path, tile, kind in zip(labels, tiles, kinds):
        if tile.shape[:2] != kind.shape:
            raise DataError(f"label {path} is {kind.shape} px, its image {tile.shape[:2]}; both need the same size")
    return _area(_mosaic(tiles, entry["columns"]), _mosaic(kinds, entry["columns"]))


def _read_rgb(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({error}); download it again") from error


def _read_kinds(path: Path, colours: dict[str, str]) -> np.ndarray:
    """Read a label image: int8 [h, w], 0 not impervious, 1 + index in ISA_KINDS, -1 unlabelled."""
    codes = {"none": 0, "unlabelled": UNLABELLED_KIND} | {kind: code for code, kind in enumerate(ISA_KINDS, 1)}
    rgb = _read_rgb(path).astype(np.uint32)
    packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    out = np.full(packed.shape, UNDEFINED_KIND, np.int8)
    for colour, kind in colours.items():
        out[packed == int(colour, 16)] = codes[kind]
    undefined = packed[out == UNDEFINED_KIND]
    if undefined.size:
        raise DataError(
            f"label {path} has the undefined colour {undefined[0]:06X}; add it to ablation.textures.colours"
        )
    return out


def _mosaic(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Join tiles row by row, each row cropped to its lowest tile and each column to its narrowest."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    if len(rows[-1]) != columns:
        raise DataError(f"{len(tiles)} tiles do not fill rows of {columns}; set columns in ablation.textures.areas")
    widths = [min(row[column].shape[1] for row in rows) for column in range(columns)]
    strips = []
    for row in rows:
        height = min(tile.shape[0] for tile in row)
        strips.append(np.concatenate([tile[:height, :width] for tile, width in zip(row, widths)], axis=1))
    return np.concatenate(strips)


def _area(rgb: np.ndarray, kinds: np.ndarray) -> Area:
    # Invert the square-root stretch of display images.
    image = MAX_REFLECTANCE * np.square(np.moveaxis(rgb, 2, 0).astype(np.float32) / 255)
    unlabelled = kinds == UNLABELLED_KIND
    label = np.where(unlabelled, UNLABELLED, kinds > 0).astype(np.uint8)
    covered = np.stack([kinds > 0, *(kinds == code for code in range(1, len(ISA_KINDS) + 1))])
    fraction = np.where(unlabelled, FRACTION_NODATA, FRACTION_SCALE * covered).astype(np.uint16)
    return Area(image, label, fraction)
