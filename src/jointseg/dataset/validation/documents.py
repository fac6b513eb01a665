"""Checks of the documents: presence, readability, consistent versions, and agreement with the data."""

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
FOLDERS = ("chips/", "index/", "pairs", "labels", "items/")  # prefixes of a dataset's other files
TOLERANCE = 2e-6
BBOX_TOLERANCE_DEG = 1e-5  # about one metre
_RERUN = "rerun step `dataset`"


@check(FOLDER_CHECKS, "document-missing", "a table or a document is missing", _RERUN)
def missing(folder: Folder) -> Iterator[Violation]:
    for name in DOCUMENTS:
        if name not in folder.files:
            yield Violation("", name, "missing", "a file of every dataset")
    for prefix in FOLDERS[1:]:
        if not any(file.startswith(prefix) for file in folder.files):
            yield Violation("", prefix, "missing", "a folder of every dataset")


@check(FOLDER_CHECKS, "document-unreadable", "a table or a document cannot be read", _RERUN)
def unreadable(folder: Folder) -> Iterator[Violation]:
    yield from folder.unreadable


@check(FOLDER_CHECKS, "version", "card, statistics and collection differ in version or digest, or lack them", _RERUN)
def version(folder: Folder) -> Iterator[Violation]:
    statistics, collection, card = (folder.documents.get(name) for name in (STATISTICS, COLLECTION, CARD))
    versions = {}
    if statistics is not None:
        versions[STATISTICS] = (statistics.get("version"), statistics.get("content_sha256"))
    if collection is not None:
        versions[COLLECTION] = (collection.get("version"), collection.get("isaseg:content_sha256"))
    if card is not None:
        found = re.search(r"^Version (\S+); sha256 of the content `([0-9a-f]{64})`", card, re.M)
        versions[CARD] = (found[1], found[2]) if found else (None, None)
    complete = {name: values for name, values in versions.items() if None not in values}
    for name in set(versions) - set(complete):
        yield Violation("", name, "lacks version or digest", "the version and the digest of the content")
    if len(set(complete.values())) > 1:
        for name, (number, digest) in complete.items():
            yield Violation("", name, f"version {number}, content {digest[:12]}", "the same in all three")


@check(FOLDER_CHECKS, "digest", "the digest of the content differs from that of the checksums", _RERUN)
def digest(folder: Folder) -> Iterator[Violation]:
    recorded, checksums = folder.document(STATISTICS).get("content_sha256"), folder.documents.get(CHECKSUMS)
    if recorded and checksums is not None:
        actual = content_digest(Entry(name, 0, sha256) for name, sha256 in checksums.items())
        if actual != recorded:
            value = f"content_sha256 {recorded[:12]}..."
            yield Violation("", STATISTICS, value, f"{actual[:12]}..., from {CHECKSUMS}")


@check(FOLDER_CHECKS, "checksum-list", "a file has no checksum, or a checksum has no file", _RERUN)
def checksum_list(folder: Folder) -> Iterator[Violation]:
    if (checksums := folder.documents.get(CHECKSUMS)) is None:
        return
    own = {name for name in folder.files if name in DOCUMENTS or name.startswith(FOLDERS)} - {CHECKSUMS}
    indexed = {f"chips/{path}" for kind in CHIP_RASTERS if kind in folder.table for path in folder.table[kind]}
    for name in sorted(own - set(checksums)):
        if not name.startswith("chips/") or name in indexed:
            yield Violation("", name, "no checksum", f"a line of {CHECKSUMS}")
    for name in sorted(set(checksums) - folder.files - indexed - set(DOCUMENTS)):
        yield Violation("", name, "a checksum, but no file", "a file for every checksum")


@check(DATASET_CHECKS, "checksum", "a file differs from its checksum", "restore the file, or rerun step `dataset`")
def checksum(folder: Folder, summaries: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    checksums = folder.documents.get(CHECKSUMS) or {}
    read = {file: (sha256, chip) for chip, summary in summaries.items() for file, sha256 in summary.digests.items()}
    for name, recorded in sorted(checksums.items()):
        if name not in folder.files:
            continue
        actual, chip = read.get(name) or (file_digest(folder.path / name), "")
        if actual != recorded:
            yield Violation(chip, name, f"sha256 {actual[:12]}...", f"{recorded[:12]}..., from {CHECKSUMS}")


@check(DATASET_CHECKS, "statistics", "the statistics differ from those of the data", _RERUN)
def statistics(folder: Folder, summaries: Mapping[str, ChipSummary]) -> Iterator[Violation]:
    recorded = folder.documents.get(STATISTICS)
    if recorded is None or not {"split", "isa_fraction"} <= set(folder.table):
        return
    table = folder.table.assign(isa_fraction=[summaries[name].isa_fraction for name in folder.table["sample_id"]])
    actual = split_summary(table)
    train = [summaries[name] for name in table["sample_id"][table["split"] == "train"]]
    for kind in ("lr", "hr"):
        if train and all(kind in summary.sums for summary in train):  # else another check reports the file
            totals = BandStatistics()
            for summary in train:
                totals.add(summary.sums[kind])
            actual[kind] = totals.summary()
    actual["chip_m"] = folder.chip_m
    if absent := [key for key in actual if key not in recorded]:
        yield Violation("", STATISTICS, f"without {', '.join(absent)}", "every key of the contract")
    for key, value in actual.items():
        if key in recorded:
            yield from _differences(key, recorded[key], value)


def _differences(key: str, recorded: Any, actual: Any) -> Iterator[Violation]:
    """Yield the differences of two values, recursively for dictionaries and lists; floats within TOLERANCE."""
    if isinstance(actual, dict):
        entries = recorded if isinstance(recorded, dict) else {}
        for name, value in actual.items():
            if name in entries:
                yield from _differences(f"{key}.{name}", entries[name], value)
            elif name != "pixels":
                yield Violation("", STATISTICS, f"{key} without {name}", f"{value}, from the data")
        return
    if isinstance(actual, list) and isinstance(recorded, list) and len(recorded) == len(actual):
        for number, (entry, value) in enumerate(zip(recorded, actual)):
            yield from _differences(f"{key}[{number}]", entry, value)
        return
    if isinstance(actual, int | float) and isinstance(recorded, int | float):
        tolerance = TOLERANCE if isinstance(actual, float) else 0
        equal = math.isclose(recorded, actual, rel_tol=0, abs_tol=tolerance)
    else:
        equal = recorded == actual
    if not equal:
        yield Violation("", STATISTICS, f"{key} is {recorded}", f"{actual}, from the data")


@check(FOLDER_CHECKS, "card", "the card states another number or size of chips", _RERUN)
def card(folder: Folder) -> Iterator[Violation]:
    text = folder.documents.get(CARD)
    if text is not None and len(folder.table):
        found = re.search(r"^(\d+) chips of (\d+) m:", text, re.M)
        if found is None or (int(found[1]), int(found[2])) != (len(folder.table), folder.chip_m):
            value = found[0] if found else "no number of chips"
            yield Violation("", CARD, value, f"{len(folder.table)} chips of {folder.chip_m} m")


@check(FOLDER_CHECKS, "collection", "the collection does not list the chips of the index", _RERUN)
def collection(folder: Folder) -> Iterator[Violation]:
    if (document := folder.documents.get(COLLECTION)) is None or not len(folder.table):
        return
    links = [link.get("href") for link in document.get("links", []) if link.get("rel") == "item"]
    expected = {f"./items/{item_path(row)}": row["sample_id"] for row in folder.table.to_dict("records")}
    for href in sorted(set(expected) - set(links)):
        yield Violation(expected[href], COLLECTION, "no link to its item", href)
    for href in sorted({str(link) for link in links} - set(expected)):
        yield Violation("", COLLECTION, f"links to {href}", "items of the index only")


@check(FOLDER_CHECKS, "item", "an item of the collection is missing, or differs from the index", _RERUN)
def item(folder: Folder) -> Iterator[Violation]:
    if not any(file.startswith("items/") for file in folder.files):
        return
    for row in folder.table.to_dict("records"):
        chip, file = row["sample_id"], f"items/{item_path(row)}"
        if file not in folder.files:
            yield Violation(chip, file, "missing", "an item for every chip")
            continue
        try:
            actual = _item_values(json.loads((folder.path / file).read_bytes()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Violation(chip, file, f"{type(error).__name__}: {error}", "a STAC item")
            continue
        expected = {
            "id": chip,
            "datetime": row.get("hr_date"),
            "split": row.get("split"),
            "corner": (row["minx"], row["miny"]),
            "assets": {name: f"../../chips/{row[name]}" for name in CHIP_RASTERS if name in row},
            "bbox": shapely.bounds(row["geometry"]).tolist() if row.get("geometry") is not None else None,
        }
        for key, value in expected.items():
            equal = actual[key] == value or (key == "bbox" and value is not None and _close(actual[key], value))
            if value is not None and not equal:
                yield Violation(chip, file, f"{key} is {actual[key]}", f"{value}, as in the index")


def _item_values(document: dict[str, Any]) -> dict[str, Any]:
    properties = document["properties"]
    return {
        "id": document["id"],
        "datetime": properties["datetime"],
        "split": properties["isaseg:split"],
        "corner": tuple(properties["proj:bbox"][:2]),
        "assets": {name: asset["href"] for name, asset in document["assets"].items()},
        "bbox": [float(edge) for edge in document["bbox"]],
    }


def _close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= BBOX_TOLERANCE_DEG for a, b in zip(one, other))


@check(FOLDER_CHECKS, "source", "the sources do not list the scenes of the index", _RERUN)
def source(folder: Folder) -> Iterator[Violation]:
    document = folder.documents.get(SOURCES)
    if document is None or "scene_id" not in folder.table:
        return
    listed = {entry["scene"]: entry["chips"] for entry in document.get("scenes", {}).get("jilin1", [])}
    used = folder.table["scene_id"].value_counts().sort_index()
    for scene, count in used.items():
        if scene not in listed:
            yield Violation("", SOURCES, f"without scene {scene}", f"the scene of {count} chips")
        elif listed[scene] != count:
            yield Violation("", SOURCES, f"{listed[scene]} chips of scene {scene}", f"{count}, as in the index")
    for scene in sorted(set(listed) - set(used.index)):
        yield Violation("", SOURCES, f"scene {scene}", "scenes of the index only")


def parse(name: str, content: bytes) -> Any:
    """Return a document parsed from its bytes. Raises ValueError if it is invalid."""
    if name == CARD:
        return content.decode()
    if name == CHECKSUMS:
        return dict(_parse_checksum(line) for line in content.decode().splitlines())
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def _parse_checksum(line: str) -> tuple[str, str]:
    found = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
    if not found:
        raise ValueError(f"the line {line[:40]!r} is not `sha256  path`")
    return found[2], found[1]
