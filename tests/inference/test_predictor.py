"""Checkpoints and bands of the predictor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.inference_scene import GENERATOR, SEGMENTER, networks, save, scene

from jointseg.area.grid import parse_tile
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.predictor import Predictor
from jointseg.raster import cog
from jointseg.raster.bands import COMPOSITE_BANDS, MERGED_BANDS, RGB
from jointseg.runtime.errors import DataError
from jointseg.training import superres_chips


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return networks(tmp_path_factory.mktemp("weights"))


def test_checkpoints_with_different_normalisations_raise(tmp_path: Path, weights: dict[str, Path]) -> None:
    other = save(tmp_path / "other.safetensors", "prog_esrgan", GENERATOR, mean=[0.2, 0.1, 0.08])
    with pytest.raises(DataError, match="normalisation"):
        Predictor.load("superres", weights["segmentation"], other)
    with pytest.raises(DataError, match="mask2former"):
        Predictor.load("superres", weights["superres"], other)


def test_checkpoints_of_another_method_or_stage_raise(tmp_path: Path, weights: dict[str, Path]) -> None:
    half = save(tmp_path / "half.safetensors", "prog_esrgan", GENERATOR, extra={"stage": 1})
    with pytest.raises(DataError, match=r"2\.5 m"):
        Predictor.load("superres", weights["segmentation"], half)
    baseline = save(tmp_path / "baseline.safetensors", "mask2former", SEGMENTER, extra={"method": "bilinear"})
    with pytest.raises(DataError, match="bilinear"):
        Predictor.load("superres", baseline, weights["superres"])
    assert Predictor.load("bilinear", baseline, None).threshold == 0.5


class Mean(torch.nn.Module):
    """A generator of any number of bands: its red is the mean of all, so that every band matters."""

    channels = 3

    def forward(self, x: torch.Tensor) -> tuple[None, torch.Tensor]:
        image = x[:, :3].clone()
        image[:, 0] = x.mean(dim=1)
        return None, image.repeat_interleave(10, dim=2).repeat_interleave(10, dim=3)


def write_composite(path: Path, array: np.ndarray, names: tuple[str, ...]) -> Path:
    tile = parse_tile("50N_E0660_N3540", 4)
    cog.write(path, array, crs=tile.crs, transform=tile.transform(10), nodata=0, descriptions=names)
    return path


def test_windows_have_the_bands_of_the_checkpoint(tmp_path: Path) -> None:
    image = scene()
    nir = np.where(image[3:] > 0, image[:1] // 2 + 1, 0).astype(np.uint16)
    merged = np.concatenate([image[:3] // part + 1 for part in (2, 3, 4, 5)])
    merged[:, :40] = 0
    own = write_composite(tmp_path / "a.tif", np.concatenate([image[:3], nir, image[3:]]), (*COMPOSITE_BANDS, "clear"))
    more = write_composite(tmp_path / "b.tif", merged, MERGED_BANDS)
    bounds = (660_000, 3_540_000, 664_000, 3_544_000)
    for bands in (RGB, COMPOSITE_BANDS, RGB + MERGED_BANDS, COMPOSITE_BANDS + MERGED_BANDS):
        count = len(bands)
        normalisation = {"mean": [0.1] * count, "std": [0.05 + 0.01 * n for n in range(count)]}
        predictor = Predictor(Mean(), None, normalisation)
        assert predictor.bands == bands
        dn, valid = CompositeReader([own], predictor.bands, [more]).read(bounds)
        assert dn.shape == (count, 400, 400) and (valid == (image[3] > 0)).all()
        assert (dn[:3] == image[:3]).all()
        if bands[-1] != "B02" and count > 4:
            assert (dn[-12:-9, :40] == image[:3, :40]).all() and (dn[-12:, 40:] == merged[:, 40:]).all()
        made = predictor.reflectance(dn[:, :8, :8], valid[:8, :8]).numpy()
        standard = (dn[:, :8, :8] * 1e-4 - 0.1) / np.array(normalisation["std"])[:, None, None]
        assert made.shape == (3, 80, 80)
        assert made[0, ::10, ::10] == pytest.approx(standard.mean(axis=0) * 0.05 + 0.1, abs=1e-5)
        assert made[2, ::10, ::10] == pytest.approx(dn[2, :8, :8] * 1e-4, abs=1e-5)


def test_missing_bands_raise(tmp_path: Path) -> None:
    own = write_composite(tmp_path / "a.tif", scene(), (*RGB, "clear"))
    with pytest.raises(DataError, match=r"a\.tif has bands .* not \['B08'\]; rebuild the composites"):
        CompositeReader([own], COMPOSITE_BANDS)
    with pytest.raises(DataError, match=r"merged dates \(B04_nw .*a\.tif; set sentinel2\.merged_dates"):
        CompositeReader([own], RGB + MERGED_BANDS)


def test_baseline_reads_three_bands() -> None:
    count = 16
    predictor = Predictor(None, Mean(), {"mean": [0.1] * count, "std": [0.05] * count})
    assert predictor.bands == RGB
    made = predictor.reflectance(np.full((3, 4, 4), 700, np.uint16), np.ones((4, 4), bool))
    assert made.numpy() == pytest.approx(0.07)


def test_segmenter_of_four_channels_reads_near_infrared() -> None:
    class Infrared(torch.nn.Module):
        channels = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 3:]

    normalisation = {"mean": [0.1] * 4, "std": [0.05] * 4}
    dn = np.random.default_rng(0).integers(500, 3000, (4, 5, 6)).astype(np.uint16)
    valid = np.ones((5, 6), bool)
    baseline, superres = Predictor(None, Infrared(), normalisation), Predictor(Mean(), Infrared(), normalisation)
    assert baseline.bands == COMPOSITE_BANDS
    mean, std = (np.full((4, 1, 1), normalisation[key][0], np.float32) for key in ("mean", "std"))
    training_input = superres_chips.super_resolve(dn, None, mean, std, channels=4)
    for predictor in (baseline, superres):
        scores = predictor.probability(dn, valid).numpy()
        assert scores.shape == (1, 50, 60)
        assert scores[0] * 0.05 + 0.1 == pytest.approx(training_input[3] * 1e-4, abs=6e-5)
