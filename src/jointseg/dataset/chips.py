"""Cuts the chips of a reach: composite, registered and matched Jilin-1 image, label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg import grid, raster
from jointseg.dataset import registration
from jointseg.dataset.burn import BANDS, UNKNOWN, UNKNOWN_FRACTION, burn, fractions
from jointseg.dataset.composites import Composites
from jointseg.dataset.jilin1 import Scene, read, scene
from jointseg.errors import DataError
from jointseg.progress import bar

HR_BANDS = ("B04", "B03", "B02")


def chips(
    *,
    samples: Path,
    pairs: Path,
    labels: Path,
    composites: Sequence[Path],
    jilin1: Path,
    chips: Path,
    index: Path,
    reach: str,
    chip_m: int,
    bands: Sequence[str],
) -> dict[str, Any]:
    """Writes four rasters a chip and the index of the reach, for the samples that were paired.

    {id}_lr.tif: uint16 [bands, chip_m / 10, chip_m / 10], the composite, reflectance x 10000.
    {id}_hr.tif: uint16 [3, chip_m, chip_m], the Jilin-1 scene at 1 m, moved by its shift, per band brought to the
    composite by the gain of its scene and an offset of its own, reflectance x 10000 of B04, B03, B02.
    {id}_label.tif: uint8 [1, chip_m, chip_m], 0 not impervious, 1 impervious, 255 unknown.
    {id}_fraction.tif: uint16 [1 + kinds, chip_m, chip_m], see burn.fractions.
    In the first two 0 is unknown.

    Args:
        chip_m: side of a chip.
        bands: of the composite; B04, B03 and B02 among them.

    Raises DataError when a band is missing, or a file of the pairs cannot be read.
    """
    if missing := [name for name in HR_BANDS if name not in bands]:
        raise DataError(f"bands {list(bands)} lack {', '.join(missing)}, which a Jilin-1 image is matched to")
    table = gpd.read_parquet(samples)
    paired = pd.read_parquet(pairs)
    table = table[table["reach"] == reach].drop(columns="geometry").merge(paired[paired["status"] == "ok"])
    mosaics = Composites(composites)
    shapes = dict(list(gpd.read_parquet(labels).groupby("sample_id")))
    gains: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    with raster.atomic(chips) as folder, bar(f"chips {reach}", len(table), "chip") as shown:
        folder.mkdir()
        for path, rows in table.sort_values(["path", "sample_id"]).groupby("path", sort=True):
            one = scene(jilin1, (jilin1 / str(path)).parent)
            images = [_read(jilin1, one, mosaics, row, chip_m, bands) for row in rows.itertuples()]
            common = registration.fit(
                np.concatenate([image.degraded[:, image.known] for image in images], axis=1),
                np.concatenate([image.matched[:, image.known] for image in images], axis=1),
                np.ones(sum(int(image.known.sum()) for image in images), dtype=bool),
            )
            gains[one.id] = [float(f"{gain:.6g}") for gain in common.gain]
            for row, image in zip(rows.itertuples(), images):
                place = (shapes.get(row.sample_id), int(row.epsg), (row.minx, row.miny + chip_m), chip_m)
                label = burn(*place)
                _write(folder, row, image, common, label, fractions(*place), chip_m, bands)
                known = label[label != UNKNOWN]
                shares[row.sample_id] = float((known == 1).mean()) if known.size else float("nan")
                shown.advance()
    frame = _frame(table.sort_values("sample_id"), shares, chip_m)
    with raster.atomic(index) as part:
        frame.to_parquet(part)
    return {"chips": len(frame), "gains": gains}


@dataclass(frozen=True)
class Images:
    """What is read for one chip.

    Attributes:
        lr: uint16 [bands, h, w] of the composite.
        matched: float32 [3, h, w], reflectance of its HR_BANDS.
        hr: float32 [3, chip_m, chip_m], the scene's digital numbers.
        seen: bool [chip_m, chip_m], where the scene has data.
        degraded: float32 [3, h, w], the scene as the composite's sensor would see it.
        known: bool [h, w], where both are known.
    """

    lr: np.ndarray
    matched: np.ndarray
    hr: np.ndarray
    seen: np.ndarray
    degraded: np.ndarray
    known: np.ndarray


def _read(folder: Path, one: Scene, mosaics: Composites, row: Any, chip_m: int, bands: Sequence[str]) -> Images:
    west, south = row.minx, row.miny
    lr, known = mosaics.read(int(row.epsg), (west, south, west + chip_m, south + chip_m), bands)
    matched = lr[[list(bands).index(name) for name in HR_BANDS]].astype(np.float32) * np.float32(1e-4)
    side = chip_m + registration.PSF_MARGIN_M
    around = (west - registration.PSF_MARGIN_M, south - registration.PSF_MARGIN_M, west + side, south + side)
    values, seen = read(folder, one, int(row.epsg), around, (row.shift_x_m, row.shift_y_m))
    degraded = registration.at_10m(registration.blur(values, seen), known.shape, registration.PSF_MARGIN_M)
    inner = slice(registration.PSF_MARGIN_M, -registration.PSF_MARGIN_M)
    seen = seen[inner, inner]
    ratio = registration.RATIO
    whole = seen.reshape(known.shape[0], ratio, known.shape[1], ratio).all(axis=(1, 3))
    return Images(lr, matched, values[:, inner, inner], seen, degraded, known & whole)


def _write(
    folder: Path,
    row: Any,
    image: Images,
    common: registration.Match,
    label: np.ndarray,
    fraction: np.ndarray,
    chip_m: int,
    bands: Sequence[str],
) -> None:
    match = registration.fit_offset(common, image.degraded, image.matched, image.known)
    hr = np.clip(np.rint(registration.apply(match, image.hr) * 1e4), 1, 65535).astype(np.uint16)
    hr[:, ~image.seen] = 0
    crs = f"EPSG:{int(row.epsg)}"
    fine = Affine(1, 0, row.minx, 0, -1, row.miny + chip_m)
    coarse = Affine(10, 0, row.minx, 0, -10, row.miny + chip_m)
    name = row.sample_id
    raster.write(folder / f"{name}_lr.tif", image.lr, crs=crs, transform=coarse, nodata=0, descriptions=bands)
    raster.write(folder / f"{name}_hr.tif", hr, crs=crs, transform=fine, nodata=0, descriptions=HR_BANDS)
    raster.write(folder / f"{name}_label.tif", label[None], crs=crs, transform=fine, nodata=UNKNOWN)
    part = folder / f"{name}_fraction.tif"
    raster.write(part, fraction, crs=crs, transform=fine, nodata=UNKNOWN_FRACTION, descriptions=BANDS)


def _frame(table: pd.DataFrame, shares: dict[str, float], chip_m: int) -> gpd.GeoDataFrame:
    polygons = []
    for row in table.itertuples():
        to = grid.transformer(f"EPSG:{int(row.epsg)}", "EPSG:4326")
        square = shapely.box(row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        polygons.append(
            shapely.transform(square, lambda points, to=to: np.column_stack(to.transform(points[:, 0], points[:, 1])))
        )
    ids = table["sample_id"]
    stems = table["reach"] + "/" + ids
    kept = table.drop(columns=["status", "path", "date"]).reset_index(drop=True)
    kept["hr_date"] = table["date"].to_numpy()
    kept["isa_share"] = [shares[sample_id] for sample_id in ids]
    for kind in ("lr", "hr", "label", "fraction"):
        kept[kind] = (stems + f"_{kind}.tif").to_numpy()
    return gpd.GeoDataFrame(kept, geometry=polygons, crs=4326)
