import functools
import json
import sys

from jointseg import settings, steps
from jointseg.errors import DataError
from jointseg.grid import neighbours, parse_tile
from jointseg.provenance.digest import code_digest

try:
    C = settings.load(config)
except DataError as error:
    raise WorkflowError(str(error))

R = C.results
METHODS = ["superres", *C.accuracy.baselines]
REACHES = list(C.study_area.reaches)
CITIES = list(C.study_area.city_reach)


wildcard_constraints:
    year=r"\d{4}",
    tile=r"\d{2}[NS]_E\d{4}_N\d{4,5}",
    reach="|".join(REACHES),
    city="|".join(CITIES),
    method="|".join(METHODS),
    product="|".join(C.accuracy.products) or "none",


def code(rule):
    """Digest of a rule's step module with everything of the package that it imports."""
    return code_digest(steps.module(rule))


def manifest(job):
    return f"{R}/manifests/{job}.json"


@functools.cache
def read_tiles(path):
    with open(path) as file:
        return [feature["properties"] for feature in json.load(file)["features"]]


def tiles(year=None, reach=None, city=None):
    """Ids of the tiles mapped in a year, or that touch a reach or a city."""
    found = read_tiles(checkpoints.grid.get().output.tiles)
    if year is not None and int(year) != C.map_year:
        found = [tile for tile in found if tile["cities"]]
    if reach is not None:
        found = [tile for tile in found if reach in tile["reaches"]]
    if city is not None:
        found = [tile for tile in found if city in tile["cities"]]
    return [tile["tile"] for tile in found]


def composites(year, ids):
    return expand(f"{R}/sentinel2/composites/{year}/{{tile}}.tif", tile=ids)


def weights(part, method="superres"):
    """The checkpoint that maps: given by the config, or trained here."""
    if C.weights is not None:
        return getattr(C.weights, part)
    return f"{R}/superres/adversarial.safetensors" if part == "superres" else f"{R}/segmentation/{method}.safetensors"
