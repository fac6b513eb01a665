"""`jointseg dataset check` names every planted fault, and nothing in a clean dataset."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from support.tiny_dataset import DATES, REACHES, edit, make, move, put, repaint, resum, row_of, seal, square

from jointseg.cli.main import main
from jointseg.dataset.validation.check import CHECKS, THEMES, check
from jointseg.provenance.digest import file_digest
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import remove_path

TRAIN = [f"{reach}-{number:04d}" for reach in REACHES for number in (1, 2, 3)]
VALIDATION, TEST = ([f"{reach}-{number:04d}" for number in (4, 5, 6)] for reach in REACHES)
Plant = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clean") / "dataset")


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "dataset"))


def found(folder: Path) -> set[tuple[str, str]]:
    return {(finding.check, finding.chip) for finding in check(folder).findings}


def test_nothing_is_found_in_a_clean_dataset(clean: Path) -> None:
    report = check(clean)
    assert report.findings == []
    assert (report.chips, report.files, report.version) == (12, 48, "1.2.3")


# Faults of one chip, with the checks that name it.


def file_of(folder: Path, chip: str, kind: str) -> Path:
    return folder / "chips" / row_of(folder, chip)[kind]


def rewrite(**options: Any) -> Plant:
    """The label again, by another driver or with other options."""

    def plant(folder: Path, chip: str) -> None:
        path = file_of(folder, chip, "label")
        plain = path.with_name("plain.tif")
        path.rename(plain)
        rasterio.shutil.copy(plain, path, **({"driver": "COG", "COMPRESS": "DEFLATE", "BLOCKSIZE": 512} | options))
        plain.unlink()

    return plant


def painted(kind: str, paint: Callable[[np.ndarray], np.ndarray] = lambda array: array, **changes: Any) -> Plant:
    return lambda folder, chip: repaint(folder, chip, kind, paint, **changes)


def shifted(kind: str, east: float) -> Plant:
    def plant(folder: Path, chip: str) -> None:
        with rasterio.open(file_of(folder, chip, kind)) as source:
            transform = Affine.translation(east, 0) @ source.transform
        repaint(folder, chip, kind, lambda array: array, transform=transform)

    return plant


def with_values(where: tuple, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def paint(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return paint


def clip(array: np.ndarray) -> np.ndarray:
    return np.minimum(array, np.percentile(array, 80).astype(array.dtype))


def noise(array: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(500, 2500, array.shape).astype(array.dtype)


def unlabel(folder: Path, chip: str) -> None:
    repaint(folder, chip, "label", lambda array: np.full_like(array, 255))
    repaint(folder, chip, "fraction", lambda array: np.full_like(array, 65535))
    edit(folder, chip, "index", isa_fraction=float("nan"))
    seal(folder)


def cut(folder: Path, chip: str) -> None:
    path = file_of(folder, chip, "hr")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


EVERYWHERE = (slice(None),)
CHIP_FAULTS: dict[str, tuple[Plant, set[str]]] = {
    "a file removed": (lambda folder, chip: file_of(folder, chip, "hr").unlink(), {"file-missing"}),
    "a file of text": (lambda folder, chip: file_of(folder, chip, "lr").write_text("moved"), {"file-unreadable"}),
    "a file cut short": (cut, {"file-truncated"}),
    "a GeoTIFF that is no COG": (rewrite(driver="GTiff", TILED="YES", BLOCKXSIZE=512, BLOCKYSIZE=512), {"cog"}),
    "blocks of 128": (rewrite(BLOCKSIZE=128), {"block-size"}),
    "LZW": (rewrite(COMPRESS="LZW"), {"compression"}),
    "a label of 16 bit": (painted("label", lambda array: array.astype(np.uint16)), {"dtype"}),
    "a band lost": (painted("hr", lambda array: array[:2], descriptions=("B04", "B03")), {"band-count"}),
    "bands turned round": (painted("hr", descriptions=("B02", "B03", "B04")), {"band-names"}),
    "no nodata": (painted("label", nodata=None), {"nodata"}),
    "another nodata": (painted("fraction", nodata=0), {"nodata"}),
    "a row lost": (painted("lr", lambda array: array[:, :-1]), {"size"}),
    "another zone": (painted("hr", crs="EPSG:32651"), {"crs"}),
    "half a pixel off": (shifted("hr", 0.5), {"lattice"}),
    "ten metres off": (shifted("label", 10), {"grid"}),
    "all files elsewhere": (lambda folder, chip: move(folder, chip, 10, 0, tables=False), {"position"}),
    "a band unknown": (painted("hr", with_values((1,), 0)), {"all-nodata"}),
    "unknown in one band": (painted("hr", with_values((1, slice(0, 3)), 0)), {"partial-nodata"}),
    "a flat band": (painted("hr", with_values((2,), 900)), {"constant"}),
    "reflectance x 100000": (painted("hr", lambda array: array * np.uint16(10)), {"range"}),
    "digital numbers of 1 bit": (painted("lr", lambda array: (array // 600 + 1).astype(np.uint16)), {"range"}),
    "clipped": (painted("hr", clip), {"clipped"}),
    "10 m east": (painted("hr", lambda array: np.roll(array, 10, axis=2)), {"misaligned"}),
    "8 m north, 4 m west": (painted("hr", lambda array: np.roll(array, (-8, -4), axis=(1, 2))), {"misaligned"}),
    "upside down": (painted("hr", lambda array: array[:, ::-1]), {"uncorrelated"}),
    "noise": (painted("hr", noise), {"uncorrelated"}),
    "a code of 7": (painted("label", with_values((0, slice(0, 2), slice(0, 2)), 7)), {"label-code"}),
    "an unknown label": (unlabel, {"label-empty"}),
    "a wrong share": (lambda folder, chip: edit(folder, chip, isa_fraction=0.01), {"isa-fraction"}),
    "a fraction of 20000": (painted("fraction", with_values((2, 4), 20_000)), {"fraction-range"}),
    "a kind above all": (painted("fraction", with_values((3, 4), 10_000)), {"fraction-kinds"}),
    "no fractions": (painted("fraction", with_values(EVERYWHERE, 0)), {"fraction-label"}),
    "fractions upside down": (painted("fraction", lambda array: array[:, ::-1]), {"fraction-label"}),
}
BATCH = 6
BATCHES = [list(CHIP_FAULTS)[first : first + BATCH] for first in range(0, len(CHIP_FAULTS), BATCH)]


@pytest.mark.parametrize("names", BATCHES, ids=lambda names: names[0])
def test_faults_of_chips_are_named_by_check_and_chip(copy: Path, names: list[str]) -> None:
    """One chip each, none of the train split, whose statistics would then be wrong too."""
    expected = set()
    for name, chip in zip(names, [*VALIDATION, *TEST]):
        plant, checks = CHIP_FAULTS[name]
        plant(copy, chip)
        expected |= {(each, chip) for each in checks}
    put(pd.concat([gpd.read_parquet(copy / f"index/{reach}.parquet") for reach in REACHES]), copy / "index.parquet")
    resum(copy)
    assert found(copy) == expected


# Faults of tables, splits and documents, with everything that must be named.


def rows(folder: Path, change: Callable[[gpd.GeoDataFrame], pd.DataFrame], names: str = "index.parquet") -> None:
    for path in folder.glob(names):
        put(change(gpd.read_parquet(path)), path)
    resum(folder)


def reseal(*chips: str, tables: str = "index samples pairs", **values: Any) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        edit(folder, chips, tables, **values)
        seal(folder)

    return plant


def told(name: str, old: str, new: str, sums: bool = True) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        if sums:
            resum(folder)

    return plant


def removed(name: str) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        remove_path(folder / name)
        if name != "checksums.sha256":
            resum(folder)

    return plant


def at_another_path(folder: Path) -> None:
    file_of(folder, "up-0001", "lr").rename(folder / "chips/up/other.tif")
    reseal("up-0001", lr="up/other.tif")(folder)


def on_another(folder: Path) -> None:
    first = row_of(folder, "up-0001")
    edit(folder, "up-0002", minx=first["minx"], miny=first["miny"])
    edit(folder, "up-0002", "index", geometry=square(first))
    seal(folder)


def moved(chip: str, east: float, north: float) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        move(folder, chip, east, north)
        seal(folder)

    return plant


def all_built(folder: Path) -> None:
    for chip in TEST:
        repaint(folder, chip, "label", np.ones_like)
        repaint(folder, chip, "fraction", lambda array: np.full_like(array, 10_000))
    reseal(*TEST, isa_fraction=1.0)(folder)


def copied(folder: Path) -> None:
    for kind in ("lr", "hr"):
        pixels = raster_io.read(file_of(folder, "low-0002", kind))[0]
        repaint(folder, "up-0005", kind, lambda array, pixels=pixels: pixels)
    seal(folder)


def other_digest(folder: Path) -> None:
    digest = json.loads((folder / "statistics.json").read_text())["content_sha256"]
    for name in ("statistics.json", "card.md", "collection.json"):
        told(name, digest, "0" * 64, sums=False)(folder)
    path = folder / "checksums.sha256"
    lines = [line.split("  ") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{file_digest(folder / name)}  {name}\n" for _, name in lines))


def unlisted(folder: Path) -> None:
    path = folder / "checksums.sha256"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if "items/up/up-0003" not in line)
    )


def another_file(folder: Path) -> None:
    (folder / "chips/up/notes.txt").write_text("to do")


def of_nobody(folder: Path) -> None:
    path = folder / "checksums.sha256"
    path.write_text(path.read_text() + f"{'0' * 64}  labels/middle.parquet\n")


def relabelled(folder: Path) -> None:
    repaint(folder, "up-0001", "label", lambda array: 1 - array)


DATASET_FAULTS: dict[str, tuple[Callable[[Path], None], set[tuple[str, str]]]] = {
    "a column lost": (
        lambda folder: rows(folder, lambda table: table.drop(columns="stratum"), "index*.parquet"),
        {("columns", "")},
    ),
    "years as fractions": (
        lambda folder: rows(folder, lambda table: table.astype({"s2_year": float})),
        {("column-type", "")},
    ),
    "an unknown split": (reseal(*TRAIN[:3], split="holdout"), {("column-value", chip) for chip in TRAIN[:3]}),
    "a probability of 1.2": (reseal("up-0002", inclusion_probability=1.2), {("column-value", "up-0002")}),
    "a probability of 0": (reseal("up-0002", inclusion_probability=0.0), {("column-value", "up-0002")}),
    "a quality of 1.4": (reseal("up-0002", registration_correlation=1.4), {("column-value", "up-0002")}),
    "a shift of 1 km": (reseal("up-0002", shift_x_m=1000.0), {("column-value", "up-0002")}),
    "a date that is none": (
        reseal("low-0001", hr_date="2022-13-40T00:00:00Z"),
        {("column-value", "low-0001"), ("scene-date", "low-0001")},
    ),
    "a scene of two dates": (reseal("low-0001", hr_date=DATES[1]), {("scene-date", "low-0001")}),
    "no zone": (reseal("up-0003", epsg=3857), {("epsg", "up-0003"), ("crs", "up-0003")}),
    "a row twice": (
        lambda folder: rows(folder, lambda table: pd.concat([table, table.iloc[11:]])),
        {("id-duplicate", "up-0006")},
    ),
    "two chips at one place": (on_another, {("position-duplicate", "up-0002"), ("position", "up-0002")}),
    "rows shuffled": (lambda folder: rows(folder, lambda table: table.iloc[::-1]), {("id-order", "up-0005")}),
    "another reach": (
        reseal("up-0003", reach="down", tables="index samples"),
        {("id-reach", "up-0003"), ("path", "up-0003"), ("reach-table", "up-0003")},
    ),
    "another path": (at_another_path, {("path", "up-0001")}),
    "a corner off the lattice": (
        reseal("low-0001", minx=659_997.0),
        {("corner", "low-0001"), ("position", "low-0001"), ("outline", "low-0001")},
    ),
    "an outline elsewhere": (
        lambda folder: reseal("up-0001", geometry=square(row_of(folder, "up-0001"), 30))(folder),
        {("outline", "up-0001")},
    ),
    "a reach's own index": (
        lambda folder: edit(folder, "up-0001", "index", clear_min=1.0) or resum(folder),
        {("reach-table", "up-0001")},
    ),
    "other samples": (
        lambda folder: edit(folder, "up-0001", "samples", inclusion_probability=0.5) or resum(folder),
        {("sample", "up-0001")},
    ),
    "other pairs": (
        lambda folder: edit(folder, "up-0001", "pairs", shift_x_m=2.0) or resum(folder),
        {("pair", "up-0001")},
    ),
    "a rejected pair": (
        lambda folder: edit(folder, "up-0001", "pairs", status="low correlation") or resum(folder),
        {("pair", "up-0001")},
    ),
    "a file of nobody": (another_file, {("file-unlisted", "")}),
    "splits 70 m apart": (moved("low-0005", -70, 0), {("leakage", "low-0005"), ("spacing", "low-0005")}),
    "splits that overlap": (moved("up-0005", -200, 0), {("leakage", "low-0005")}),
    "chips that overlap": (moved("low-0001", 0, 200), {("overlap", "low-0001")}),
    "centres too near": (moved("low-0001", 0, 100), {("spacing", "low-0001")}),
    "a block in two splits": (reseal("low-0002", split="validation"), {("block-split", "low-0002")}),
    "no validation": (reseal(*VALIDATION, split="train"), {("split-empty", "")}),
    "splits unlike each other": (all_built, {("split-balance", "")}),
    "a picture twice, across splits": (copied, {("duplicate-image", "up-0005")}),
    "no sources": (removed("sources.json"), {("document-missing", "")}),
    "no checksums": (removed("checksums.sha256"), {("document-missing", "")}),
    "no labels": (removed("labels"), {("document-missing", "")}),
    "half a document": (told("sources.json", "}", ""), {("document-unreadable", "")}),
    "a table of text": (
        lambda folder: (folder / "samples.parquet").write_text("none") and resum(folder),
        {("document-unreadable", "")},
    ),
    "two versions": (told("collection.json", "1.2.3", "1.2.4"), {("version", "")}),
    "another digest": (other_digest, {("digest", "")}),
    "a file without a checksum": (unlisted, {("checksum-list", "")}),
    "a checksum without a file": (of_nobody, {("checksum-list", ""), ("digest", "")}),
    "a card changed": (told("card.md", "Licences", "Rights", sums=False), {("checksum", "")}),
    "labels changed since": (
        relabelled,
        {(each, "up-0001") for each in ("checksum", "isa-fraction", "fraction-label")} | {("statistics", "")},
    ),
    "another mean": (told("statistics.json", '"mean": [\n      0.', '"mean": [\n      1.'), {("statistics", "")}),
    "another count": (told("statistics.json", '"train": 6', '"train": 7'), {("statistics", "")}),
    "a card of 99 chips": (told("card.md", "12 chips of", "99 chips of"), {("card", "")}),
    "a chip not in the collection": (
        told("collection.json", "up/up-0003.json", "up/up-0033.json"),
        {("collection", "up-0003"), ("collection", "")},
    ),
    "an item lost": (removed("items/up/up-0003.json"), {("item", "up-0003")}),
    "an item of another split": (told("items/up/up-0003.json", '"train"', '"test"'), {("item", "up-0003")}),
    "an item elsewhere": (told("items/low/low-0002.json", '"bbox": [\n  1', '"bbox": [\n  2'), {("item", "low-0002")}),
    "a scene not told of": (told("sources.json", "JL1GF03B02", "JL1GF03B05"), {("source", "")}),
}


@pytest.mark.parametrize("name", DATASET_FAULTS)
def test_faults_of_the_dataset_are_named(copy: Path, name: str) -> None:
    plant, expected = DATASET_FAULTS[name]
    plant(copy)
    assert found(copy) == expected


def test_every_check_has_its_planted_fault() -> None:
    planted = {each for _, checks in CHIP_FAULTS.values() for each in checks}
    planted |= {each for _, expected in DATASET_FAULTS.values() for each, _ in expected}
    assert planted == set(CHECKS)
    assert {each.theme for each in CHECKS.values()} == set(THEMES)
    assert len(planted) >= 30


def test_what_is_no_dataset_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(DataError, match=r"is not a dataset: it contains neither index.parquet nor chips/"):
        check(tmp_path)
    assert main(["dataset", "check", str(tmp_path / "letter.txt")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_the_number_of_workers_changes_nothing(copy: Path) -> None:
    painted("hr", noise)(copy, "up-0004")
    assert check(copy, workers=1).as_json() == check(copy, workers=5).as_json()


def test_the_verb_tells_faults_and_exits_with_1(copy: Path, clean: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["dataset", "check", str(clean)]) == 0
    assert "no fault found" in capsys.readouterr().out
    file_of(copy, "up-0004", "hr").unlink()
    assert main(["dataset", "check", str(copy), "--json"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert finding == {
        "check": "file-missing",
        "chip": "up-0004",
        "file": "chips/up/up-0004_hr.tif",
        "value": "No such file or directory",
        "expected": "a raster",
        "remedy": "rerun step `chips`, or restore the file",
    }
    assert main(["dataset", "check", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "1 file-missing: a file of the index is missing; rerun step `chips`" in out
    assert "12 chips, 47 files" in out
    assert main(["dataset", "check", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in CHECKS)
