"""Inclusion probabilities: candidates of the lattice, and 2,000 draws against their stated probabilities."""

from pathlib import Path

import numpy as np
import pytest
from support.sampling_inputs import BORDER, NORTH, SOUTH, area_and_design

from jointseg.area import grid
from jointseg.dataset.candidates import (
    Lattice,
    border_width_m,
    draw_candidates,
    lattice_candidates,
    near_border,
    retaining_zones,
)
from jointseg.dataset.sampling_area import SamplingArea
from jointseg.dataset.two_phase_sampling import draw_sample, plan_sampling


@pytest.mark.parametrize("lattice", [Lattice(30, 10), Lattice(40, 30), Lattice(20, 60)])
def test_positions_are_candidates_with_the_probability_of_the_lattice(lattice: Lattice) -> None:
    """1,600 positions, 6,000 draws: the counts are binomial; all are within 5 standard deviations."""
    draws = 6000
    counts = np.zeros((40, 40))
    for seed in range(draws):
        x, y = lattice_candidates(lattice, seed, 50, (0, 0, 400, 400))
        inside = (x >= 0) & (x < 400) & (y >= 0) & (y < 400)
        np.add.at(counts, (y[inside] // 10, x[inside] // 10), 1)
        apart = np.maximum(np.abs(x[:, None] - x[None]), np.abs(y[:, None] - y[None]))
        np.fill_diagonal(apart, 10_000)
        assert apart.min() >= lattice.gap_m
    p = 100 / lattice.pitch_m**2
    z = (counts - draws * p) / np.sqrt(draws * p * (1 - p))
    assert np.abs(z).max() < 5
    assert np.abs(z.mean()) * 40 < 4 * max(1, lattice.pitch_m / 10)


def regions(lon: np.ndarray, lat: np.ndarray, border: float) -> dict[str, np.ndarray]:
    """Return masks of regions, with strips beside the zone border and the edges of the reaches."""
    east = (lon - BORDER) * 94_500
    return {
        "all": lon > 0,
        "up": lon < 119.95,
        "beside the border, west": (east < 0) & (east > -border),
        "beside the border, east": (east >= 0) & (east < border),
        "across the edge of that strip": np.abs(east + border) < 300,
        "where reaches meet": np.abs(lon - 119.95) < 0.003,
        "edge of a reach": lon < 119.903,
        "south edge": lat < 31.953,
        "corner": (lon > 120.05) & (lat > 32.04),
        "one class": (lon - 119.88) % 0.03 < 0.004,
        "around the nodata hole": (np.abs(lon - 119.926) < 0.008) & (np.abs(lat - 32.004) < 0.008),
    }


def region_areas(population: SamplingArea, border: float) -> dict[str, float]:
    """Return the area of each region within the population, m2, from all positions."""
    area = dict.fromkeys(regions(np.zeros(1), np.zeros(1), border), 0.0)
    for zone in population.zones:
        west, south, east, north = population.extent(zone)
        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(west, east, 10), np.arange(south, north, 10)))
        part = population.locate(zone, x, y)
        for name, selected in regions(part.lon, part.lat, border).items():
            area[name] += 100.0 * selected.sum()
    return area


def position_fractions(
    population: SamplingArea, lon: np.ndarray, lat: np.ndarray
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Return points in the coordinates of each zone, and the fraction of the chip centres covering each in the population."""
    at, fraction = {}, np.zeros(len(lon))
    for zone in population.zones:
        to = grid.transformer("EPSG:4326", f"EPSG:{32600 + zone}")
        at[32600 + zone] = np.column_stack(to.transform(lon, lat))
        for i, (x, y) in enumerate(at[32600 + zone]):
            first = np.ceil((np.array([x, y]) - 160) / 10) * 10
            steps = np.arange(32, dtype=np.int64) * 10
            near = np.meshgrid(int(first[0]) + steps, int(first[1]) + steps)
            fraction[i] += len(population.locate(zone, near[0].ravel(), near[1].ravel())) / 1024
    return at, fraction


def test_estimates_of_2000_draws_are_unbiased(two_zones: dict[str, Path]) -> None:
    """Every draw has a new origin, jitter, border decision and order. Three allocations alternate.

    Double-expansion estimates of the area of regions agree with the area. For a point, the sum of 1 / probability over
    the chips that cover it estimates the fraction of the positions around it that are in the population.
    """
    draws = 2000
    designs = []
    for allocation in ("equal", "neyman", "proportional"):
        population, design = area_and_design(two_zones, points=44, replacement_fraction=0.2, allocation=allocation)
        designs.append((design, plan_sampling(population, design)))
    border = border_width_m(design.spacing_m, design.chip_m)
    area = region_areas(population, border)
    rng = np.random.default_rng(0)
    point_lon = np.concatenate([rng.uniform(119.897, 120.063, 60), BORDER + rng.uniform(-0.006, 0.006, 60)])
    point_lat = rng.uniform(SOUTH - 0.002, NORTH + 0.002, 120)
    at, fraction = position_fractions(population, point_lon, point_lat)

    areas = {name: np.zeros(draws) for name in area}
    covering = np.zeros((draws, 120))
    for seed in range(draws):
        table, facts = draw_sample(population, *designs[seed % 3], seed)
        assert sum(row["allocated"] for row in facts) == 44
        main = table[~table["replacement"].to_numpy()]
        weight = 1 / main["inclusion_probability"].to_numpy()
        centre = main[["minx", "miny"]].to_numpy() + 160
        epsg = main["epsg"].to_numpy()
        for name, selected in regions(main.geometry.x.to_numpy(), main.geometry.y.to_numpy(), border).items():
            areas[name][seed] = design.chip_m**2 * weight[selected].sum()
        for code, points in at.items():
            selected = epsg == code
            hit = (np.abs(points[:, None] - centre[selected][None]) < 160).all(axis=2)
            assert hit.sum(axis=1).max(initial=0) <= 1
            covering[seed] += hit @ weight[selected]
    for name, values in areas.items():
        se = values.std(ddof=1) / draws**0.5
        assert abs(values.mean() - area[name]) < 4 * se, name
        assert se < 0.12 * area[name], name
    se = covering.std(axis=0, ddof=1) / draws**0.5
    assert (covering[:, fraction == 0] == 0).all()
    inside = fraction > 0.2  # means over few covering draws are not normal
    z = (covering.mean(axis=0) - fraction)[inside] / se[inside]
    assert np.abs(z).max() < 4
    assert abs(z.mean()) < 0.4
    assert ((fraction > 0.2) & (fraction < 0.8)).sum() >= 3 and (fraction > 0.99).sum() >= 90


def test_one_zone_keeps_its_candidates_at_a_border(two_zones: dict[str, Path]) -> None:
    population, design = area_and_design(two_zones)
    border = border_width_m(400, 320)
    retained = set()
    for seed in range(12):
        found, factor = draw_candidates(population, plan_sampling(population, design).lattice, border, seed)
        ((pair, zone),) = retaining_zones(population.zones, seed).items()
        assert pair == (50, 51)
        near = near_border(pair, found.lon, found.lat, border)
        assert set(found.epsg[near]) == {32600 + zone}
        assert (factor == np.where(near, 0.5, 1)).all()
        retained.add(zone)
    assert retained == {50, 51}
