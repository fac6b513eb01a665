"""File name patterns of reference products: years, tile corners, and the tiles that cover an extent."""

import pytest

from jointseg.config.product_filenames import compile_pattern, pattern_errors, tile_patterns

NANJING = [(118.3, 31.2, 119.3, 32.6)]
TILE_CORNER = [(114.9, 29.9, 115.1, 30.1)]


def entry(pattern: str, degrees: float, corner: str = "north-west") -> dict:
    return {"pattern": pattern, "tile_deg": degrees, "tile_corner": corner}


@pytest.mark.parametrize(
    ("product", "boxes", "names"),
    [
        (
            entry("ESA_WorldCover_10m_{year}_v200_{N30}{E117}_Map.tif", 3, "south-west"),
            [(5.5, -0.5, 6.5, 0.5)],
            [
                *("ESA_WorldCover_10m_2021_v200_S03E003_Map.tif", "ESA_WorldCover_10m_2021_v200_S03E006_Map.tif"),
                *("ESA_WorldCover_10m_2021_v200_N00E003_Map.tif", "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"),
            ],
        ),
        (entry("GISA_v01_1972_2019_{30N}_{115E}.tif", 5), NANJING, ["GISA_v01_1972_2019_35N_115E.tif"]),
        (entry("GISA-10m_{30N}_{115E}.tif", 5), [(91, 36, 92, 37)], ["GISA-10m_40N_90E.tif"]),
        (
            entry("GISD30_1985-2020_{E115}{N35}.tif", 5),
            TILE_CORNER,
            [f"GISD30_1985-2020_E{lon}N{lat}.tif" for lat in (30, 35) for lon in (110, 115)],
        ),
        (entry("GAIA_1985_2018_{30}_{115}.tif", 1), [(-73.9, 45.2, -73.1, 45.9)], ["GAIA_1985_2018_46_-074.tif"]),
    ],
)
def test_tile_names_follow_the_pattern_of_the_publisher(product: dict, boxes: list, names: list[str]) -> None:
    assert tile_patterns(product, 2021, boxes) == names
    assert all(compile_pattern(product["pattern"], 2021).fullmatch(name) for name in names)
    assert not pattern_errors(product["pattern"], product["tile_deg"])


def test_pattern_matches_one_year_or_any_year() -> None:
    pattern = "*_{year}0101-*.tif"
    assert compile_pattern(pattern, 2021).fullmatch("50R_20210101-20220101.tif")
    assert not compile_pattern(pattern, 2020).fullmatch("50R_20210101-20220101.tif")
    assert compile_pattern(pattern).fullmatch("50R_20190101-20200101.tif")["year"] == "2019"
    assert not compile_pattern("ESA_*_{N30}{E117}_Map.tif").fullmatch("ESA_2021_30N117E_Map.tif")


@pytest.mark.parametrize(
    ("pattern", "degrees", "message"),
    [
        ("a_{lat}.tif", None, "{lat} in the pattern is neither"),
        ("a_{N30}.tif", 3.0, "one latitude and one longitude"),
        ("a_{N30}{E117}.tif", None, "require each other"),
        ("a_*.tif", 3.0, "require each other"),
    ],
)
def test_invalid_pattern_is_reported(pattern: str, degrees: float | None, message: str) -> None:
    assert any(message in error for error in pattern_errors(pattern, degrees))
