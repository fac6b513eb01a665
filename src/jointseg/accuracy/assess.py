"""Accuracy of maps and reference products on the test chips, by reach, with design-based 95 % intervals."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine

from jointseg.accuracy import accuracy_by_domain, cluster_estimators
from jointseg.accuracy.block_counts import only_classes
from jointseg.accuracy.cluster_estimators import CELLS, METRICS, UNKNOWN, Estimate
from jointseg.accuracy.object_detection import patch_cells
from jointseg.accuracy.reference_products import held_out
from jointseg.accuracy.slope import STEEP, slope_zones
from jointseg.accuracy.zones import zones
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import class_table, classify, nearest_year
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

ALL = accuracy_by_domain.ALL
_KEY = ["kind", "name", "reference"]


def assess(
    *,
    index: Path,
    chips: list[Path],
    predictions: list[Path],
    products: list[Path],
    table: Path,
    confusion: Path,
    paired: Path,
    parts: Path,
    methods: list[str],
    product_table: dict[str, dict[str, Any]],
    year: int,
    study_area: Path,
    dem: Path | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Scores every method and product on the test chips against the labels and, where given, the truth.

    Args:
        index: the dataset's index.
        chips: the chip folders of the reaches; labels are read from them.
        predictions: a folder of {sample_id}.tif (0/1/255) for each of methods, in their order.
        products: a folder of {sample_id}.tif (codes) for each of product_table, in its order.
        table: CSV to make, a row by map, reference and reach.
        confusion: CSV to make, pixel counts by map, reference and chip.
        paired: CSV to make, first method minus every other map on the same chips, on all ground and by domain.
        parts: CSV to make, a row by map, reference, domain (place, kind of ground or object) and reach.
        methods: names of the methods.
        product_table: name of each product -> its entry, with codes and year.
        year: year of the methods' maps and of the truth.
        study_area: GeoPackage with the layers `regions` and `cities`, which are domains.
        dem: elevation in metres, from which slopes are told.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.
    """
    if len(predictions) != len(methods) or len(products) != len(product_table):
        raise DataError(
            f"{len(predictions)} predictions for methods {methods} and {len(products)} product folders for"
            f" {list(product_table)}; give one folder each, in the same order"
        )
    tested, reaches = design(index)
    maps: list[tuple[str, str, Path, np.ndarray | None]]
    maps = [("method", name, folder, None) for name, folder in zip(methods, predictions)]
    shown = {name: nearest_year(entry, year) for name, entry in product_table.items()}
    maps += [
        ("product", name, folder, class_table(name, product_table[name], shown[name]))
        for name, folder in zip(product_table, products)
    ]
    supports = sorted({10} | {round(entry["resolution_m"]) for entry in product_table.values()} - {0, 1})

    rows: list[dict[str, Any]] = []
    inside: list[dict[str, Any]] = []
    lies_in = accuracy_by_domain.places(gpd.read_parquet(index, columns=["sample_id", "geometry"]), study_area)
    for chip in track(list(tested.itertuples()), "accuracy of chips", unit="chip"):
        expected_of = references(chip, chips, truth, year)
        masks = {name: mask for name, mask in _zones(chip, chips, expected_of["labels"]).items() if name != "all"}
        slopes = _slopes(chip, dem, expected_of["labels"].shape)
        for kind, name, folder, codes in maps:
            mapped = _mapped(folder / f"{chip.sample_id}.tif", name, codes, expected_of["labels"].shape)
            for reference, expected in expected_of.items():
                key = {"kind": kind, "name": name, "reference": reference, "sample_id": chip.sample_id}
                cells = dict(zip((*CELLS, "unknown"), cluster_estimators.cells(mapped, expected)))
                place = {"reach": chip.reach, "stratum": chip.group}
                apart = _fractions(mapped, expected, supports) | accuracy_by_domain.edge_cells(mapped, expected)
                rows.append({**key, **place, **cells, **apart})
                whole = [_density(chip.stratum), *lies_in[chip.sample_id]]
                inside += [{**key, "domain": name, **cells} for name in whole]
                inside += [key | each for each in accuracy_by_domain.zone_cells(mapped, expected, masks | slopes)]
                inside += [key | each for each in patch_cells(mapped, expected, _steep(slopes))]
    counts = pd.DataFrame(rows)
    counts["weight"] = counts["sample_id"].map(tested.set_index("sample_id")["weight"])
    save(_table(counts, supports, dict.fromkeys(methods, year) | shown, reaches), table)
    save(counts, confusion)
    by_domain = pd.DataFrame(inside)
    everywhere = counts.assign(domain=ALL)
    save(accuracy_by_domain.paired(pd.concat([everywhere, by_domain]), tested, reaches, methods[0]), paired)
    save(accuracy_by_domain.table(by_domain, tested, reaches), parts)
    return {"chips": len(tested), "pixels": int(counts[[*CELLS, "unknown"]].iloc[0].sum() * len(tested))}


def design(index: Path) -> tuple[pd.DataFrame, list[str]]:
    """The test chips as a stratified sample, and the reaches in the order of the index.

    Returns:
        The rows of `products.held_out` with `group`, the stratum or those joined with it, and `weight`.
    """
    sample = pd.read_parquet(index, columns=["sample_id", "reach", "stratum", "inclusion_probability"])
    tested = held_out(index)
    groups = _groups(sample, tested)
    tested["group"] = tested["stratum"].map(groups)
    tested["weight"] = tested["sample_id"].map(_weights(sample, tested, groups))
    return tested, list(dict.fromkeys(sample["reach"]))


def references(chip: Any, chips: list[Path], truth: Path | None, year: int) -> dict[str, np.ndarray]:
    """Reference rasters of a chip, uint8 [rows, columns], by name: labels and, where given, truth."""
    label, transform, _ = raster_io.read(chips[0].parent / chip.label)
    only_classes(label, f"label of chip {chip.sample_id}")
    found = {"labels": label[0]}
    if truth is not None:
        rows, cols = label.shape[1:]
        west, north = transform.c, transform.f
        bounds = (west, north - rows, west + cols, north)
        found["truth"] = raster_io.read(truth / str(year) / f"{chip.reach}.tif", bounds)[0][0]
        only_classes(found["truth"], f"truth of {chip.reach} in {year}")
    return found


def _zones(chip: Any, chips: list[Path], label: np.ndarray) -> dict[str, np.ndarray]:
    return zones(label, raster_io.read(chips[0].parent / chip.fraction)[0])


def _slopes(chip: Any, dem: Path | None, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    if dem is None:
        return {}
    rows, cols = shape
    return slope_zones(dem, f"EPSG:{int(chip.epsg)}", Affine(1, 0, chip.minx, 0, -1, chip.miny + rows), (rows, cols))


def _steep(slopes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {STEEP: slopes[STEEP]} if slopes else {}


def _density(stratum: str) -> str:
    """The density class of a stratum "reach/class"; the first one is the sparsest."""
    return f"density class {stratum.partition('/')[2] or 1}"


def _mapped(path: Path, name: str, codes: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """A map on a chip as 0/1/255."""
    values = raster_io.read(path)[0][0]
    if values.shape != shape:
        raise DataError(f"{path} has {values.shape} pixels but the chip's label has {shape}; make the map again")
    if codes is not None:
        return classify(values, codes, name, f"chip {path.stem}")
    only_classes(values, str(path))
    return values


def _fractions(mapped: np.ndarray, reference: np.ndarray, supports: list[int]) -> dict[str, float]:
    """Disagreement of ISA fractions in square cells: their number and sum of |difference|, by side in metres.

    Cells less than half known are left out. The cells start at the chip's corner, not at a product's own pixels.
    """
    out: dict[str, float] = {}
    known = (mapped != UNKNOWN) & (reference != UNKNOWN)
    for side in supports:
        total, isa, true = (_blocks(plane, side) for plane in (known, known & (mapped == 1), known & (reference == 1)))
        enough = total >= side * side / 2
        out[f"cells_{side}m"] = int(enough.sum())
        out[f"apart_{side}m"] = round(float((np.abs(isa - true)[enough] / total[enough]).sum()), 9)
    return out


def _blocks(plane: np.ndarray, side: int) -> np.ndarray:
    """Sums of whole side x side blocks of a plane."""
    rows, cols = plane.shape[0] // side, plane.shape[1] // side
    return plane[: rows * side, : cols * side].reshape(rows, side, cols, side).sum(axis=(1, 3), dtype=np.int64)


def _groups(sample: pd.DataFrame, tested: pd.DataFrame) -> dict[str, str]:
    """Strata of each reach, neighbours by density joined until each group holds two test chips."""
    found: dict[str, str] = {}
    for _, rows in sample.groupby("reach"):
        ordered = sorted(rows["stratum"].unique(), key=lambda name: int(name.partition("/")[2] or 0))
        found |= cluster_estimators.collapsed({name: int((tested["stratum"] == name).sum()) for name in ordered})
    return found


def _weights(sample: pd.DataFrame, tested: pd.DataFrame, groups: dict[str, str]) -> dict[str, float]:
    totals = (1 / sample["inclusion_probability"]).groupby(sample["stratum"].map(groups)).sum().to_dict()
    weights = cluster_estimators.calibrated_weights(
        tested["inclusion_probability"].to_numpy(), tested["stratum"].map(groups).to_numpy(), totals
    )
    return dict(zip(tested["sample_id"], weights))


def _by_reach(group: pd.DataFrame, reaches: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """The group's chips as a whole, then by reach, in the order of the index."""
    parts = [(reach, group[group["reach"] == reach]) for reach in reaches]
    return [(ALL, group), *[(reach, part) for reach, part in parts if not part.empty]]


def _table(counts: pd.DataFrame, supports: list[int], years: dict[str, int], reaches: list[str]) -> pd.DataFrame:
    rows = []
    for (kind, name, reference), group in counts.groupby(_KEY, sort=False):
        for reach, part in _by_reach(group, reaches):
            cells, weights, strata = part[list(CELLS)].to_numpy(), part["weight"].to_numpy(), part["stratum"].to_numpy()
            pixels, unknown = int(cells.sum()), int(part["unknown"].sum())
            row = {"kind": kind, "name": name, "map_year": years[name], "reference": reference, "reach": reach}
            row |= {"chips": len(part), "pixels": pixels, "unknown_share": unknown / (pixels + unknown)}
            for metric, function in METRICS.items():
                row |= _columns(metric, cluster_estimators.linearised(cells, weights, strata, function))
            for reach_m in accuracy_by_domain.TOLERANCES_M:
                edges = part[accuracy_by_domain.edge_columns(reach_m)].to_numpy()
                row |= _columns(
                    f"edge_f1_{reach_m}m",
                    cluster_estimators.linearised(edges, weights, strata, accuracy_by_domain.edge_f1),
                )
            for side in supports:
                pair = part[[f"apart_{side}m", f"cells_{side}m"]].to_numpy()
                estimate = cluster_estimators.linearised(pair, weights, strata, lambda t: t[0] / t[1])
                row |= _columns(f"fraction_mae_{side}m", estimate)
            rows.append(row)
    return pd.DataFrame(rows)


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    inside = estimate if name == "kappa" else cluster_estimators.within_unit(estimate)
    return cluster_estimators.columns(name, inside)


def save(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as CSV, beside and renamed, the same bytes for the same table."""
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format="%.9g", lineterminator="\n")
