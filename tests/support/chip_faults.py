"""Faults of one chip, injected into a dataset, with the checks that must report each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from support.tiny_dataset import edit, move, rebuild, repaint, row_of

Injection = Callable[[Path, str], None]


def file_of(folder: Path, chip: str, kind: str) -> Path:
    return folder / "chips" / row_of(folder, chip)[kind]


def recompress(**options: Any) -> Injection:
    """Rewrite the label by another driver or with other options."""

    def inject(folder: Path, chip: str) -> None:
        path = file_of(folder, chip, "label")
        plain = path.with_name("plain.tif")
        path.rename(plain)
        rasterio.shutil.copy(plain, path, **({"driver": "COG", "COMPRESS": "DEFLATE", "BLOCKSIZE": 512} | options))
        plain.unlink()

    return inject


def repainted(kind: str, paint: Callable[[np.ndarray], np.ndarray] = lambda array: array, **changes: Any) -> Injection:
    return lambda folder, chip: repaint(folder, chip, kind, paint, **changes)


def with_shifted_transform(kind: str, east: float) -> Injection:
    def inject(folder: Path, chip: str) -> None:
        with rasterio.open(file_of(folder, chip, kind)) as source:
            transform = Affine.translation(east, 0) @ source.transform
        repaint(folder, chip, kind, lambda array: array, transform=transform)

    return inject


def with_values(where: tuple, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def paint(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return paint


def clip_values(array: np.ndarray) -> np.ndarray:
    return np.minimum(array, np.percentile(array, 80).astype(array.dtype))


def noise(array: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(500, 2500, array.shape).astype(array.dtype)


def without_labels(folder: Path, chip: str) -> None:
    repaint(folder, chip, "label", lambda array: np.full_like(array, 255))
    repaint(folder, chip, "fraction", lambda array: np.full_like(array, 65535))
    edit(folder, chip, "index", isa_fraction=float("nan"))
    rebuild(folder)


def truncate(folder: Path, chip: str) -> None:
    path = file_of(folder, chip, "hr")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ALL_PIXELS = (slice(None),)
CHIP_FAULTS: dict[str, tuple[Injection, set[str]]] = {
    "a missing file": (lambda folder, chip: file_of(folder, chip, "hr").unlink(), {"file-missing"}),
    "a file of text": (lambda folder, chip: file_of(folder, chip, "lr").write_text("moved"), {"file-unreadable"}),
    "a truncated file": (truncate, {"file-truncated"}),
    "a GeoTIFF that is not a COG": (recompress(driver="GTiff", TILED="YES", BLOCKXSIZE=512, BLOCKYSIZE=512), {"cog"}),
    "blocks of 128": (recompress(BLOCKSIZE=128), {"block-size"}),
    "LZW compression": (recompress(COMPRESS="LZW"), {"compression"}),
    "a label of 16 bit": (repainted("label", lambda array: array.astype(np.uint16)), {"dtype"}),
    "a missing band": (repainted("hr", lambda array: array[:2], descriptions=("B04", "B03")), {"band-count"}),
    "bands in reverse order": (repainted("hr", descriptions=("B02", "B03", "B04")), {"band-names"}),
    "no nodata": (repainted("label", nodata=None), {"nodata"}),
    "another nodata": (repainted("fraction", nodata=0), {"nodata"}),
    "a missing row": (repainted("lr", lambda array: array[:, :-1]), {"size"}),
    "another UTM zone": (repainted("hr", crs="EPSG:32651"), {"crs"}),
    "a grid off by half a pixel": (with_shifted_transform("hr", 0.5), {"lattice"}),
    "a grid off by ten metres": (with_shifted_transform("label", 10), {"grid"}),
    "all files at another position": (lambda folder, chip: move(folder, chip, 10, 0, tables=False), {"position"}),
    "a nodata band": (repainted("hr", with_values((1,), 0)), {"all-nodata"}),
    "nodata in one band": (repainted("hr", with_values((1, slice(0, 3)), 0)), {"partial-nodata"}),
    "a constant band": (repainted("hr", with_values((2,), 900)), {"constant"}),
    "reflectance x 100000": (repainted("hr", lambda array: array * np.uint16(10)), {"range"}),
    "digital numbers of 1 bit": (repainted("lr", lambda array: (array // 600 + 1).astype(np.uint16)), {"range"}),
    "clipped values": (repainted("hr", clip_values), {"clipped"}),
    "an image shifted 10 m east": (repainted("hr", lambda array: np.roll(array, 10, axis=2)), {"misaligned"}),
    "an image shifted 8 m north, 4 m west": (
        repainted("hr", lambda array: np.roll(array, (-8, -4), axis=(1, 2))),
        {"misaligned"},
    ),
    "a mirrored image": (repainted("hr", lambda array: array[:, ::-1]), {"uncorrelated"}),
    "an image of noise": (repainted("hr", noise), {"uncorrelated"}),
    "an invalid label code": (repainted("label", with_values((0, slice(0, 2), slice(0, 2)), 7)), {"label-code"}),
    "an unlabelled chip": (without_labels, {"label-empty"}),
    "a wrong ISA fraction": (lambda folder, chip: edit(folder, chip, isa_fraction=0.01), {"isa-fraction"}),
    "a fraction of 20000": (repainted("fraction", with_values((2, 4), 20_000)), {"fraction-range"}),
    "a kind above total ISA": (repainted("fraction", with_values((3, 4), 10_000)), {"fraction-kinds"}),
    "fractions of zero": (repainted("fraction", with_values(ALL_PIXELS, 0)), {"fraction-label"}),
    "mirrored fractions": (repainted("fraction", lambda array: array[:, ::-1]), {"fraction-label"}),
}
