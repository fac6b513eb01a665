"""Step `assess`: accuracy of maps and reference products on the test chips, by reach, with design-based 95 % intervals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine

from jointseg.accuracy import accuracy_by_domain, cluster_estimators
from jointseg.accuracy.block_counts import check_classes
from jointseg.accuracy.cluster_estimators import CELLS, METRICS, NODATA, Metric
from jointseg.accuracy.object_detection import patch_counts
from jointseg.accuracy.reference_products import held_out_chips
from jointseg.accuracy.slope import STEEP, slope_zones
from jointseg.accuracy.zones import zone_masks
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import class_table, classify, nearest_year
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

ALL = accuracy_by_domain.ALL


@dataclass(frozen=True)
class _Map:
    kind: str  # "method" or "product"
    name: str
    folder: Path  # of {sample_id}.tif
    year: int  # that the map shows
    codes: np.ndarray | None = None  # code -> 0, 1, 255 of a product; None for a raster of 0/1/255

    def read(self, sample_id: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / f"{sample_id}.tif"
        values = raster_io.read(path)[0][0]
        if values.shape != shape:
            raise DataError(f"{path} has {values.shape} pixels; the chip's label has {shape}; rebuild the map")
        if self.codes is not None:
            return classify(values, self.codes, self.name, f"chip {sample_id}")
        check_classes(values, str(path))
        return values


def assess(
    *,
    index: Path,
    chips: list[Path],
    predictions: list[Path],
    products: list[Path],
    table: Path,
    confusion: Path,
    paired: Path,
    domains: Path,
    methods: list[str],
    product_table: dict[str, dict[str, Any]],
    year: int,
    study_area: Path,
    dem: Path | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Compute accuracy metrics of every method and product on the test chips against the labels and, if available, the truth.

    Args:
        chips: chip folders of the reaches, with the labels.
        predictions: folder of {sample_id}.tif (0/1/255) of each method, in the order of `methods`.
        products: folder of {sample_id}.tif (codes) of each product, in the order of `product_table`.
        table: output CSV, one row per map, reference and reach.
        confusion: output CSV, pixel counts by map, reference and chip.
        paired: output CSV, first method minus every other map on the same chips, for the whole area and by domain.
        domains: output CSV, one row per map, reference, domain and reach.
        product_table: product name -> its entry, with codes and year.
        year: year of the methods' maps and of the truth.
        study_area: GeoPackage with the layers `regions` and `cities`, which are domains.
        dem: elevation in metres, for slope domains.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.
    """
    if len(predictions) != len(methods) or len(products) != len(product_table):
        raise DataError(
            f"{len(predictions)} predictions for methods {methods} and {len(products)} product folders for"
            f" {list(product_table)}; pass one folder for each, in the same order"
        )
    tested, reaches = sample_design(index)
    maps = [_Map("method", name, folder, year) for name, folder in zip(methods, predictions)]
    for (name, entry), folder in zip(product_table.items(), products):
        map_year = nearest_year(entry, year)
        maps.append(_Map("product", name, folder, map_year, class_table(name, entry, map_year)))
    cell_sizes = sorted({10} | {round(entry["resolution_m"]) for entry in product_table.values()} - {0, 1})
    regions_of = accuracy_by_domain.chip_domains(gpd.read_parquet(index, columns=["sample_id", "geometry"]), study_area)
    rows: list[dict[str, Any]] = []
    domain_rows: list[dict[str, Any]] = []
    for chip in track(list(tested.itertuples()), "accuracy of chips", unit="chip"):
        expected_of = reference_rasters(chip, chips, truth, year)
        label = expected_of["labels"]
        slopes = _slopes(chip, dem, label.shape)
        masks = zone_masks(label, raster_io.read(chips[0].parent / chip.fraction)[0]) | slopes
        del masks[ALL]  # each map has counts of full chips
        steep = {name: mask for name, mask in slopes.items() if name == STEEP}
        chip_domains = [_density(chip.stratum), *regions_of[chip.sample_id]]
        for each in maps:
            mapped = each.read(chip.sample_id, label.shape)
            for reference, expected in expected_of.items():
                key = {"kind": each.kind, "name": each.name, "reference": reference, "sample_id": chip.sample_id}
                cells = cluster_estimators.named_counts(mapped, expected)
                row = {**key, "reach": chip.reach, "stratum": chip.group, **cells}
                row |= _fractions(mapped, expected, cell_sizes) | accuracy_by_domain.edge_counts(mapped, expected)
                rows.append(row)
                domain_rows += [{**key, "domain": name, **cells} for name in chip_domains]
                domain_rows += [key | counts for counts in accuracy_by_domain.zone_counts(mapped, expected, masks)]
                domain_rows += [key | counts for counts in patch_counts(mapped, expected, steep)]
    counts = pd.DataFrame(rows)
    counts["weight"] = counts["sample_id"].map(tested.set_index("sample_id")["weight"])
    write_csv(_table(counts, cell_sizes, {each.name: each.year for each in maps}, reaches), table)
    write_csv(counts, confusion)
    by_domain = pd.DataFrame(domain_rows)
    all_domains = pd.concat([counts.assign(domain=ALL), by_domain])
    write_csv(accuracy_by_domain.paired_differences(all_domains, tested, reaches, methods[0]), paired)
    write_csv(accuracy_by_domain.domain_table(by_domain, tested, reaches), domains)
    return {"chips": len(tested), "pixels": int(counts[[*CELLS, "nodata"]].iloc[0].sum() * len(tested))}


def sample_design(index: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the test chips as a stratified sample, and the reaches in the order of the index.

    The rows are those of `reference_products.held_out_chips` with `group`, the (merged) stratum, and `weight`.
    """
    sample = pd.read_parquet(index, columns=["sample_id", "reach", "stratum", "inclusion_probability"])
    tested = held_out_chips(index)
    groups = _groups(sample, tested)
    tested["group"] = tested["stratum"].map(groups)
    tested["weight"] = tested["sample_id"].map(_weights(sample, tested, groups))
    return tested, list(dict.fromkeys(sample["reach"]))


def reference_rasters(chip: Any, chips: list[Path], truth: Path | None, year: int) -> dict[str, np.ndarray]:
    """Return the reference rasters of a chip, uint8 [rows, columns]: "labels" and, if available, "truth"."""
    label, transform, _ = raster_io.read(chips[0].parent / chip.label)
    check_classes(label, f"label of chip {chip.sample_id}")
    rasters = {"labels": label[0]}
    if truth is not None:
        rows, cols = label.shape[1:]
        west, north = transform.c, transform.f
        bounds = (west, north - rows, west + cols, north)
        rasters["truth"] = raster_io.read(truth / str(year) / f"{chip.reach}.tif", bounds)[0][0]
        check_classes(rasters["truth"], f"truth of {chip.reach} in {year}")
    return rasters


def _slopes(chip: Any, dem: Path | None, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    if dem is None:
        return {}
    rows, cols = shape
    return slope_zones(dem, f"EPSG:{int(chip.epsg)}", Affine(1, 0, chip.minx, 0, -1, chip.miny + rows), (rows, cols))


def _density(stratum: str) -> str:
    """Return the density class of a stratum "reach/class"; class 1 has the lowest density."""
    return f"density class {stratum.partition('/')[2] or 1}"


def _fractions(mapped: np.ndarray, reference: np.ndarray, cell_sizes: list[int]) -> dict[str, float]:
    """Return the number of square cells and the sum of absolute differences of their ISA fractions, by side in metres.

    Cells with less than half of their pixels valid are left out. Cells start at the chip's corner, not at a product's pixels.
    """
    out: dict[str, float] = {}
    valid = (mapped != NODATA) & (reference != NODATA)
    for side in cell_sizes:
        total, isa, true = (_blocks(plane, side) for plane in (valid, valid & (mapped == 1), valid & (reference == 1)))
        enough = total >= side * side / 2
        out[f"cells_{side}m"] = int(enough.sum())
        out[f"abs_difference_{side}m"] = round(float((np.abs(isa - true)[enough] / total[enough]).sum()), 9)
    return out


def _blocks(plane: np.ndarray, side: int) -> np.ndarray:
    """Return the sums of the complete side x side blocks of a plane."""
    rows, cols = plane.shape[0] // side, plane.shape[1] // side
    return plane[: rows * side, : cols * side].reshape(rows, side, cols, side).sum(axis=(1, 3), dtype=np.int64)


def _groups(sample: pd.DataFrame, tested: pd.DataFrame) -> dict[str, str]:
    """Merge the strata of each reach, neighbours by density, until each group has two test chips."""
    groups: dict[str, str] = {}
    for _, rows in sample.groupby("reach"):
        ordered = sorted(rows["stratum"].unique(), key=lambda name: int(name.partition("/")[2] or 0))
        groups |= cluster_estimators.collapse_strata({name: int((tested["stratum"] == name).sum()) for name in ordered})
    return groups


def _weights(sample: pd.DataFrame, tested: pd.DataFrame, groups: dict[str, str]) -> dict[str, float]:
    totals = (1 / sample["inclusion_probability"]).groupby(sample["stratum"].map(groups)).sum().to_dict()
    weights = cluster_estimators.calibrated_weights(
        tested["inclusion_probability"].to_numpy(), tested["stratum"].map(groups).to_numpy(), totals
    )
    return dict(zip(tested["sample_id"], weights))


def _table(counts: pd.DataFrame, cell_sizes: list[int], years: dict[str, int], reaches: list[str]) -> pd.DataFrame:
    metrics: list[tuple[str, list[str], Metric]] = [(name, list(CELLS), metric) for name, metric in METRICS.items()]
    for tolerance_m in accuracy_by_domain.TOLERANCES_M:
        edges = accuracy_by_domain.edge_columns(tolerance_m)
        metrics.append((f"edge_f1_{tolerance_m}m", edges, accuracy_by_domain.edge_f1))
    for side in cell_sizes:
        metrics.append((f"fraction_mae_{side}m", [f"abs_difference_{side}m", f"cells_{side}m"], lambda t: t[0] / t[1]))
    rows = []
    for (kind, name, reference), group in counts.groupby(["kind", "name", "reference"], sort=False):
        for reach in (ALL, *reaches):
            part = group if reach == ALL else group[group["reach"] == reach]
            if part.empty:
                continue
            pixels, nodata = int(part[list(CELLS)].to_numpy().sum()), int(part["nodata"].sum())
            row = {"kind": kind, "name": name, "map_year": years[name], "reference": reference, "reach": reach}
            row |= {"chips": len(part), "pixels": pixels, "nodata_fraction": nodata / (pixels + nodata)}
            weights, strata = part["weight"].to_numpy(), part["stratum"].to_numpy()
            for metric, columns, function in metrics:
                estimate = cluster_estimators.linearised_estimate(part[columns].to_numpy(), weights, strata, function)
                estimate = estimate if metric == "kappa" else cluster_estimators.clip_to_unit(estimate)
                row |= cluster_estimators.estimate_columns(metric, estimate)
            rows.append(row)
    return pd.DataFrame(rows)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV atomically, with the same bytes for the same table."""
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format="%.9g", lineterminator="\n")
