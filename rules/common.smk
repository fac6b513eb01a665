import atexit
import functools
import json

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
# Per tile and year: the composite, and the merged dates if the config enables them.
MERGED = {"merged": f"{R}/sentinel2/merged/{{year}}/{{tile}}.tif"} if C.sentinel2.merged_dates else {}
COMPOSITE = {"composite": f"{R}/sentinel2/composites/{{year}}/{{tile}}.tif", **MERGED}
# Whether the growth of the cities is also estimated from labelled points.
HAS_POINTS = C.accuracy.growth_points > 0 and len(C.years) > 1
# Whether the maps of the cities are compared with reference products or with the truth.
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
    """Remove the secret of the Kubernetes executor from the cluster: Snakemake leaves it there if there are no jobs."""
    executor = getattr(workflow.scheduler, "_executor", None)
    # An executor that has shut down no longer waits and has removed the secret.
    if getattr(executor, "wait", False) and hasattr(executor, "unregister_secret"):
        executor.unregister_secret()


if workflow.is_main_process:
    atexit.register(withdraw_secret)


def code(rule):
    """Return the code digest of a rule: of its step module and all modules of the package that it imports."""
    return code_digest(steps.module(rule))


def packages(rule):
    """Return the locked versions of the packages that the step of a rule imports."""
    return environment(steps.module(rule))


def per_attempt(amount):
    """Return a resource function, memory (MB) or time (minutes), that grows by `amount` with every attempt of a job."""
    return lambda wildcards, attempt: amount * attempt


def manifest(job):
    return f"{R}/manifests/{job}.json"


def expand_outputs(outputs, **wildcards):
    """Return outputs of another rule for all combinations of wildcards; Snakemake's `expand` rejects paths in a store."""
    paths = [outputs] if isinstance(outputs, str) else outputs
    return expand([object_store.workflow_path(str(path)).as_posix() for path in paths], **wildcards)


def by_range(paths):
    """Return rasters that a step reads by windows: with an object store, as range requests without a local copy."""
    return [storage(f"{STORE}/{path}", retrieve=False) for path in paths] if STORE else paths


@functools.cache
def read_tiles(path):
    return [feature["properties"] for feature in json.loads(object_store.read(path))["features"]]


# Cached, because every job of a tile calls it. Exceptions, raised until the checkpoint has run, are not cached.
@functools.cache
def tile_ids(year=None, reach=None, city=None):
    """Return the ids of the tiles mapped in a year, filtered by reach or city."""
    selected = read_tiles(checkpoints.grid.get().output.tiles)
    if year is not None and int(year) != C.map_year:
        selected = [tile for tile in selected if tile["cities"]]
    if reach is not None:
        selected = [tile for tile in selected if reach in tile["reaches"]]
    if city is not None:
        selected = [tile for tile in selected if city in tile["cities"]]
    return [tile["tile"] for tile in selected]


@functools.cache
def tile_set(year):
    return frozenset(tile_ids(year=year))


def composites(year, ids):
    return by_range(expand(f"{R}/sentinel2/composites/{year}/{{tile}}.tif", tile=ids))


def isa_maps(year, ids):
    return by_range(expand(f"{R}/isa/{year}/{{tile}}.tif", tile=ids))


def generator_checkpoint():
    """Return the generator on whose images the segmenter is trained."""
    return f"{R}/superres/{C.joint.start if C.joint is not None else C.superres.final}.safetensors"


def merged_images(year, ids):
    """Return the merged dates of tiles, if the config enables them."""
    return {name: by_range(expand(path, year=year, tile=ids)) for name, path in MERGED.items()}


def checkpoint_path(part, method="superres"):
    """Return the checkpoint to map with: of the config, or trained in this run."""
    if C.weights is not None:
        return getattr(C.weights, part)
    if part == "superres":
        return f"{R}/superres/{C.superres.final}.safetensors"
    final = "joint" if method == "superres" and C.superres.final == "joint" else method
    return f"{R}/segmentation/{final}.safetensors"


def perceptual_weights(wildcards):
    """Return the weights of the backbone of the perceptual loss, if the config sets a file."""
    path = C.superres.presets[C.superres.preset].adversarial.perceptual_weights
    return {"perceptual_weights": path} if path else {}


def outline_sources(kinds, packaged):
    """Return the sources of regions and cities: packages of boundaries (params) or vector files (inputs)."""
    sources = {kind: getattr(C.study_area, kind) for kind in kinds}
    return {kind: path for kind, path in sources.items() if path and path.startswith("package:") == packaged}


def archive_folder(wildcards):
    """Return the folder of the scenes, if the source is a folder outside a Python package."""
    source = C.sentinel2.source
    return {"archive": source.path} if source.kind == "archive" and not source.path.startswith("package:") else {}


def reference_composite(wildcards):
    """Return the map year's composite of the tile, to which other years are registered and normalised."""
    if not (C.sentinel2.normalise or C.sentinel2.coregister) or int(wildcards.year) == C.map_year:
        return {}
    # Not `by_range`: if both jobs are in one group, the composite is not in the store yet.
    return {"reference": f"{R}/sentinel2/composites/{C.map_year}/{wildcards.tile}.tif"}


def map_year_composites(wildcards):
    """Return the map year's composites of the tiles of another year."""
    if int(wildcards.year) == C.map_year:
        return {}
    return {"base": composites(C.map_year, tile_ids(year=wildcards.year))}


def product_level(year):
    """Return the product level of the scenes of a year."""
    return C.sentinel2.level_by_year.get(int(year), C.sentinel2.level)


def scene_sidecar(wildcards):
    """Return the sidecar file that describes plain band files as a scene, if the config sets one."""
    path = getattr(C.sentinel2.source, "scene", None)
    return {"sidecar": path} if path else {}


def reach_composites(wildcards):
    return composites(C.map_year, tile_ids(reach=wildcards.reach))


def reach_merged(wildcards):
    return merged_images(C.map_year, tile_ids(reach=wildcards.reach))


def dataset_manifests(wildcards):
    """Return the manifests of the jobs that the dataset is built from."""
    ids = sorted({tile for reach in REACHES for tile in tile_ids(reach=reach)})
    jobs = ["samples", "deliveries", *(["prior_density"] if C.dataset.prior_density else [])]
    jobs += [f"{rule}/{reach}" for rule in ("pairing", "labels", "chips") for reach in REACHES]
    jobs += [f"{rule}/{C.map_year}/{tile}" for rule in ("scenes", "composite") for tile in ids]
    return [manifest(job) for job in [*jobs, *(["synthetic"] if C.synthetic is not None else [])]]


def composite_neighbourhood(wildcards):
    """Return the composites and merged dates of a tile and of its neighbours that are mapped in the year."""
    centre = parse_tile(wildcards.tile, C.tile_km)
    ids = [centre.id, *(tile.id for tile in neighbours(centre) if tile.id in tile_set(wildcards.year))]
    return {"composites": composites(wildcards.year, ids)} | merged_images(wildcards.year, ids)


def city_maps(wildcards):
    return isa_maps(wildcards.year, tile_ids(city=wildcards.city))


def preview_tiles():
    """Return the tile of each city with a super-resolved preview: the first of its tiles."""
    return sorted({tile_ids(city=city)[0] for city in CITIES})


def point_inputs(wildcards):
    """Return the districts, the samples of points, and the labels of the cities whose points are labelled."""
    inputs = {"districts": C.accuracy.districts} if C.accuracy.districts else {}
    if not HAS_POINTS:
        return inputs
    sample = C.accuracy.growth_sample or f"{R}/accuracy/change"
    for name, folder in {"strata": "strata", "designs": "design"}.items():
        inputs[name] = expand(f"{sample}/{folder}/{{city}}.csv", city=CITIES)
    if C.synthetic is not None:
        references = expand(f"{R}/accuracy/change/reference/{{city}}.csv", city=CITIES)
    else:
        paths = [f"{C.accuracy.growth_reference}/{city}.csv" for city in CITIES]
        references = [path for path in paths if object_store.exists(path)]
    return inputs | {"references": references}


def available_year(product, year):
    """Return the year of the product's files that is nearest to `year`."""
    return file_year(PRODUCT_TABLE[product], nearest_year(PRODUCT_TABLE[product], year))


def product_mosaics(product, year):
    """Return the folder of the mosaics of a product for a year."""
    return f"{R}/accuracy/mosaics/{product}/{available_year(product, year)}"


def all_product_mosaics():
    """Return the mosaics with which the maps of the cities are compared."""
    return sorted({product_mosaics(name, year) for name in PRODUCTS for year in C.years})


def comparison_inputs(wildcards):
    """Return what a city's maps are compared with: products of the nearest years, and its labelled points if any."""
    inputs = {"products": all_product_mosaics(), "files": C.accuracy.products_folder} if PRODUCTS else {}
    points = point_inputs(wildcards)

    def of_city(paths):
        return [path for path in paths if Path(path).stem == wildcards.city]

    if references := of_city(points.get("references", [])):
        inputs["reference"] = references[0]
        inputs["strata"], inputs["design"] = of_city(points["strata"])[0], of_city(points["designs"])[0]
    return inputs


def consistent_maps(wildcards):
    """Return the temporally filtered maps of the cities, if the config enables them."""
    if C.accuracy.temporal_consistency is None:
        return {}
    return {"filtered": expand(f"{R}/temporal_consistency/{{year}}/{{city}}.tif", year=C.years, city=CITIES)}
