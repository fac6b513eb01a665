"""The preview selects a square with urban and rural land, and shows the super-resolved image."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.image import imread
from support.tiny_networks import GENERATOR

from jointseg.area.grid import parse_tile
from jointseg.inference.preview import percentile_limits, preview, select_square
from jointseg.models import checkpoint
from jointseg.raster import cog
from jointseg.raster import io as raster_io

TILE = parse_tile("50N_E0660_N3540", 1)


def isa_map(path: Path, values: np.ndarray) -> Path:
    cog.write(path, values[None], crs=TILE.crs, transform=TILE.transform(1), nodata=255)
    return path


def test_square_has_the_isa_fraction_closest_to_forty_percent(tmp_path: Path) -> None:
    values = np.zeros((1000, 1000), np.uint8)
    values[600:680, 300:400] = 1  # 20 % of 200 m squares that contain it
    path = isa_map(tmp_path / "isa.tif", values)
    bounds, fraction = select_square(path, TILE.bounds, 200)
    assert fraction is not None and abs(fraction - 0.2) < 1e-9
    values[680:760, 300:400] = 1
    bounds, fraction = select_square(isa_map(path, values), TILE.bounds, 200)
    assert fraction == 0.4
    left, top = bounds[0] - 660_000, 3_541_000 - bounds[3]
    assert (values[top : top + 200, left : left + 200] == 1).mean() == 0.4


def test_tile_of_nodata_has_no_fraction(tmp_path: Path) -> None:
    path = isa_map(tmp_path / "isa.tif", np.full((1000, 1000), 255, np.uint8))
    assert select_square(path, TILE.bounds, 300) == ((660_000, 3_540_700, 660_300, 3_541_000), None)


def test_stretch_of_nodata_is_finite() -> None:
    low, high = percentile_limits(np.zeros((3, 4, 4), np.uint16))
    assert (high > low).all()


def test_preview_is_the_super_resolved_image_and_deterministic(tmp_path: Path) -> None:
    torch.manual_seed(0)
    normalisation = {"mean": [0.1, 0.1, 0.08], "std": [0.05, 0.04, 0.03]}
    model = checkpoint.build("prog_esrgan", **GENERATOR)
    checkpoint.save(
        tmp_path / "sr.safetensors",
        model,
        architecture={"name": "prog_esrgan", "kwargs": GENERATOR},
        normalisation=normalisation,
        extra={},
    )
    rng = np.random.default_rng(0)
    dn = rng.integers(500, 2000, (4, 100, 100)).astype(np.uint16)
    dn[:, 40:50, 40:50] = 0
    cog.write(
        tmp_path / f"{TILE.id}.tif",
        dn,
        crs=TILE.crs,
        transform=TILE.transform(10),
        nodata=0,
        descriptions=("B04", "B03", "B02", "clear"),
    )
    labels = rng.integers(0, 2, (1000, 1000)).astype(np.uint8)
    isa = isa_map(tmp_path / "isa.tif", labels)
    for name in ("a", "b"):
        facts = preview(
            composite=tmp_path / f"{TILE.id}.tif",
            superres=tmp_path / "sr.safetensors",
            isa=isa,
            rgb=tmp_path / f"{name}.tif",
            figure=tmp_path / f"{name}.png",
            year="2021",
            tile=TILE.id,
            tile_km=1,
            size_m=1280,
            window_m=480,
            stride_m=420,
            batch=2,
            threads=1,
        )
    assert facts["bounds_m"] == list(TILE.bounds)
    for suffix in (".tif", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    array, transform, _ = raster_io.read(tmp_path / "a.tif")
    assert array.shape == (3, 1000, 1000) and array.dtype == np.uint16 and transform == TILE.transform(1)
    valid = dn[3].repeat(10, axis=0).repeat(10, axis=1) > 0
    assert np.array_equal((array > 0).all(axis=0), valid) and np.array_equal((array > 0).any(axis=0), valid)
    # Away from the edges, which influence pixels through convolutions, it equals the network's output.
    mean, std = (torch.tensor(normalisation[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        x = (torch.from_numpy(dn[:3, 60:, :40].astype(np.float32)) * 1e-4 - mean) / std
        expected = ((model.eval()(x[None])[1][0] * std + mean) * 1e4).numpy()
    middle = slice(150, 250), slice(150, 250)
    assert np.abs(array[:, 750:850, 150:250] - expected[:, middle[0], middle[1]]).max() < 5
    assert imread(tmp_path / "a.png").shape[1] > 1000
