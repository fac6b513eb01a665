"""Checksums of rasters in the object store that a job reads by range request, without a download of the whole file."""

import json
from pathlib import Path

from jointseg.provenance.digest import Entry
from jointseg.provenance.manifest import FOLDER, is_sealed
from jointseg.runtime import object_store
from jointseg.runtime.errors import DataError

# The rule that writes the rasters of each results folder, one raster per tile and year.
RULES = {"sentinel2/composites": "composite", "sentinel2/merged": "composite", "isa": "predict"}


def recorded_entry(path: Path) -> Entry:
    """Return size and sha256 of a raster RESULTS/KIND/YEAR/TILE.tif from the manifest of the job that wrote it.

    Raises DataError if it has no manifest, or if its size in the store differs from the recorded size.
    """
    folder, year = path.parent.parent.as_posix(), path.parent.name
    kind = next((kind for kind in RULES if folder.endswith(f"/{kind}")), None)
    if kind is None:
        raise DataError(f"{path} does not exist; rerun the job that writes it")
    manifest = Path(folder.removesuffix(kind)) / FOLDER / RULES[kind] / year / f"{path.stem}.json"
    content = object_store.read(manifest)
    if not is_sealed(content):
        raise DataError(f"{manifest} was edited: its seal does not match; rebuild {path}")
    outputs = json.loads(content)["outputs"]
    recorded = next((output for output in outputs if output["path"] == path.as_posix()), None)
    if recorded is None or object_store.size(path) != recorded["size"]:
        raise DataError(f"{path} does not match its manifest {manifest}; rebuild it")
    return Entry(path.as_posix(), recorded["size"], recorded["sha256"])
