"""Faults of tables, splits and documents, injected into a dataset, with all findings that must be reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from support.chip_faults import file_of
from support.tiny_dataset import DATES, REACHES, edit, move, put, rebuild, repaint, row_of, square, update_checksums

from jointseg.provenance.digest import file_digest
from jointseg.raster import io as raster_io
from jointseg.runtime.files import remove_path

TRAIN = [f"{reach}-{number:04d}" for reach in REACHES for number in (1, 2, 3)]
VALIDATION, TEST = ([f"{reach}-{number:04d}" for number in (4, 5, 6)] for reach in REACHES)


def change_rows(folder: Path, change: Callable[[gpd.GeoDataFrame], pd.DataFrame], names: str = "index.parquet") -> None:
    for path in folder.glob(names):
        put(change(gpd.read_parquet(path)), path)
    update_checksums(folder)


def edit_and_rebuild(*chips: str, tables: str = "index samples pairs", **values: Any) -> Callable[[Path], None]:
    def inject(folder: Path) -> None:
        edit(folder, chips, tables, **values)
        rebuild(folder)

    return inject


def replace_text(name: str, old: str, new: str, sums: bool = True) -> Callable[[Path], None]:
    def inject(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        if sums:
            update_checksums(folder)

    return inject


def remove(name: str) -> Callable[[Path], None]:
    def inject(folder: Path) -> None:
        remove_path(folder / name)
        if name != "checksums.sha256":
            update_checksums(folder)

    return inject


def move_file(folder: Path) -> None:
    file_of(folder, "up-0001", "lr").rename(folder / "chips/up/other.tif")
    edit_and_rebuild("up-0001", lr="up/other.tif")(folder)


def place_on_another(folder: Path) -> None:
    first = row_of(folder, "up-0001")
    edit(folder, "up-0002", minx=first["minx"], miny=first["miny"])
    edit(folder, "up-0002", "index", geometry=square(first))
    rebuild(folder)


def move_chip(chip: str, east: float, north: float) -> Callable[[Path], None]:
    def inject(folder: Path) -> None:
        move(folder, chip, east, north)
        rebuild(folder)

    return inject


def make_test_impervious(folder: Path) -> None:
    for chip in TEST:
        repaint(folder, chip, "label", np.ones_like)
        repaint(folder, chip, "fraction", lambda array: np.full_like(array, 10_000))
    edit_and_rebuild(*TEST, isa_fraction=1.0)(folder)


def copy_image(folder: Path) -> None:
    for kind in ("lr", "hr"):
        pixels = raster_io.read(file_of(folder, "low-0002", kind))[0]
        repaint(folder, "up-0005", kind, lambda array, pixels=pixels: pixels)
    rebuild(folder)


def change_digest(folder: Path) -> None:
    digest = json.loads((folder / "statistics.json").read_text())["content_sha256"]
    for name in ("statistics.json", "card.md", "collection.json"):
        replace_text(name, digest, "0" * 64, sums=False)(folder)
    path = folder / "checksums.sha256"
    lines = [line.split("  ") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{file_digest(folder / name)}  {name}\n" for _, name in lines))


def drop_checksum(folder: Path) -> None:
    path = folder / "checksums.sha256"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if "items/up/up-0003" not in line)
    )


def add_file(folder: Path) -> None:
    (folder / "chips/up/notes.txt").write_text("to do")


def add_checksum(folder: Path) -> None:
    path = folder / "checksums.sha256"
    path.write_text(path.read_text() + f"{'0' * 64}  labels/middle.parquet\n")


def invert_label(folder: Path) -> None:
    repaint(folder, "up-0001", "label", lambda array: 1 - array)


DATASET_FAULTS: dict[str, tuple[Callable[[Path], None], set[tuple[str, str]]]] = {
    "a missing column": (
        lambda folder: change_rows(folder, lambda table: table.drop(columns="stratum"), "index*.parquet"),
        {("columns", "")},
    ),
    "years as fractions": (
        lambda folder: change_rows(folder, lambda table: table.astype({"s2_year": float})),
        {("column-type", "")},
    ),
    "an invalid split": (edit_and_rebuild(*TRAIN[:3], split="holdout"), {("column-value", chip) for chip in TRAIN[:3]}),
    "a probability of 1.2": (edit_and_rebuild("up-0002", inclusion_probability=1.2), {("column-value", "up-0002")}),
    "a probability of 0": (edit_and_rebuild("up-0002", inclusion_probability=0.0), {("column-value", "up-0002")}),
    "a correlation of 1.4": (edit_and_rebuild("up-0002", registration_correlation=1.4), {("column-value", "up-0002")}),
    "a shift of 1 km": (edit_and_rebuild("up-0002", shift_x_m=1000.0), {("column-value", "up-0002")}),
    "an invalid date": (
        edit_and_rebuild("low-0001", hr_date="2022-13-40T00:00:00Z"),
        {("column-value", "low-0001"), ("scene-date", "low-0001")},
    ),
    "a scene of two dates": (edit_and_rebuild("low-0001", hr_date=DATES[1]), {("scene-date", "low-0001")}),
    "a code that is not a UTM zone": (
        edit_and_rebuild("up-0003", epsg=3857),
        {("epsg", "up-0003"), ("crs", "up-0003")},
    ),
    "a duplicate row": (
        lambda folder: change_rows(folder, lambda table: pd.concat([table, table.iloc[11:]])),
        {("id-duplicate", "up-0006")},
    ),
    "two chips at one position": (place_on_another, {("position-duplicate", "up-0002"), ("position", "up-0002")}),
    "unsorted rows": (lambda folder: change_rows(folder, lambda table: table.iloc[::-1]), {("id-order", "up-0005")}),
    "another reach": (
        edit_and_rebuild("up-0003", reach="down", tables="index samples"),
        {("id-reach", "up-0003"), ("path", "up-0003"), ("reach-table", "up-0003")},
    ),
    "another path": (move_file, {("path", "up-0001")}),
    "a corner off the lattice": (
        edit_and_rebuild("low-0001", minx=659_997.0),
        {("corner", "low-0001"), ("position", "low-0001"), ("outline", "low-0001")},
    ),
    "a displaced outline": (
        lambda folder: edit_and_rebuild("up-0001", geometry=square(row_of(folder, "up-0001"), 30))(folder),
        {("outline", "up-0001")},
    ),
    "a different index of a reach": (
        lambda folder: edit(folder, "up-0001", "index", clear_min=1.0) or update_checksums(folder),
        {("reach-table", "up-0001")},
    ),
    "different samples": (
        lambda folder: edit(folder, "up-0001", "samples", inclusion_probability=0.5) or update_checksums(folder),
        {("sample", "up-0001")},
    ),
    "different pairs": (
        lambda folder: edit(folder, "up-0001", "pairs", shift_x_m=2.0) or update_checksums(folder),
        {("pair", "up-0001")},
    ),
    "a rejected pair": (
        lambda folder: edit(folder, "up-0001", "pairs", status="low correlation") or update_checksums(folder),
        {("pair", "up-0001")},
    ),
    "an unlisted file": (add_file, {("file-unlisted", "")}),
    "splits 70 m apart": (move_chip("low-0005", -70, 0), {("leakage", "low-0005"), ("spacing", "low-0005")}),
    "splits that overlap": (move_chip("up-0005", -200, 0), {("leakage", "low-0005")}),
    "chips that overlap": (move_chip("low-0001", 0, 200), {("overlap", "low-0001")}),
    "centres too close": (move_chip("low-0001", 0, 100), {("spacing", "low-0001")}),
    "a block in two splits": (edit_and_rebuild("low-0002", split="validation"), {("block-split", "low-0002")}),
    "no validation": (edit_and_rebuild(*VALIDATION, split="train"), {("split-empty", "")}),
    "unbalanced splits": (make_test_impervious, {("split-balance", "")}),
    "an image in two splits": (copy_image, {("duplicate-image", "up-0005")}),
    "no sources": (remove("sources.json"), {("document-missing", "")}),
    "no checksums": (remove("checksums.sha256"), {("document-missing", "")}),
    "no labels": (remove("labels"), {("document-missing", "")}),
    "a truncated document": (replace_text("sources.json", "}", ""), {("document-unreadable", "")}),
    "a table of text": (
        lambda folder: (folder / "samples.parquet").write_text("none") and update_checksums(folder),
        {("document-unreadable", "")},
    ),
    "two versions": (replace_text("collection.json", "1.2.3", "1.2.4"), {("version", "")}),
    "another digest": (change_digest, {("digest", "")}),
    "a file without a checksum": (drop_checksum, {("checksum-list", "")}),
    "a checksum without a file": (add_checksum, {("checksum-list", ""), ("digest", "")}),
    "a changed card": (replace_text("card.md", "Licences", "Rights", sums=False), {("checksum", "")}),
    "changed labels": (
        invert_label,
        {(name, "up-0001") for name in ("checksum", "isa-fraction", "fraction-label")} | {("statistics", "")},
    ),
    "another mean": (
        replace_text("statistics.json", '"mean": [\n      0.', '"mean": [\n      1.'),
        {("statistics", "")},
    ),
    "another count": (replace_text("statistics.json", '"train": 6', '"train": 7'), {("statistics", "")}),
    "a card of 99 chips": (replace_text("card.md", "12 chips of", "99 chips of"), {("card", "")}),
    "a chip missing in the collection": (
        replace_text("collection.json", "up/up-0003.json", "up/up-0033.json"),
        {("collection", "up-0003"), ("collection", "")},
    ),
    "a missing item": (remove("items/up/up-0003.json"), {("item", "up-0003")}),
    "an item of another split": (replace_text("items/up/up-0003.json", '"train"', '"test"'), {("item", "up-0003")}),
    "an item at another position": (
        replace_text("items/low/low-0002.json", '"bbox": [\n  1', '"bbox": [\n  2'),
        {("item", "low-0002")},
    ),
    "a scene missing in the sources": (replace_text("sources.json", "JL1GF03B02", "JL1GF03B05"), {("source", "")}),
}
