"""Patch detection, slopes, and a map aggregated to coarser pixels."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from jointseg.accuracy.block_counts import Block, common_grid
from jointseg.accuracy.coarse_support import ProductPixels
from jointseg.accuracy.object_detection import patch_counts
from jointseg.accuracy.slope import horn_degrees, slope_zones
from jointseg.raster import cog


def patches(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    plane = np.zeros((200, 200), np.uint8)
    for top, left, height, width in boxes:
        plane[top : top + height, left : left + width] = 1
    return plane


def test_patches_are_detected_from_half_of_their_area() -> None:
    real = patches((10, 10, 10, 10), (10, 50, 10, 10), (10, 90, 10, 10), (50, 10, 20, 20), (0, 150, 10, 10))
    half = patches((10, 10, 5, 10), (10, 50, 4, 10), (50, 10, 20, 20), (100, 100, 10, 10), (120, 120, 40, 40))
    steep = np.zeros(real.shape, bool)
    steep[:, :40] = True
    found = {row.pop("domain"): row for row in patch_counts(half, real, {"steep": steep})}
    # Of three small patches one is mapped by half, one by less, one not at all; one at the edge is left out; one is false.
    assert found["patches below 200 m2"] == {"tp": 1, "fp": 1, "fn": 2, "tn": 0, "nodata": 0}
    assert found["patches below 200 m2, steep"] == {"tp": 1, "fp": 0, "fn": 0, "tn": 0, "nodata": 0}
    assert found["patches of 200 to 2000 m2"] == {"tp": 1, "fp": 1, "fn": 0, "tn": 0, "nodata": 0}


def test_patch_next_to_nodata_is_left_out() -> None:
    real = patches((10, 10, 10, 10), (50, 50, 10, 10))
    mapped = real.copy()
    mapped[10:20, 20:30] = 255
    found = patch_counts(mapped, real, {})[0]
    assert (found["tp"], found["fn"], found["nodata"]) == (1, 0, 100)
    assert patch_counts(patches(), patches(), {})[0]["tp"] == 0


@given(st.floats(0, 60), st.floats(0, 6.28))
@settings(max_examples=30, deadline=None)
def test_slope_of_a_plane(degrees: float, direction: float) -> None:
    y, x = np.indices((8, 9)) * 30.0
    plane = np.tan(np.radians(degrees)) * (x * np.cos(direction) + y * np.sin(direction))
    assert horn_degrees(plane, 30) == pytest.approx(np.full((6, 7), degrees), abs=1e-6)


def test_slope_zones_of_a_geographic_model_and_its_edge(tmp_path: Path) -> None:
    """A slope of 10 degrees to the east; the model ends in the middle of the grid."""
    to_lonlat = Transformer.from_crs(32650, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(500_000, 3_548_000)
    step = 1 / 3600
    metres = np.arange(60) * step * 111_320 * np.cos(np.radians(lat))
    rise = np.tile(metres * np.tan(np.radians(10)), (60, 1)).astype(np.float32)
    win_window = Affine(step, 0, lon - 60 * step, 0, -step, lat + 30 * step)
    cog.write(tmp_path / "dem.tif", rise[None], crs="EPSG:4326", transform=win_window, nodata=np.nan)
    zones = slope_zones(tmp_path / "dem.tif", "EPSG:32650", Affine(1, 0, 499_500, 0, -1, 3_548_200), (300, 900))
    middle = zones["slope 5 to 15°"]
    assert middle[:, :380].all() and not middle[:, 560:].any()
    assert not zones["slope below 5°"][:, :380].any() and not any(zone[:, 600:].any() for zone in zones.values())


@pytest.mark.parametrize("crs", ["EPSG:4326", "ESRI:54009", "EPSG:32651"])
def test_map_pixels_are_counted_in_the_product_pixel_of_their_centre(crs: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    plane = rng.choice(np.array([0, 1, 255], np.uint8), (330, 270))
    transform = Affine(1, 0, 660_123, 0, -1, 3_541_000)
    cog.write(tmp_path / "map.tif", plane[None], crs="EPSG:32650", transform=transform, nodata=255)
    to = Transformer.from_crs(32650, crs, always_xy=True)
    x, y = to.transform(660_100, 3_541_050)
    step = 30 / 111_320 if crs == "EPSG:4326" else 30
    product_transform = Affine(step, 0, x - 3 * step, 0, -step, y + 4 * step)
    cog.write(tmp_path / "product.tif", np.zeros((1, 40, 14), np.uint8), crs=crs, transform=product_transform)
    pixels = ProductPixels(tmp_path / "product.tif", common_grid([tmp_path / "map.tif"]))
    for top in (0, 130):
        part = plane[top : top + 130] if top == 0 else plane[top:]
        pixels.add(pixels.count_block(Block(top, 0, [part], transform @ Affine.translation(0, top), 1.0)))
    rows, cols = np.indices(plane.shape)
    east, north = transform @ np.stack([cols.ravel() + 0.5, rows.ravel() + 0.5])
    col, row = np.floor(~product_transform @ np.stack(to.transform(east, north))).astype(int)
    inside = (row >= 0) & (row < 40) & (col >= 0) & (col < 14)
    valid, isa = np.zeros((40, 14), int), np.zeros((40, 14), int)
    np.add.at(valid, (row[inside], col[inside]), (plane.ravel() != 255)[inside])
    np.add.at(isa, (row[inside], col[inside]), (plane.ravel() == 1)[inside])
    window = pixels.window
    in_window = np.s_[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width]
    assert valid.sum() == valid[in_window].sum() > 1000
    # Rounding of the projection can move a centre across a pixel border.
    assert (
        np.abs(pixels.valid.astype(int) - valid[in_window]).sum() <= 2
        and np.abs(pixels.isa.astype(int) - isa[in_window]).sum() <= 2
    )
