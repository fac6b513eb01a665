"""Checks of the documents: there, readable, of one version, and telling what the data are."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import shapely

from jointseg.dataset.band_statistics import BandStatistics
from jointseg.dataset.collection import content_digest, split_summary
from jointseg.dataset.contract import CHIP_RASTERS
from jointseg.dataset.stac import item_path
from jointseg.dataset.validation.base import DATASET_CHECKS, FOLDER_CHECKS, INDEX, ChipSummary, Folder, Violation, check
from jointseg.provenance.digest import Entry, file_digest

CARD, STATISTICS, SOURCES, COLLECTION = "card.md", "statistics.json", "sources.json", "collection.json"
CHECKSUMS, SAMPLES = "checksums.sha256", "samples.parquet"
DOCUMENTS = (INDEX, CARD, STATISTICS, SOURCES, COLLECTION, CHECKSUMS, SAMPLES)
FOLDERS = ("chips/", "index/", "pairs", "labels", "items/")  # what a name of a dataset's other files begins with
TOLERANCE = 2e-6
_STEP = "run the step `dataset` again"


@check(FOLDER_CHECKS, "document-missing", "a table or a document is not there", _STEP)
def missing(folder: Folder) -> Iterator[Violation]:
    for name in DOCUMENTS:
        if name not in folder.files:
            yield Violation("", name, "not there", "a file of every dataset")
    for start in FOLDERS[1:]:
        if not any(file.startswith(start) for file in folder.files):
            yield Violation("", start, "not there", "a folder of every dataset")


@check(FOLDER_CHECKS, "document-unreadable", "a table or a document cannot be read", _STEP)
def unreadable(folder: Folder) -> Iterator[Violation]:
    yield from folder.unreadable


@check(FOLDER_CHECKS, "version", "card, statistics and collection do not tell one version and one digest", _STEP)
def version(folder: Folder) -> Iterator[Violation]:
    statistics, collection, card = (folder.documents.get(name) for name in (STATISTICS, COLLECTION, CARD))
    told = {}
    if statistics is not None:
        told[STATISTICS] = (statistics.get("version"), statistics.get("content_sha256"))
    if collection is not None:
        told[COLLECTION] = (collection.get("version"), collection.get("isaseg:content_sha256"))
    if card is not None:
        found = re.search(r"^Version (\S+); sha256 of the content `([0-9a-f]{64})`", card, re.M)
        told[CARD] = (found[1], found[2]) if found else (None, None)
    for name, (number, digest) in told.items():
        if number is None or digest is None:
            yield Violation("", name, "tells no version or no digest", "the version and the digest of the content")
    numbers = {each for each in told.values() if None not in each}
    if len(numbers) > 1:
        for name, (number, digest) in told.items():
            if number is not None and digest is not None:
                yield Violation("", name, f"version {number}, content {digest[:12]}", "the same in all three")


@check(FOLDER_CHECKS, "digest", "the digest of the content is not that of the checksums", _STEP)
def digest(folder: Folder) -> Iterator[Violation]:
    told, sums = folder.document(STATISTICS).get("content_sha256"), folder.documents.get(CHECKSUMS)
    if told and sums is not None:
        found = content_digest(Entry(name, 0, each) for name, each in sums.items())
        if found != told:
            yield Violation("", STATISTICS, f"content_sha256 {told[:12]}...", f"{found[:12]}..., by {CHECKSUMS}")


@check(FOLDER_CHECKS, "checksum-list", "a file has no checksum, or a checksum no file", _STEP)
def checksum_list(folder: Folder) -> Iterator[Violation]:
    if (sums := folder.documents.get(CHECKSUMS)) is None:
        return
    ours = {name for name in folder.files if name in DOCUMENTS or name.startswith(FOLDERS)} - {CHECKSUMS}
    named = {f"chips/{path}" for kind in CHIP_RASTERS if kind in folder.table for path in folder.table[kind]}
    for name in sorted(ours - set(sums)):
        if not name.startswith("chips/") or name in named:
            yield Violation("", name, "no checksum", f"a line of {CHECKSUMS}")
    for name in sorted(set(sums) - folder.files - named - set(DOCUMENTS)):
        yield Violation("", name, "a checksum, but no file", "a file for every checksum")


@check(
    DATASET_CHECKS,
    "checksum",
    "a file has another checksum: it was changed since",
    "restore it, or run the step `dataset`",
)
def checksum(folder: Folder, tales: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    sums = folder.documents.get(CHECKSUMS) or {}
    read = {file: (each, chip) for chip, tale in tales.items() for file, each in tale.digests.items()}
    for name, wanted in sorted(sums.items()):
        if name not in folder.files:
            continue
        found, chip = read.get(name) or (file_digest(folder.path / name), "")
        if found != wanted:
            yield Violation(chip, name, f"sha256 {found[:12]}...", f"{wanted[:12]}..., by {CHECKSUMS}")


@check(DATASET_CHECKS, "statistics", "the statistics are not those of the data", _STEP)
def statistics(folder: Folder, tales: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    told = folder.documents.get(STATISTICS)
    if told is None or not {"split", "isa_fraction"} <= set(folder.table):
        return
    table = folder.table.assign(isa_fraction=[tales[name].share for name in folder.table["sample_id"]])
    wanted = split_summary(table)
    train = [tales[name] for name in table["sample_id"][table["split"] == "train"]]
    for kind in ("lr", "hr"):
        if train and all(kind in tale.sums for tale in train):  # else a file is at fault, and named
            moments = BandStatistics()
            for tale in train:
                moments.add(tale.sums[kind])
            wanted[kind] = moments.summary()
    wanted["chip_m"] = folder.chip_m
    if lacking := [key for key in wanted if key not in told]:
        yield Violation("", STATISTICS, f"without {', '.join(lacking)}", "every key of the contract")
    for key, value in wanted.items():
        if key in told:
            yield from _unequal(key, told[key], value)


def _unequal(key: str, told: Any, wanted: Any) -> Iterator[Violation]:
    if isinstance(wanted, dict):
        held = told if isinstance(told, dict) else {}
        for name, value in wanted.items():
            if name in held:
                yield from _unequal(f"{key}.{name}", held[name], value)
            elif name != "pixels":
                yield Violation("", STATISTICS, f"{key} without {name}", f"{value}, by the data")
    elif isinstance(wanted, list):
        if not isinstance(told, list) or len(told) != len(wanted):
            yield Violation("", STATISTICS, f"{key} is {told}", f"{wanted}, by the data")
            return
        for number, (one, value) in enumerate(zip(told, wanted)):
            yield from _unequal(f"{key}[{number}]", one, value)
    elif isinstance(wanted, int | float) and isinstance(told, int | float):
        if not math.isclose(told, wanted, rel_tol=0, abs_tol=TOLERANCE if isinstance(wanted, float) else 0):
            yield Violation("", STATISTICS, f"{key} is {told}", f"{wanted}, by the data")
    elif told != wanted:
        yield Violation("", STATISTICS, f"{key} is {told}", f"{wanted}, by the data")


@check(FOLDER_CHECKS, "card", "the card tells another number of chips", _STEP)
def card(folder: Folder) -> Iterator[Violation]:
    text = folder.documents.get(CARD)
    if text is not None and len(folder.table):
        found = re.search(r"^(\d+) chips of (\d+) m:", text, re.M)
        if found is None or (int(found[1]), int(found[2])) != (len(folder.table), folder.chip_m):
            told = f"{found[0]}" if found else "no number of chips"
            yield Violation("", CARD, told, f"{len(folder.table)} chips of {folder.chip_m} m")


@check(FOLDER_CHECKS, "collection", "the collection does not list the chips", _STEP)
def collection(folder: Folder) -> Iterator[Violation]:
    if (told := folder.documents.get(COLLECTION)) is None or not len(folder.table):
        return
    links = [link.get("href") for link in told.get("links", []) if link.get("rel") == "item"]
    wanted = {f"./items/{item_path(row)}": row["sample_id"] for row in folder.table.to_dict("records")}
    for href in sorted(set(wanted) - set(links)):
        yield Violation(wanted[href], COLLECTION, "no link to its item", href)
    for href in sorted({str(link) for link in links} - set(wanted)):
        yield Violation("", COLLECTION, f"links to {href}", "items of the index only")


@check(FOLDER_CHECKS, "item", "an item of the collection is missing, or does not tell of its chip", _STEP)
def item(folder: Folder) -> Iterator[Violation]:
    if not any(file.startswith("items/") for file in folder.files):
        return
    for row in folder.table.to_dict("records"):
        file = f"items/{item_path(row)}"
        if file not in folder.files:
            yield Violation(row["sample_id"], file, "not there", "an item for every chip")
            continue
        try:
            told = json.loads((folder.path / file).read_bytes())
            found = {
                "id": told["id"],
                "datetime": told["properties"]["datetime"],
                "split": told["properties"]["isaseg:split"],
                "corner": tuple(told["properties"]["proj:bbox"][:2]),
                "assets": {name: asset["href"] for name, asset in told["assets"].items()},
                "bbox": [float(edge) for edge in told["bbox"]],
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Violation(row["sample_id"], file, f"{type(error).__name__}: {error}", "a STAC item")
            continue
        wanted = {
            "id": row["sample_id"],
            "datetime": row.get("hr_date"),
            "split": row.get("split"),
            "corner": (row["minx"], row["miny"]),
            "assets": {name: f"../../chips/{row[name]}" for name in CHIP_RASTERS if name in row},
            "bbox": shapely.bounds(row["geometry"]).tolist() if row.get("geometry") is not None else None,
        }
        for key, value in wanted.items():
            if value is not None and not (found[key] == value or (key == "bbox" and _near(found[key], value))):
                yield Violation(row["sample_id"], file, f"{key} is {found[key]}", f"{value}, as in the index")


def _near(one: list[float], other: list[float]) -> bool:
    """Whether the edges of two boxes, degrees, agree to a metre."""
    return len(one) == len(other) and all(abs(a - b) <= 1e-5 for a, b in zip(one, other))


@check(FOLDER_CHECKS, "source", "the sources do not tell of what the index shows", _STEP)
def source(folder: Folder) -> Iterator[Violation]:
    told = folder.documents.get(SOURCES)
    if told is None or "scene_id" not in folder.table:
        return
    listed = {each["scene"]: each["chips"] for each in told.get("scenes", {}).get("jilin1", [])}
    used = folder.table["scene_id"].value_counts().sort_index()
    for scene, count in used.items():
        if scene not in listed:
            yield Violation("", SOURCES, f"without scene {scene}", f"the scene of {count} chips")
        elif listed[scene] != count:
            yield Violation("", SOURCES, f"{listed[scene]} chips of scene {scene}", f"{count}, as in the index")
    for scene in sorted(set(listed) - set(used.index)):
        yield Violation("", SOURCES, f"scene {scene}", "scenes of the index only")


def parsed(name: str, content: bytes) -> Any:
    """A document from its bytes. Raises ValueError when it is not what its name says."""
    if name == CARD:
        return content.decode()
    if name == CHECKSUMS:
        return dict(_line(line) for line in content.decode().splitlines())
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    return told


def _line(line: str) -> tuple[str, str]:
    found = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
    if not found:
        raise ValueError(f"the line {line[:40]!r} is not `sha256  path`")
    return found[2], found[1]
