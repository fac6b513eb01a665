"""Step `dataset`: the reaches joined into one dataset: index, statistics, card, sources, STAC collection, checksums."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from jointseg.dataset import card as cards
from jointseg.dataset import stac
from jointseg.dataset.band_statistics import BandStatistics, BandSums, band_sums
from jointseg.dataset.contract import CHIP_RASTERS, SPLITS, map_ahead
from jointseg.dataset.source_records import sources as sources_of
from jointseg.provenance.digest import Entry, file_digest, tree_hash
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

READERS = 4  # threads that read chips; the `threads` of the rule `dataset`


def dataset(
    *,
    indexes: Sequence[Path],
    chips: Sequence[Path],
    samples: Path,
    pairs: Sequence[Path],
    labels: Sequence[Path],
    manifests: Sequence[Path],
    index: Path,
    statistics: Path,
    card: Path,
    sources: Path,
    collection: Path,
    stac_items: Path,
    checksums: Path,
    version: str,
    chip_m: int,
    spacing_m: float,
) -> dict[str, Any]:
    """Write the files that make the folder of `index` a self-contained dataset.

    index.parquet contains all reaches. statistics.json contains, for the 10 m and the 1 m images, means and standard
    deviations per band over the valid pixels of the train split, in reflectance; and the ISA fraction and the number of
    chips per split and reach. Each chip is read once, by threads; sums are integers, so that the order of reading has
    no effect.

    `content_sha256` in statistics, card and collection is the sha256 over the sorted checksums of chips and tables. No
    file depends on the time or the paths of the run. Raises DataError if a chip's file is missing or cannot be read, if
    a sample is in two indexes, or if a file is outside the folder of the index.

    Args:
        indexes, pairs, labels: one per reach, named after it.
        chips: one folder per reach, in the folder `chips` beside the index.
        manifests: of the jobs that made the dataset, and of those that made its sources (see `sources`).
        stac_items: folder of the STAC items, one per chip.
    """
    root = Path(index).parent
    table = pd.concat([gpd.read_parquet(path) for path in sorted(indexes)], ignore_index=True)
    table = table.sort_values("sample_id", ignore_index=True)
    _check_files(table, chips, root / "chips")
    with atomic_write(index) as part:
        table.to_parquet(part)
    with atomic_write(sources) as part:
        part.write_text(_json(sources_of(manifests, pairs)), encoding="utf-8")
    contents = _read_chips(table, root / "chips")
    tables = [Path(path) for path in (*indexes, samples, *pairs, *labels, index)]
    entries = [*_entries(tables, root), *(Entry(f"chips/{name}", *file) for name, file in contents.files.items())]
    facts = {"version": version, "content_sha256": content_digest(entries), "chip_m": chip_m, "spacing_m": spacing_m}
    facts |= {**contents.statistics, "bands": contents.bands, **split_summary(table)}
    with atomic_write(statistics) as part:
        part.write_text(_json(facts), encoding="utf-8")
    with atomic_write(card) as part:
        part.write_text(cards.render(table, facts, pairs), encoding="utf-8")
    with atomic_write(collection) as part:
        part.write_text(stac.collection(table, facts), encoding="utf-8")
    with atomic_write(stac_items) as folder:
        folder.mkdir()
        files = {name: Entry(name, *file) for name, file in contents.files.items()}
        stac.write_items(folder, table, files, contents.bands, chip_m)
    with atomic_write(checksums) as part:
        documents = [statistics, card, sources, collection, *Path(stac_items).rglob("*.json")]
        listed = sorted([*entries, *_entries(documents, root)], key=lambda entry: entry.path)
        part.write_text("".join(f"{entry.sha256}  {entry.path}\n" for entry in listed), encoding="utf-8")
    return {"version": version, "content_sha256": facts["content_sha256"], **split_summary(table)}


def content_digest(entries: Iterable[Entry]) -> str:
    """Return the sha256 over the sorted checksums of chips and tables, without the documents, which contain it."""
    return tree_hash(entry for entry in entries if entry.path.endswith((".tif", ".parquet")))


def split_summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return chips and mean ISA fraction per split, and per reach and split; None if no chip has a labelled pixel."""
    reaches = {
        reach: {split: {"chips": len(part), "isa_fraction": _mean(part)} for split, part in rows.groupby("split")}
        for reach, rows in table.groupby("reach", sort=True)
    }
    by_split = {split: table[table["split"] == split] for split in SPLITS if (table["split"] == split).any()}
    return {
        "isa_fraction": {split: _mean(rows) for split, rows in by_split.items()},
        "chips": {split: len(rows) for split, rows in by_split.items()},
        "reaches": reaches,
    }


def _mean(rows: pd.DataFrame) -> float | None:
    mean = float(rows["isa_fraction"].mean())
    return None if math.isnan(mean) else round(mean, 6)


@dataclass
class _ChipContents:
    """Size and sha256 by path, statistics by kind, and bands of the 10 m images, from one reading of all chips."""

    files: dict[str, tuple[int, str]]
    statistics: dict[str, dict[str, list]]
    bands: list[str]


def _read_chips(table: pd.DataFrame, root: Path) -> _ChipContents:
    rasters = [
        (root / row[kind], row[kind], kind if row["split"] == "train" and kind in ("lr", "hr") else "")
        for row in table[[*CHIP_RASTERS, "split"]].to_dict("records")
        for kind in CHIP_RASTERS
    ]
    files: dict[str, tuple[int, str]] = {}
    statistics = {"lr": BandStatistics(), "hr": BandStatistics()}
    read = map_ahead(lambda raster: _read_file(raster[0], bool(raster[2])), rasters, READERS)
    for (_, name, kind), (size, digest, sums) in zip(track(rasters, "files of the chips", unit="file"), read):
        files[name] = (size, digest)
        if kind:
            statistics[kind].add(sums)
    with raster_io.open_raster(root / table["lr"].iloc[0]) as source:
        bands = list(source.descriptions)
    return _ChipContents(files, {kind: totals.summary() for kind, totals in statistics.items()}, bands)


def _read_file(path: Path, with_sums: bool) -> tuple[int, str, BandSums]:
    """Return size, sha256 and, if requested, the band sums of a raster, from one reading of its bytes."""
    content = path.read_bytes()
    sums: BandSums = ()
    if with_sums:
        try:
            with MemoryFile(content) as memory, memory.open() as source:
                sums = band_sums(source.read())
        except RasterioError as error:
            raise DataError(f"{path} cannot be read as a raster ({error}); rerun step `chips`") from error
    return len(content), sha256(content).hexdigest(), sums


def _check_files(table: pd.DataFrame, chips: Sequence[Path], root: Path) -> None:
    if outside := [str(folder) for folder in chips if Path(folder).parent != root]:
        raise DataError(f"the folder of chips {outside[0]} is not in {root}, beside the index; move it there")
    present = {f"{Path(folder).name}/{path.name}" for folder in chips for path in Path(folder).iterdir()}
    indexed = {path for kind in CHIP_RASTERS for path in table[kind]}
    if missing := sorted(indexed - present):
        raise DataError(
            f"{len(missing)} chip files of the index are missing under {root}, first {missing[0]}; rerun step `chips`"
        )
    if table["sample_id"].duplicated().any():
        raise DataError(f"sample {table['sample_id'][table['sample_id'].duplicated()].iloc[0]} is in two indexes")


def _entries(paths: Sequence[Path], root: Path) -> list[Entry]:
    if outside := [str(path) for path in paths if not path.is_relative_to(root)]:
        raise DataError(f"{outside[0]} is not in the folder of the dataset, {root}; move it there")
    return [Entry(path.relative_to(root).as_posix(), path.stat().st_size, file_digest(path)) for path in paths]


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
