"""What a job's manifest says of an input that it reads from the store by range, without fetching all of it to hash it."""

import json
from pathlib import Path

from jointseg.provenance.digest import Entry
from jointseg.provenance.manifest import FOLDER, is_sealed
from jointseg.runtime import object_store
from jointseg.runtime.errors import DataError

# The rule that makes the rasters of a folder of the results, one a year and tile.
MAKERS = {"sentinel2/composites": "composite", "sentinel2/merged": "composite", "isa": "predict"}


def recorded_entry(path: Path) -> Entry:
    """The size and sha256 that the job which made a raster wrote down, as long as the store has one of that size.

    Args:
        path: RESULTS/KIND/YEAR/TILE.tif, of a kind in MAKERS.

    Raises:
        DataError: nobody tells; or what is told is not what is there.
    """
    folder, year = path.parent.parent.as_posix(), path.parent.name
    kind = next((kind for kind in MAKERS if folder.endswith(f"/{kind}")), None)
    if kind is None:
        raise DataError(f"{path} is not there; make it again")
    manifest = Path(folder.removesuffix(kind)) / FOLDER / MAKERS[kind] / year / f"{path.stem}.json"
    content = object_store.read(manifest)
    if not is_sealed(content):
        raise DataError(f"{manifest} is not what the job wrote; make {path} again")
    told = next((each for each in json.loads(content)["outputs"] if each["path"] == path.as_posix()), None)
    if told is None or object_store.size(path) != told["size"]:
        raise DataError(f"{path} is not what {manifest} tells; make it again")
    return Entry(path.as_posix(), told["size"], told["sha256"])
