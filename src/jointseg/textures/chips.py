"""Step textures: chips in the dataset's contract, split by place."""

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
from jointseg.textures import source_images as mosaics
from jointseg.textures.simulated_dates import PIXEL_M, SimulatedImages, simulate

CRS, EPSG = "EPSG:32650", 32650  # the images lie nowhere; metres of some zone stand in for their pixels
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
    """Makes chips of labelled high-resolution images.

    Args:
        folder: of the images.
        index: GeoParquet to write, with the columns that trainings and scores read.
        statistics: JSON to write: mean and standard deviation by band of the train split.
        chips: folders to make, one an area, beside each other; the four rasters of each chip.
        areas: name of each, and what `areas.read` takes.
        colours: what the colours of the labels mean.
        splits: share of each split; see `parts`.
        buffer_m: ground left out between the splits of an area.
        chip_m: side of a chip.
        dates: simulated acquisitions.

    Returns:
        Number of chips by split.

    Raises:
        DataError: see `areas.read`; or a split gets no chip, or two areas have one name.
    """
    if len({entry["name"] for entry in areas}) < len(areas):
        raise DataError("two areas of textures.areas have the same name; give each its own")
    rows: list[dict[str, Any]] = []
    moments = {"lr": BandStatistics(), "hr": BandStatistics()}
    for place, (entry, made) in enumerate(zip(track(areas, "areas", unit="area"), chips, strict=True)):
        rng = np.random.default_rng([seed, place])
        area = mosaics.read_area(Path(folder), entry, colours)
        seen = simulate(area.image, dates, rng)
        with atomic_write(made) as part:
            part.mkdir()
            for number, (split, top, left) in enumerate(
                _chip_windows(area, splits, buffer_m, chip_m, place % 2 > 0), 1
            ):
                files = _chip(area, seen, top, left, chip_m)
                rows.append(_row(entry, split, place, number, chip_m, files["label"]))
                _write(part, rows[-1], files)
                if split == "train":
                    for kind, each in moments.items():
                        each.add(band_sums(files[kind]))
    count = {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    if lacking := [split for split, chips_of in count.items() if not chips_of]:
        raise DataError(
            f"no chip of {chip_m} m for split {lacking[0]}; give larger areas, or set textures.chip_m or .splits"
        )
    shapes = [box(row["minx"], row["miny"], row["minx"] + chip_m, row["miny"] + chip_m) for row in rows]
    outlined = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=shapes, crs=CRS)
    with atomic_write(index) as part:
        outlined.to_parquet(part)
    with atomic_write(statistics) as part:
        part.write_text(json.dumps({kind: each.summary() for kind, each in moments.items()}, indent=1) + "\n")
    return {"chips": count, "simulated": "the 10 m images"}


def split_chips(length_m: int, splits: dict[str, float], buffer_m: int, chip_m: int) -> list[tuple[str, int]]:
    """(split, first metre) of every chip along a side: whole chips by share (largest remainder), a buffer between splits."""
    room = max(length_m - buffer_m * (len(splits) - 1), 0) // chip_m
    count = {split: int(room * share + 1e-9) for split, share in splits.items()}
    left = room - sum(count.values())
    for split in sorted(splits, key=lambda name: count[name] - room * splits[name])[:left]:
        count[split] += 1
    found, at = [], 0
    for split, chips in count.items():
        found += [(split, at + chip_m * number) for number in range(chips)]
        at += chips * chip_m + buffer_m
    return found


def _chip_windows(
    area: mosaics.Area, splits: dict[str, float], buffer_m: int, chip_m: int, backwards: bool
) -> Iterator[tuple[str, int, int]]:
    """Split, top and left pixel of every chip; the area is cut across its longer side, in turn from either end."""
    height, width = area.label.shape
    order = dict(reversed(splits.items())) if backwards else splits
    along = split_chips(max(height, width), order, buffer_m, chip_m)
    across = range(0, min(height, width) - chip_m + 1, chip_m)
    for split, far in along:
        for near in across:
            yield (split, far, near) if height > width else (split, near, far)


def _chip(area: mosaics.Area, seen: SimulatedImages, top: int, left: int, chip_m: int) -> dict[str, np.ndarray]:
    """The rasters of a chip, by kind."""
    fine = np.s_[:, top : top + chip_m, left : left + chip_m]
    coarse = np.s_[:, top // PIXEL_M : (top + chip_m) // PIXEL_M, left // PIXEL_M : (left + chip_m) // PIXEL_M]
    return {
        "lr": np.concatenate([seen.composite[coarse], seen.merged[coarse]]),
        "hr": np.clip(np.rint(area.image[fine] * 10_000), 1, 28_000).astype(np.uint16),
        "label": area.label[None][fine],
        "fraction": area.fraction[fine],
    }


def _row(entry: dict[str, Any], split: str, place: int, number: int, chip_m: int, label: np.ndarray) -> dict[str, Any]:
    known = label[label != UNLABELLED]
    name = f"{entry['name']}-{number:04d}"
    return {
        "sample_id": name,
        "reach": entry["name"],
        "stratum": entry["name"],
        "inclusion_probability": 1.0,
        "split": split,
        "block": f"{entry['name']}-{split}",
        "epsg": EPSG,
        "minx": float(ORIGIN_M[0] + AREA_SPACING_M * place + chip_m * number),
        "miny": float(ORIGIN_M[1]),
        "scene_id": entry["images"],
        "isa_fraction": float((known == 1).mean()) if known.size else float("nan"),
    } | {kind: f"{entry['name']}/{name}_{kind}.tif" for kind in CHIP_RASTERS}


def _write(folder: Path, row: dict[str, Any], files: dict[str, np.ndarray]) -> None:
    for kind, array in files.items():
        form = CHIP_RASTERS[kind]
        cog.write(
            folder / Path(row[kind]).name,
            array,
            crs=CRS,
            transform=form.transform(row["minx"], row["miny"], len(files["label"][0])),
            nodata=form.nodata,
            descriptions=form.bands or (),
        )
