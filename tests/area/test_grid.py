"""Tiles, UTM zones, area scale and the mask of a zone's own strip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg.area import grid
from jointseg.runtime.errors import DataError


def test_tile_geometry():
    tile = grid.parse_tile("50N_E0660_N3540", 4)
    assert tile.crs == "EPSG:32650" and tile.bounds == (660_000, 3_540_000, 664_000, 3_544_000)
    assert tile.shape(10) == (400, 400) and tile.transform(10).f == 3_544_000


@given(st.integers(1, 60), st.booleans(), st.integers(100, 900), st.integers(0, 9300))
def test_tile_id_round_trip(zone, north, e_km, n_km):
    tile = grid.Tile(zone, north, e_km, n_km, 30)
    assert grid.parse_tile(tile.id, 30) == tile


@pytest.mark.parametrize("tile_id", ["50N", "61N_E0660_N3540", "50X_E0660_N3540", "50N_E0660_N3540.tif"])
def test_invalid_tile_id_is_an_error(tile_id):
    with pytest.raises(DataError, match="tile id"):
        grid.parse_tile(tile_id, 4)


def test_neighbours_are_the_eight_tiles_around():
    tile = grid.Tile(50, True, 660, 3540, 4)
    neighbours = grid.neighbours(tile)
    assert len(set(neighbours)) == 8 and tile not in neighbours
    assert {t.e_km for t in neighbours} == {656, 660, 664}


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"), [(117, 30, 32650), (114, 30, 32650), (113.999, 30, 32649), (-75.5, 37, 32618)]
)
def test_utm_zone(lon, lat, epsg):
    assert grid.utm_epsg(lon, lat) == epsg


def test_area_scale_against_geodesic_area():
    from pyproj import Geod

    for x in (500_000, 300_000, 750_000):
        y, side = 3_500_000, 200
        corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
        lon, lat = grid.transformer("EPSG:32650", "EPSG:4326").transform(*zip(*corners))
        geodesic, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
        assert side**2 / grid.area_scale(32650, x + side / 2, y + side / 2) == pytest.approx(abs(geodesic), rel=2e-6)


def test_every_point_belongs_to_one_zone():
    """Points around the edge of the zones 50 and 51."""
    lon, lat = 120.0, 31.0
    counts = np.zeros(9, int)
    offsets = np.linspace(-0.01, 0.01, 9) + 1e-5
    for epsg in (32650, 32651):
        for i, offset in enumerate(offsets):
            x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon + offset, lat)
            counts[i] += grid.own_zone_mask(epsg, grid.Affine(1, 0, x - 0.5, 0, -1, y + 0.5), (1, 1))[0, 0]
    assert (counts == 1).all()


@pytest.mark.parametrize(("lon", "zones"), [(102, (47, 48)), (108, (48, 49)), (114, (49, 50)), (120, (50, 51))])
@pytest.mark.parametrize(("lat", "res_m"), [(25, 10), (28.7, 10), (31.2, 1), (35, 10)])
def test_every_pixel_centre_belongs_to_one_zone(lon, zones, lat, res_m):
    """Pixel centres of both zones on both sides of a zone edge, in the masks of both zones."""
    epsgs = [32600 + zone for zone in zones]
    size = 60
    for epsg, other in (epsgs, epsgs[::-1]):
        x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon, lat)
        corner = grid.Affine(res_m, 0, x // res_m * res_m - size * res_m / 2, 0, -res_m, y // res_m * res_m)
        own = grid.own_zone_mask(epsg, corner, (size, size))
        assert 0.2 < own.mean() < 0.8
        rows, cols = np.indices(own.shape).reshape(2, -1)
        centres = np.stack(corner @ (cols + 0.5, rows + 0.5))
        projected = np.stack(grid.transformer(f"EPSG:{epsg}", f"EPSG:{other}").transform(*centres), axis=1)
        in_other = [
            grid.own_zone_mask(other, grid.Affine(1, 0, e - 0.5, 0, -1, n + 0.5), (1, 1))[0, 0] for e, n in projected
        ]
        assert (own.ravel() ^ np.array(in_other)).all()


@pytest.mark.parametrize("lon", [102, 108, 114, 120])
def test_point_on_the_zone_edge_belongs_to_the_eastern_zone(lon):
    for lat in np.linspace(24, 36, 25):
        epsg = grid.utm_epsg(lon, lat)
        for code, expected in ((epsg - 1, False), (epsg, True)):
            x, y = grid.transformer("EPSG:4326", f"EPSG:{code}").transform(lon, lat)
            assert grid.own_zone_mask(code, grid.Affine(1, 0, x - 0.5, 0, -1, y + 0.5), (1, 1))[0, 0] == expected


def test_mask_of_a_tile_outside_its_own_strip_is_empty():
    tile = grid.Tile(50, True, 150, 3450, 4)  # 113.3 E
    assert not grid.own_zone_mask(tile.epsg, tile.transform(10), tile.shape(10)).any()
