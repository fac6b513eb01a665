"""Step textures: chips in the dataset's contract, split by place."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely.geometry import box

from jointseg import raster
from jointseg.dataset.contract import KINDS, SPLITS, UNKNOWN_LABEL
from jointseg.dataset.moments import Moments, sums
from jointseg.errors import DataError
from jointseg.progress import track
from jointseg.textures import areas as mosaics
from jointseg.textures.looks import PIXEL, looks

CRS, EPSG = "EPSG:32650", 32650  # the images lie nowhere; metres of some zone stand in for their pixels
ORIGIN_M, APART_M = (500_000, 3_600_000), 10_000


def textures(
    *,
    folder: Path,
    index: Path,
    statistics: Path,
    chips: list[Path],
    areas: list[dict[str, Any]],
    colours: dict[str, str],
    chip_m: int,
    dates: int,
    seed: int,
) -> dict[str, Any]:
    """Makes chips of labelled high-resolution images.

    Args:
        folder: of the images.
        index: GeoParquet to write, with the columns that trainings and scores read.
        statistics: JSON to write: mean and standard deviation by band of the train split.
        chips: folders to make, one an area, beside each other; the four rasters of each chip.
        areas: name and split of each, and what `areas.read` takes.
        colours: what the colours of the labels mean.
        chip_m: side of a chip.
        dates: simulated acquisitions.

    Returns:
        Number of chips by split.

    Raises:
        DataError: see `areas.read`; or nothing of a split is labelled, or two areas have one name.
    """
    if len({entry["name"] for entry in areas}) < len(areas):
        raise DataError("two areas of textures.areas have the same name; give each its own")
    rows: list[dict[str, Any]] = []
    moments = {"lr": Moments(), "hr": Moments()}
    for place, (entry, made) in enumerate(zip(track(areas, "areas", unit="area"), chips, strict=True)):
        rng = np.random.default_rng([seed, place])
        with raster.atomic(made) as part:
            part.mkdir()
            number = 0
            for area in mosaics.read(Path(folder), entry, colours):
                for files in _chips(area, chip_m, dates, rng):
                    number += 1
                    rows.append(_row(entry, place, number, chip_m, files["label"]))
                    _write(part, rows[-1], files)
                    if entry["split"] == "train":
                        for kind, each in moments.items():
                            each.add(sums(files[kind]))
    if not rows:
        raise DataError(f"no area holds a chip of {chip_m} m; give larger images or a smaller textures.chip_m")
    table = pd.DataFrame(rows)
    count = {split: int((table["split"] == split).sum()) for split in SPLITS}
    if lacking := [split for split in SPLITS if not table.loc[table["split"] == split, "isa_share"].notna().any()]:
        raise DataError(f"no labelled chip of split {lacking[0]}; give it to an area with labels")
    shapes = [box(row["minx"], row["miny"], row["minx"] + chip_m, row["miny"] + chip_m) for row in rows]
    outlined = gpd.GeoDataFrame(table, geometry=shapes, crs=CRS)
    with raster.atomic(index) as part:
        outlined.to_parquet(part)
    with raster.atomic(statistics) as part:
        part.write_text(json.dumps({kind: each.summary() for kind, each in moments.items()}, indent=1) + "\n")
    return {"chips": count, "simulated": "the 10 m images"}


def _chips(area: mosaics.Area, chip_m: int, dates: int, rng: np.random.Generator) -> Any:
    """The rasters of every whole chip of an area, by kind, row by row."""
    height, width = (chip_m * (side // chip_m) for side in area.label.shape)
    if not height or not width:
        return
    image = area.image[:, :height, :width]
    seen = looks(image, dates, rng)
    low = np.concatenate([seen.composite, seen.merged])
    high = np.clip(np.rint(image * 10_000), 1, 28_000).astype(np.uint16)
    fine = {"hr": high, "label": area.label[None], "fraction": area.fraction}
    side = chip_m // PIXEL
    for top in range(0, height, chip_m):
        for left in range(0, width, chip_m):
            at = np.s_[:, top : top + chip_m, left : left + chip_m]
            row, col = top // PIXEL, left // PIXEL
            yield {"lr": low[:, row : row + side, col : col + side]} | {kind: each[at] for kind, each in fine.items()}


def _row(entry: dict[str, Any], place: int, number: int, chip_m: int, label: np.ndarray) -> dict[str, Any]:
    known = label[label != UNKNOWN_LABEL]
    name = f"{entry['name']}-{number:04d}"
    return {
        "sample_id": name,
        "reach": entry["name"],
        "stratum": entry["name"],
        "inclusion_probability": 1.0,
        "split": entry["split"],
        "block": entry["name"],
        "epsg": EPSG,
        "minx": float(ORIGIN_M[0] + APART_M * place + chip_m * number),
        "miny": float(ORIGIN_M[1]),
        "scene_id": entry["images"],
        "isa_share": float((known == 1).mean()) if known.size else float("nan"),
    } | {kind: f"{entry['name']}/{name}_{kind}.tif" for kind in KINDS}


def _write(folder: Path, row: dict[str, Any], files: dict[str, np.ndarray]) -> None:
    for kind, array in files.items():
        form = KINDS[kind]
        raster.write(
            folder / Path(row[kind]).name,
            array,
            crs=CRS,
            transform=form.transform(row["minx"], row["miny"], len(files["label"][0])),
            nodata=form.nodata,
            descriptions=form.bands or (),
        )
