"""Step `textures`: chips in the format of the dataset from real images, split spatially."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely.geometry import box

from jointseg.dataset.band_statistics import BandStatistics, band_sums
from jointseg.dataset.contract import CHIP_RASTERS, SPLITS, UNLABELLED
from jointseg.raster import cog
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track
from jointseg.textures.simulated_dates import PIXEL_M, SimulatedImages, simulate
from jointseg.textures.source_images import Area, read_area

CRS, EPSG = "EPSG:32650", 32650  # nominal: the images have no georeference
ORIGIN_M, AREA_SPACING_M = (500_000, 3_600_000), 10_000


def textures(
    *,
    folder: Path,
    index: Path,
    statistics: Path,
    chips: list[Path],
    areas: list[dict[str, Any]],
    colours: dict[str, str],
    splits: dict[str, float],
    buffer_m: int,
    chip_m: int,
    dates: int,
    seed: int,
) -> dict[str, Any]:
    """Cut labelled high-resolution images into chips and simulate their Sentinel-2 images.

    Raises DataError if two areas have the same name, a split has no chip, or an image cannot be read.

    Args:
        index: GeoParquet to write, with the columns that training and scoring read.
        statistics: JSON to write, mean and standard deviation of each band of the train split.
        chips: folders to write, one per area, with the four rasters of each chip.
        areas: per area its name and the arguments of `source_images.read_area`.
        colours: meaning of the label colours, see `source_images.read_area`.
        splits: fraction of each split, see `split_chips`.
        buffer_m: unused distance between the splits of an area.
    """
    if len({entry["name"] for entry in areas}) < len(areas):
        raise DataError("two areas in ablation.textures.areas have the same name; use a unique name for each")
    rows: list[dict[str, Any]] = []
    band_statistics = {"lr": BandStatistics(), "hr": BandStatistics()}
    for area_index, (entry, target) in enumerate(zip(track(areas, "areas", unit="area"), chips, strict=True)):
        area = read_area(Path(folder), entry, colours)
        images = simulate(area.image, dates, np.random.default_rng([seed, area_index]))
        windows = _chip_windows(area, splits, buffer_m, chip_m, reverse=area_index % 2 > 0)
        with atomic_write(target) as part:
            part.mkdir()
            for number, (split, top, left) in enumerate(windows, 1):
                rasters = _chip_rasters(area, images, top, left, chip_m)
                rows.append(_index_row(entry, split, area_index, number, chip_m, rasters["label"]))
                _write_chip(part, rows[-1], rasters)
                if split == "train":
                    for kind, sums in band_statistics.items():
                        sums.add(band_sums(rasters[kind]))
    count = {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    if missing := [split for split in SPLITS if not count[split]]:
        raise DataError(
            f"no chip of {chip_m} m for split {missing[0]}; use larger areas, or change ablation.textures.chip_m or .splits"
        )
    shapes = [box(row["minx"], row["miny"], row["minx"] + chip_m, row["miny"] + chip_m) for row in rows]
    table = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=shapes, crs=CRS)
    with atomic_write(index) as part:
        table.to_parquet(part)
    with atomic_write(statistics) as part:
        part.write_text(json.dumps({kind: each.summary() for kind, each in band_statistics.items()}, indent=1) + "\n")
    return {"chips": count, "simulated": "the 10 m images"}


def split_chips(length_m: int, splits: dict[str, float], buffer_m: int, chip_m: int) -> list[tuple[str, int]]:
    """Return (split, offset in m) of the chips along one side, by largest remainder, with a buffer between splits."""
    available = max(length_m - buffer_m * (len(splits) - 1), 0) // chip_m
    count = {split: int(available * fraction + 1e-9) for split, fraction in splits.items()}
    remainder = available - sum(count.values())
    for split in sorted(splits, key=lambda name: count[name] - available * splits[name])[:remainder]:
        count[split] += 1
    chips, start = [], 0
    for split, number in count.items():
        chips += [(split, start + chip_m * k) for k in range(number)]
        start += number * chip_m + buffer_m
    return chips


def _chip_windows(
    area: Area, splits: dict[str, float], buffer_m: int, chip_m: int, reverse: bool
) -> Iterator[tuple[str, int, int]]:
    """Yield split, top and left pixel of each chip; the splits follow each other along the longer side."""
    height, width = area.label.shape
    order = dict(reversed(splits.items())) if reverse else splits
    for split, along in split_chips(max(height, width), order, buffer_m, chip_m):
        for across in range(0, min(height, width) - chip_m + 1, chip_m):
            yield (split, along, across) if height > width else (split, across, along)


def _chip_rasters(area: Area, images: SimulatedImages, top: int, left: int, chip_m: int) -> dict[str, np.ndarray]:
    hr = np.s_[:, top : top + chip_m, left : left + chip_m]
    lr = np.s_[:, top // PIXEL_M : (top + chip_m) // PIXEL_M, left // PIXEL_M : (left + chip_m) // PIXEL_M]
    return {
        "lr": np.concatenate([images.composite[lr], images.merged[lr]]),
        "hr": np.clip(np.rint(area.image[hr] * 10_000), 1, 28_000).astype(np.uint16),
        "label": area.label[None][hr],
        "fraction": area.fraction[hr],
    }


def _index_row(
    entry: dict[str, Any], split: str, area_index: int, number: int, chip_m: int, label: np.ndarray
) -> dict[str, Any]:
    labelled = label[label != UNLABELLED]
    name = f"{entry['name']}-{number:04d}"
    return {
        "sample_id": name,
        "reach": entry["name"],
        "stratum": entry["name"],
        "inclusion_probability": 1.0,
        "split": split,
        "block": f"{entry['name']}-{split}",
        "epsg": EPSG,
        "minx": float(ORIGIN_M[0] + AREA_SPACING_M * area_index + chip_m * number),
        "miny": float(ORIGIN_M[1]),
        "scene_id": entry["images"],
        "isa_fraction": float((labelled == 1).mean()) if labelled.size else float("nan"),
    } | {kind: f"{entry['name']}/{name}_{kind}.tif" for kind in CHIP_RASTERS}


def _write_chip(folder: Path, row: dict[str, Any], rasters: dict[str, np.ndarray]) -> None:
    for kind, array in rasters.items():
        spec = CHIP_RASTERS[kind]
        cog.write(
            folder / Path(row[kind]).name,
            array,
            crs=CRS,
            transform=spec.transform(row["minx"], row["miny"], len(rasters["label"][0])),
            nodata=spec.nodata,
            descriptions=spec.bands or (),
        )
