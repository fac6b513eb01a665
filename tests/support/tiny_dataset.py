"""A valid dataset of 12 chips of 160 m, written by the step functions, and edits of a copy."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.ndimage import gaussian_filter, zoom

from jointseg.area import grid
from jointseg.dataset.collection import content_digest, dataset
from jointseg.dataset.contract import CHIP_RASTERS, FRACTION_NODATA, FRACTION_SCALE
from jointseg.dataset.index_schema import COLUMNS
from jointseg.provenance.digest import Entry
from jointseg.raster import cog
from jointseg.raster import io as raster_io

CHIP, SPACING, EPSG = 160, 300, 32650
WEST, SOUTH = 660_000, 3_540_000
REACHES = ("low", "up")
SCENES = ("JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH", "JL1GF03B02_PMS_20220701102515_x_L3C_PSH")
DATES = ("2022-06-23T02:46:20Z", "2022-07-01T02:25:15Z")
BANDS = ("B04", "B03", "B02")


def make(folder: Path) -> Path:
    """Write four blocks of three chips, one column each: two of train, one of validation, one of test."""
    rows = []
    for col in range(4):
        for row in range(3):
            reach = REACHES[col % 2]
            number = 3 * (col // 2) + row + 1
            rows.append(
                {
                    "sample_id": f"{reach}-{number:04d}",
                    "reach": reach,
                    "stratum": f"{reach}/{row % 2 + 1}",
                    "replacement": row == 2,
                    "inclusion_probability": 0.1 + 0.01 * row,
                    "split": ("train", "train", "validation", "test")[col],
                    "block": f"{EPSG}-{col}-0",
                    "tile": "50N_E0660_N3540",
                    "epsg": EPSG,
                    "minx": float(WEST + SPACING * col),
                    "miny": float(SOUTH + SPACING * row),
                    "scene_id": SCENES[row % 2],
                    "s2_year": 2021,
                    "shift_x_m": -4.2,
                    "shift_y_m": 1.5 + row,
                    "shift_sd_m": 0.1,
                    "registration_correlation": 0.9 - 0.01 * col,
                    "cloud_percent": float("nan") if row else 4.0,
                    "view_angle": 3.5,
                    "sun_elevation": 60.0,
                    "hr_date": DATES[row % 2],
                    "clear_min": 2.0,
                    "clear_median": 3.0,
                }
            )
    table = pd.DataFrame(rows).sort_values("sample_id", ignore_index=True)
    fractions = [_write_chip(folder, number, row) for number, row in enumerate(table.to_dict("records"))]
    table["isa_fraction"] = fractions
    for kind in CHIP_RASTERS:
        table[kind] = table["reach"] + "/" + table["sample_id"] + f"_{kind}.tif"
    index = gpd.GeoDataFrame(table[list(COLUMNS)], geometry=[square(row) for row in table.to_dict("records")], crs=4326)
    samples = index[[*list(COLUMNS)[:11]]].assign(rank=range(len(index)))
    put(gpd.GeoDataFrame(samples, geometry=index.to_crs(EPSG).centroid.to_crs(4326)), folder / "samples.parquet")
    for reach, part in index.groupby("reach"):
        put(part.reset_index(drop=True), folder / f"index/{reach}.parquet")
        paired = pd.DataFrame(part[["sample_id", *list(COLUMNS)[11:19]]])
        paired["status"], paired["path"] = "ok", paired["scene_id"] + "/" + paired["scene_id"] + ".tif"
        rejected = paired.iloc[:1].assign(sample_id=f"{reach}-0099", status="low correlation")
        put(pd.concat([paired, rejected], ignore_index=True), folder / f"pairs/{reach}.parquet")
        labels = part[["sample_id", "geometry"]].assign(kind="building", source="osm", action="add")
        put(labels, folder / f"labels/{reach}.parquet")
    rebuild(folder)
    return folder


def square(row: dict[str, Any], west: float = 0) -> shapely.Geometry:
    """Return the outline of a chip in degrees, moved by `west` metres."""
    box = shapely.box(row["minx"] - west, row["miny"], row["minx"] - west + CHIP, row["miny"] + CHIP)
    to = grid.transformer(f"EPSG:{EPSG}", "EPSG:4326")
    return shapely.transform(box, lambda xy: np.column_stack(to.transform(xy[:, 0], xy[:, 1])))


def _write_chip(folder: Path, number: int, row: dict[str, Any]) -> float:
    """Write a chip's four files and return its ISA fraction."""
    rng = np.random.default_rng(number)
    side = CHIP + 40
    isa = np.zeros((side, side), dtype=bool)
    for _ in range(6 + number % 4):
        top, left = rng.integers(0, side - 30, 2)
        isa[top : top + 25, left : left + 20] = True
    background = 0.06 + 0.05 * zoom(rng.random((11, 11)), side / 11, order=1)[:side, :side]
    image = np.stack([background * 0.9, background, background * 0.7])
    image[:, isa] = 0.25
    image += rng.normal(0, 0.008, image.shape)
    blurred = np.stack([gaussian_filter(band, 5.3) for band in image])[:, 20:-20, 20:-20]
    quad = (blurred[:, :-1, :-1] + blurred[:, 1:, :-1] + blurred[:, :-1, 1:] + blurred[:, 1:, 1:]) / 4
    at = 4 + 10 * np.arange(CHIP // 10)
    lr = np.rint(quad[:, at[:, None], at] * 1e4).astype(np.uint16)
    hr = np.rint(image[:, 20:-20, 20:-20] * 1e4).astype(np.uint16)
    label = isa[20:-20, 20:-20].astype(np.uint8)
    if number == 0:
        lr[:, :2, :3], hr[:, :, 150:], label[:20] = 0, 0, 255
    fraction = np.zeros((7, CHIP, CHIP), dtype=np.uint16)
    fraction[:3:2] = np.where(label == 1, FRACTION_SCALE, 0)
    fraction[:, label == 255] = FRACTION_NODATA
    for kind, array in {"lr": lr, "hr": hr, "label": label[None], "fraction": fraction}.items():
        store(folder, row, kind, array)
    return float((label[label != 255] == 1).mean())


def store(folder: Path, row: dict[str, Any], kind: str, array: np.ndarray, **changes: Any) -> None:
    """Write a chip's file in the format of the contract, with optional changes."""
    expected = CHIP_RASTERS[kind]
    options = {
        "crs": f"EPSG:{EPSG}",
        "transform": expected.transform(row["minx"], row["miny"], CHIP),
        "nodata": expected.nodata,
        "descriptions": BANDS if expected.bands is None else expected.bands,
    }
    path = folder / f"chips/{row['reach']}/{row['sample_id']}_{kind}.tif"
    cog.write(path, array, **(options | changes))


def put(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def rebuild(folder: Path, **changes: Any) -> None:
    """Rebuild index and documents with the step `dataset`."""
    tables = {name: [folder / f"{name}/{reach}.parquet" for reach in REACHES] for name in ("index", "pairs", "labels")}
    arguments = {
        "indexes": tables["index"],
        "chips": [folder / f"chips/{reach}" for reach in REACHES],
        "samples": folder / "samples.parquet",
        "pairs": tables["pairs"],
        "labels": tables["labels"],
        "manifests": [],
        "index": folder / "index.parquet",
        **{name: folder / f"{name}.json" for name in ("statistics", "sources", "collection")},
        "card": folder / "card.md",
        "stac_items": folder / "items",
        "checksums": folder / "checksums.sha256",
        "version": "1.2.3",
        "chip_m": CHIP,
        "spacing_m": SPACING,
    }
    dataset(**(arguments | changes))


def update_checksums(folder: Path) -> None:
    """Update only the checksums and the digest of the content."""

    def entries() -> list[Entry]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "checksums.sha256")
        return [Entry(path.relative_to(folder).as_posix(), 0, sha256(path.read_bytes()).hexdigest()) for path in paths]

    before = json.loads((folder / "statistics.json").read_text())["content_sha256"]
    for name in ("statistics.json", "card.md", "collection.json"):
        path = folder / name
        path.write_text(path.read_text().replace(before, content_digest(entries())))
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries())
    (folder / "checksums.sha256").write_text(lines)


def row_of(folder: Path, chip: str) -> dict[str, Any]:
    table = gpd.read_parquet(folder / f"index/{chip.partition('-')[0]}.parquet").set_index("sample_id", drop=False)
    return table.loc[chip].to_dict()


def edit(folder: Path, chips: str | Sequence[str], tables: str = "index samples pairs", **values: Any) -> None:
    """Set columns of chips in the given tables, if they have them."""
    for path in [folder / "samples.parquet", *folder.glob("index/*.parquet"), *folder.glob("pairs/*.parquet")]:
        if (path.stem if path.parent == folder else path.parent.name) not in tables.split():
            continue
        table = gpd.read_parquet(path) if path.parent.name != "pairs" else pd.read_parquet(path)
        selected = table["sample_id"].isin([chips] if isinstance(chips, str) else chips)
        for name, value in values.items():
            if name in table and selected.any():
                table.loc[selected, name] = value
        table.to_parquet(path)


def repaint(folder: Path, chip: str, kind: str, paint: Callable[[np.ndarray], np.ndarray], **changes: Any) -> None:
    """Rewrite a chip's file with changed pixels or format."""
    row = row_of(folder, chip)
    array = raster_io.read(folder / "chips" / row[kind])[0]
    store(folder, row, kind, paint(array.copy()), **changes)


def move(folder: Path, chip: str, east: float, north: float, tables: bool = True) -> None:
    """Move a chip's files and, with `tables`, the chip in all tables."""
    row = row_of(folder, chip)
    moved = row | {"minx": row["minx"] + east, "miny": row["miny"] + north}
    for kind in CHIP_RASTERS:
        store(folder, moved, kind, raster_io.read(folder / "chips" / row[kind])[0])
    if tables:
        edit(folder, chip, minx=moved["minx"], miny=moved["miny"])
        edit(folder, chip, "index", geometry=square(moved))
