"""Open the scene reader of a source."""

from pathlib import Path

from jointseg.area.grid import Tile
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import earthengine, stac
from jointseg.sentinel2.response_cache import CachingReader
from jointseg.sentinel2.scene_windows import FileReader, SceneReader


def open_reader(
    source: dict,
    archive: Path | None,
    tile: Tile,
    level: str,
    parallel_requests: int = 1,
    response_cache: str | None = None,
) -> SceneReader:
    """Return the reader of a source for a tile, with a cache of server responses if a folder is set."""
    if source["kind"] == "archive":
        reader: SceneReader = FileReader(archives.archive_root(source, archive), tile.epsg)
    elif source["kind"] == "stac":
        reader = stac.StacReader(source, tile.epsg, level)
    else:
        reader = earthengine.EarthEngineReader(source, tile.epsg)
    reader.workers = parallel_requests
    if response_cache is None or source["kind"] == "archive":
        return reader
    return CachingReader(reader, Path(response_cache))
