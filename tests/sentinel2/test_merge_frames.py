"""Merging dates to 5 m pixels: gain in resolution, use of the offsets, selection of dates."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from support.tiny_sentinel2 import SIDE, TILE, catalogue, compositing, item, listing, scl

from jointseg.raster.bands import MERGED_BANDS
from jointseg.raster.io import read
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import merge_frames
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.merge_frames import BLUR_M, Date
from jointseg.sentinel2.scenes import scenes

BANDS = ["B04", "B03", "B02"]
OFFSETS = [(0.0, 0.0), (5.0, 0.0), (0.0, -5.0), (5.0, -5.0)]  # of dates, m east and south
PAD = 100


def surface(side_m=800, seed=0):
    """Return reflectance x 10000 of a town at 1 m, float [side, side]."""
    rng = np.random.default_rng(seed)
    field = zoom(rng.random((side_m // 8, side_m // 8)), 8, order=0)
    return 800 + 2000 * (field > 0.7) + 200 * gaussian_filter(rng.standard_normal(field.shape), 15)


def simulate_date(fine, east, south, side):
    """Return the 10 m pixels of a date with an offset in metres, uint16 [side + 8, side + 8], with a halo of 4."""
    at = PAD + 10 * np.arange(-4, side + 4) + 4.5
    points = np.meshgrid(at + south, at + east, indexing="ij")
    pixels = map_coordinates(gaussian_filter(fine, BLUR_M), points, order=1)
    noise = np.random.default_rng(round(1000 + 7 * east + 13 * south)).normal(0, 3, pixels.shape)
    return np.rint(pixels + noise).astype(np.uint16)


def dates(offsets):
    return [Date((n,), offset, 1.0, 1.0) for n, offset in enumerate(offsets)]


def stack_of(fine, offsets, side):
    return np.stack([np.repeat(simulate_date(fine, *offset, side)[None, 2:-2, 2:-2], 3, axis=0) for offset in offsets])


def as_5m(merged):
    """Return the image of 5 m pixels of the first band of [12, rows, columns]."""
    nw, ne, sw, se = merged.reshape(4, 3, *merged.shape[1:])[:, 0].astype(float)
    out = np.empty((2 * nw.shape[0], 2 * nw.shape[1]))
    out[::2, ::2], out[::2, 1::2], out[1::2, ::2], out[1::2, 1::2] = nw, ne, sw, se
    return out


def error(merged, fine):
    """Return the RMSE against the true surface at 5 m with the blur of the estimate."""
    side = merged.shape[-1]
    true = gaussian_filter(fine, merge_frames.FINE_BLUR_M)
    at = PAD + 5 * np.arange(2 * side) + 2
    return float(np.sqrt(np.mean((as_5m(merged) - true[np.ix_(at, at)]) ** 2)))


def test_dates_with_different_shifts_have_less_error_than_equal_ones():
    fine, side = surface(), 56
    one = merge_frames.merge_dates(stack_of(fine, OFFSETS[:1], side), dates(OFFSETS[:1]))
    same = merge_frames.merge_dates(stack_of(fine, OFFSETS[:1] * 4, side), dates(OFFSETS[:1] * 4))
    four = merge_frames.merge_dates(stack_of(fine, OFFSETS, side), dates(OFFSETS))
    assert error(four, fine) < 0.75 * error(same, fine)
    assert error(same, fine) <= error(one, fine)


def test_wrong_offsets_increase_the_error():
    """With swapped offsets the error is larger than with the correct ones."""
    fine, side = surface(), 56
    stack = stack_of(fine, OFFSETS, side)
    right = error(merge_frames.merge_dates(stack, dates(OFFSETS)), fine)
    assert error(merge_frames.merge_dates(stack[::-1], dates(OFFSETS)), fine) > 1.3 * right


@pytest.mark.parametrize("offsets", [OFFSETS, [(3.0, 1.0), (-2.5, -1.0)], OFFSETS[:1]])
def test_flat_surface_stays_flat_for_dates_of_different_brightness(offsets):
    stack = np.stack([np.full((3, 14, 12), 1000 + 40 * n, dtype=np.uint16) for n in range(len(offsets))])
    merged = merge_frames.merge_dates(stack, dates(offsets))
    mean = 1000 + 20 * (len(offsets) - 1)
    assert merged.dtype == np.uint16 and merged.shape == (12, 10, 8)
    assert np.unique(merged).tolist() == [mean]


def test_date_is_used_where_its_neighbourhood_is_clear_independent_of_strips():
    fine, side = surface(), 40
    stack = stack_of(fine, OFFSETS, side)
    stack[0, :, 20, 20] = 0
    stack[:, :, 5:12, 30:] = 0
    merged = merge_frames.merge_dates(stack, dates(OFFSETS))
    assert (merged[:, 4:11, 29:] == 0).sum() == 12 * 7 * 11 and (merged[:, 14:, :] > 0).all()
    others = merge_frames.merge_dates(stack[1:], dates(OFFSETS)[1:])
    assert (merged[:, 16:21, 16:21] == others[:, 16:21, 16:21]).all()
    parts = [merge_frames.merge_dates(stack[:, :, top : top + 14], dates(OFFSETS)) for top in range(0, side, 10)]
    assert (np.concatenate(parts, axis=1) == merged).all()


def test_selected_dates_are_clear_and_have_different_shifts():
    every = [
        Date((0,), (0.0, 0.0), 0.9, 0.9),
        Date((1,), (0.2, 0.0), 1.0, 0.9),
        Date((2,), (5.0, 5.0), 0.8, 0.9),
        Date((3,), (5.0, 0.0), 1.0, 0.0),
        Date((4,), (0.3, 0.0), 0.95, 0.9),
        Date((5,), (5.0, 0.0), 0.0, 0.9),
    ]
    assert [date.scenes for date in merge_frames.select_dates(every, 2)] == [(1,), (2,)]
    assert {date.scenes[0] for date in merge_frames.select_dates(every, 8)} == {0, 1, 2, 4}
    alike = [replace(every[1], scenes=(n,)) for n in range(3)]
    assert [date.scenes for date in merge_frames.select_dates(alike, 3)] == [(0,), (1,), (2,)]


def write_archive(folder, offsets, clouded=()):
    """Write one scene per offset, of the same surface, and the scene list."""
    fine = surface(10 * SIDE + 2 * PAD + 100)
    for number, (east, south) in enumerate(offsets):
        pixels = simulate_date(fine, east, south, SIDE)[4:-4, 4:-4] + np.uint16(1000)
        mask = scl()[0].copy()
        if number in clouded:
            mask[:10, :25] = 9
        item(
            folder / "archive",
            f"date{number}",
            dict.fromkeys(BANDS, pixels) | {"SCL": (mask, {"res_m": 20})},
            when=f"2021-0{5 + number}-01T02:50:00Z",
            **{"sat:relative_orbit": 1},
        )
    catalogue(folder / "archive")
    scenes(scenes=folder / "list.json", archive=folder / "archive", **listing())
    return fine


def build(folder, name, **changes):
    return composite(
        scenes=folder / "list.json",
        composite=folder / f"{name}.tif",
        archive=folder / "archive",
        **compositing(coregister=True, **changes),
    )


def test_step_writes_merged_dates_without_changing_the_composite(tmp_path):
    """From files to 5 m pixels, with the shifts of the registration."""
    offsets = [(-2.5, -2.5), (2.5, -2.5), (-2.5, 2.5), (2.5, 2.5)]
    fine = write_archive(tmp_path, offsets, clouded=[1])
    without = build(tmp_path, "without")
    facts = build(tmp_path, "with", merged=tmp_path / "merged.tif", merged_dates=3)
    assert (tmp_path / "with.tif").read_bytes() == (tmp_path / "without.tif").read_bytes()
    assert {key: facts[key] for key in without} == without
    assert len(facts["dates"]) == 3 and 0.9 < facts["merged_fraction"] < 1
    records = {each["scenes"][0]: each for each in facts["dates"]}
    for name, each in records.items():
        east, south = offsets[int(name[4:])]
        assert np.abs(np.array(each["offset_m"]) - [east, south]).max() < 0.5
        assert each["clear_share"] == pytest.approx(0.9 if name == "date1" else 1.0, abs=0.06)
    with rasterio.open(tmp_path / "merged.tif") as source:
        assert source.descriptions == MERGED_BANDS and source.nodata == 0 and source.shape == (SIDE, SIDE)
        assert json.loads(source.tags()["dates"]) == facts["dates"] and source.tags()["tile"] == TILE
    image = read(tmp_path / "merged.tif")[0]
    assert (image[:, :2] == 0).all() and (image[:, 2:-3, 2:-3] > 0).all()
    true = gaussian_filter(fine, merge_frames.FINE_BLUR_M)
    at = PAD + 5 * np.arange(2 * SIDE) + 2
    inner = np.s_[50:-20, 50:-20]
    coarse = read(tmp_path / "with.tif")[0][0].astype(float)
    from_composite = map_coordinates(
        coarse, np.meshgrid(*[(np.arange(2 * SIDE) - 0.5) / 2] * 2, indexing="ij"), order=3
    )
    off = [
        np.corrcoef(each[inner].ravel(), true[np.ix_(at, at)][inner].ravel())[0, 1]
        for each in (as_5m(image), from_composite)
    ]
    assert 1 - off[0] < 0.8 * (1 - off[1])
    again = build(tmp_path, "again", merged=tmp_path / "again_merged.tif", merged_dates=3)
    assert again == facts
    assert (tmp_path / "again_merged.tif").read_bytes() == (tmp_path / "merged.tif").read_bytes()


def test_unregistered_dates_are_not_merged(tmp_path, caplog):
    """A flat surface has no texture: its dates cannot be registered."""
    for number in range(2):
        flat = np.full((SIDE, SIDE), 2000, dtype=np.uint16)
        assets = dict.fromkeys(BANDS, flat) | {"SCL": scl()}
        item(tmp_path / "archive", f"date{number}", assets, when=f"2021-0{5 + number}-01T02:50:00Z")
    catalogue(tmp_path / "archive")
    scenes(scenes=tmp_path / "list.json", archive=tmp_path / "archive", **listing())
    facts = build(tmp_path, "out", merged=tmp_path / "merged.tif", merged_dates=2)
    assert facts["dates"] == [] and facts["merged_fraction"] == 0
    assert not read(tmp_path / "merged.tif")[0].any()
    assert "no dates are merged" in caplog.text


def test_merging_requires_red_green_and_blue(tmp_path):
    write_archive(tmp_path, OFFSETS[:2])
    with pytest.raises(DataError, match="add B02 to bands"):
        build(tmp_path, "out", merged=tmp_path / "merged.tif", merged_dates=2, bands=["B04", "B03"])
