"""Dates merged to 5 m pixels: what they gain, whom they follow, and how they are chosen."""

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
PLACES = [(0.0, 0.0), (5.0, 0.0), (0.0, -5.0), (5.0, -5.0)]  # of dates, m east and south
PAD = 100


def ground(side_m=800, seed=0):
    """Reflectance x 10000 of a town at 1 m, float [side, side]."""
    rng = np.random.default_rng(seed)
    field = zoom(rng.random((side_m // 8, side_m // 8)), 8, order=0)
    return 800 + 2000 * (field > 0.7) + 200 * gaussian_filter(rng.standard_normal(field.shape), 15)


def look(fine, east, south, side):
    """The 10 m pixels of a date that lies `east`, `south` metres off, uint16 [side + 8, side + 8], 4 around the tile."""
    at = PAD + 10 * np.arange(-4, side + 4) + 4.5
    points = np.meshgrid(at + south, at + east, indexing="ij")
    seen = map_coordinates(gaussian_filter(fine, BLUR_M), points, order=1)
    noise = np.random.default_rng(round(1000 + 7 * east + 13 * south)).normal(0, 3, seen.shape)
    return np.rint(seen + noise).astype(np.uint16)


def dates(places):
    return [Date((n,), place, 1.0, 1.0) for n, place in enumerate(places)]


def stack_of(fine, places, side):
    return np.stack([np.repeat(look(fine, *place, side)[None, 2:-2, 2:-2], 3, axis=0) for place in places])


def as_5m(made):
    """[12, rows, columns] -> the image of 5 m pixels of the first band."""
    nw, ne, sw, se = made.reshape(4, 3, *made.shape[1:])[:, 0].astype(float)
    out = np.empty((2 * nw.shape[0], 2 * nw.shape[1]))
    out[::2, ::2], out[::2, 1::2], out[1::2, ::2], out[1::2, 1::2] = nw, ne, sw, se
    return out


def error(made, fine):
    """Root mean square difference to the true ground at 5 m, blurred as what is estimated."""
    side = made.shape[-1]
    true = gaussian_filter(fine, merge_frames.FINE_BLUR_M)
    at = PAD + 5 * np.arange(2 * side) + 2
    return float(np.sqrt(np.mean((as_5m(made) - true[np.ix_(at, at)]) ** 2)))


def test_dates_that_lie_elsewhere_tell_more_than_as_many_that_lie_alike():
    fine, side = ground(), 56
    one = merge_frames.merge_dates(stack_of(fine, PLACES[:1], side), dates(PLACES[:1]))
    same = merge_frames.merge_dates(stack_of(fine, PLACES[:1] * 4, side), dates(PLACES[:1] * 4))
    four = merge_frames.merge_dates(stack_of(fine, PLACES, side), dates(PLACES))
    assert error(four, fine) < 0.75 * error(same, fine)
    assert error(same, fine) <= error(one, fine)


def test_a_date_in_the_wrong_place_spoils_the_estimate():
    """So the places do count: swapped, the same images tell less than one of them."""
    fine, side = ground(), 56
    stack = stack_of(fine, PLACES, side)
    right = error(merge_frames.merge_dates(stack, dates(PLACES)), fine)
    assert error(merge_frames.merge_dates(stack[::-1], dates(PLACES)), fine) > 1.3 * right


@pytest.mark.parametrize("places", [PLACES, [(3.0, 1.0), (-2.5, -1.0)], PLACES[:1]])
def test_flat_ground_stays_flat_whatever_the_light_of_the_dates(places):
    stack = np.stack([np.full((3, 14, 12), 1000 + 40 * n, dtype=np.uint16) for n in range(len(places))])
    made = merge_frames.merge_dates(stack, dates(places))
    mean = 1000 + 20 * (len(places) - 1)
    assert made.dtype == np.uint16 and made.shape == (12, 10, 8)
    assert np.unique(made).tolist() == [mean]


def test_a_date_counts_only_where_all_around_is_clear_and_the_cut_changes_nothing():
    fine, side = ground(), 40
    stack = stack_of(fine, PLACES, side)
    stack[0, :, 20, 20] = 0
    stack[:, :, 5:12, 30:] = 0
    made = merge_frames.merge_dates(stack, dates(PLACES))
    assert (made[:, 4:11, 29:] == 0).sum() == 12 * 7 * 11 and (made[:, 14:, :] > 0).all()
    others = merge_frames.merge_dates(stack[1:], dates(PLACES)[1:])
    assert (made[:, 16:21, 16:21] == others[:, 16:21, 16:21]).all()
    parts = [merge_frames.merge_dates(stack[:, :, top : top + 14], dates(PLACES)) for top in range(0, side, 10)]
    assert (np.concatenate(parts, axis=1) == made).all()


def test_the_best_dates_are_clear_and_lie_apart():
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


def archive(folder, places, clouded=()):
    """One scene a place, of the same ground, and the scene list; the list is frozen."""
    fine = ground(10 * SIDE + 2 * PAD + 100)
    for number, (east, south) in enumerate(places):
        seen = look(fine, east, south, SIDE)[4:-4, 4:-4] + np.uint16(1000)
        mask = scl()[0].copy()
        if number in clouded:
            mask[:10, :25] = 9
        item(
            folder / "archive",
            f"date{number}",
            dict.fromkeys(BANDS, seen) | {"SCL": (mask, {"res_m": 20})},
            when=f"2021-0{5 + number}-01T02:50:00Z",
            **{"sat:relative_orbit": 1},
        )
    catalogue(folder / "archive")
    scenes(scenes=folder / "list.json", archive=folder / "archive", **listing())
    return fine


def made(folder, name, **changes):
    return composite(
        scenes=folder / "list.json",
        composite=folder / f"{name}.tif",
        archive=folder / "archive",
        **compositing(coregister=True, **changes),
    )


def test_the_step_writes_merged_dates_beside_the_same_composite(tmp_path):
    """From files to 5 m pixels: the shifts are those that registration finds."""
    places = [(-2.5, -2.5), (2.5, -2.5), (-2.5, 2.5), (2.5, 2.5)]
    fine = archive(tmp_path, places, clouded=[1])
    without = made(tmp_path, "without")
    facts = made(tmp_path, "with", merged=tmp_path / "merged.tif", merged_dates=3)
    assert (tmp_path / "with.tif").read_bytes() == (tmp_path / "without.tif").read_bytes()
    assert {key: facts[key] for key in without} == without
    assert len(facts["dates"]) == 3 and 0.9 < facts["merged_fraction"] < 1
    told = {each["scenes"][0]: each for each in facts["dates"]}
    for name, each in told.items():
        east, south = places[int(name[4:])]
        assert np.abs(np.array(each["offset_m"]) - [east, south]).max() < 0.5
        assert each["clear_share"] == pytest.approx(0.9 if name == "date1" else 1.0, abs=0.06)
    with rasterio.open(tmp_path / "merged.tif") as source:
        assert source.descriptions == MERGED_BANDS and source.nodata == 0 and source.shape == (SIDE, SIDE)
        assert json.loads(source.tags()["dates"]) == facts["dates"] and source.tags()["tile"] == TILE
    image = read(tmp_path / "merged.tif")[0]
    assert (image[:, :2] == 0).all() and (image[:, 2:-3, 2:-3] > 0).all()
    true = gaussian_filter(fine, merge_frames.FINE_BLUR_M)
    at = PAD + 5 * np.arange(2 * SIDE) + 2
    here = np.s_[50:-20, 50:-20]
    coarse = read(tmp_path / "with.tif")[0][0].astype(float)
    from_composite = map_coordinates(
        coarse, np.meshgrid(*[(np.arange(2 * SIDE) - 0.5) / 2] * 2, indexing="ij"), order=3
    )
    off = [
        np.corrcoef(each[here].ravel(), true[np.ix_(at, at)][here].ravel())[0, 1]
        for each in (as_5m(image), from_composite)
    ]
    assert 1 - off[0] < 0.8 * (1 - off[1])
    again = made(tmp_path, "again", merged=tmp_path / "again_merged.tif", merged_dates=3)
    assert again == facts
    assert (tmp_path / "again_merged.tif").read_bytes() == (tmp_path / "merged.tif").read_bytes()


def test_dates_that_cannot_be_registered_are_not_merged(tmp_path, caplog):
    """Flat ground has no texture: nothing is known of its dates' places."""
    for number in range(2):
        flat = np.full((SIDE, SIDE), 2000, dtype=np.uint16)
        assets = dict.fromkeys(BANDS, flat) | {"SCL": scl()}
        item(tmp_path / "archive", f"date{number}", assets, when=f"2021-0{5 + number}-01T02:50:00Z")
    catalogue(tmp_path / "archive")
    scenes(scenes=tmp_path / "list.json", archive=tmp_path / "archive", **listing())
    facts = made(tmp_path, "out", merged=tmp_path / "merged.tif", merged_dates=2)
    assert facts["dates"] == [] and facts["merged_fraction"] == 0
    assert not read(tmp_path / "merged.tif")[0].any()
    assert "nothing is merged" in caplog.text


def test_dates_need_red_green_and_blue(tmp_path):
    archive(tmp_path, PLACES[:2])
    with pytest.raises(DataError, match="lack B02"):
        made(tmp_path, "out", merged=tmp_path / "merged.tif", merged_dates=2, bands=["B04", "B03"])
