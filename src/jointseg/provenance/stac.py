"""The release as a STAC 1.1 catalogue: a collection of tiles, one of cities, an item a map."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
from rasterio.warp import transform_bounds, transform_geom

from jointseg.provenance.release_contents import ISA, NODATA, NOT_ISA, Coverage, Output, Run
from jointseg.raster import io as raster_io

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_NAMES = ("classification/v2.0.0", "file/v2.1.0", "processing/v1.2.0", "projection/v2.0.0", "raster/v2.0.0")
EXTENSIONS = [_SCHEMA.format(name) for name in _NAMES]
COLLECTION_EXTENSIONS = [_SCHEMA.format(name) for name in _NAMES if not name.startswith("file")]
CLASSES: list[dict[str, Any]] = [
    {"value": NOT_ISA, "name": "not-impervious", "description": "Not impervious"},
    {"value": ISA, "name": "impervious", "description": "Impervious surface"},
    {"value": NODATA, "name": "unknown", "description": "Never seen clear, or outside", "nodata": True},
]
DESCRIPTIONS = {
    "isa": "1-m impervious surface, one item a tile and year",
    "mosaics": "The same, one item a city and year",
}
LEVEL = "L4"  # what a model made of lower levels
SOFTWARE = ("jointseg", "torch", "transformers", "rasterio", "gdal (rasterio)")
_RESOLUTION = "raster:spatial_resolution"
_PIXELS = {"data_type": "uint8", "nodata": NODATA, "raster:sampling": "area"}
# An item lies at release/collection/item/item.json: three folders below the results, two below the release.
RESULTS, RELEASE = "../../..", "../.."


def write(part: Path, run: Run) -> None:
    """Writes catalog.json and all below it into a folder."""
    root = pystac.Catalog("jointseg", f"{run.title}: 1-m impervious surface", title=run.title)
    root.add_link(pystac.Link("describedby", "./README.md", media_type="text/markdown", title="Data card"))
    items: dict[str, pystac.Item] = {}
    for name, members in run.maps.items():
        if not members:
            continue
        items |= {made.path: _item(name, made, run) for made in members}
        root.add_child(_collection(name, [items[made.path] for made in members], run))
    for members in run.maps.values():
        for made in members:
            _link_parents(items, made, run)
    root.normalize_hrefs(part.as_posix())
    root.save(pystac.CatalogType.SELF_CONTAINED)


def _collection(name: str, items: list[pystac.Item], run: Run) -> pystac.Collection:
    west, south, east, north = zip(*[item.bbox for item in items if item.bbox])
    years = run.years
    period = [datetime(years[0], 1, 1, tzinfo=UTC), datetime(years[-1], 12, 31, 23, 59, 59, tzinfo=UTC)]
    extent = pystac.Extent(
        pystac.SpatialExtent([[min(west), min(south), max(east), max(north)]]), pystac.TemporalExtent([period])
    )
    summaries = {
        "proj:code": sorted({item.properties["proj:code"] for item in items}),
        "processing:level": [LEVEL],
        "classification:classes": CLASSES,
        "raster:spatial_resolution": sorted({item.assets["map"].extra_fields[_RESOLUTION] for item in items}),
    }
    collection = pystac.Collection(
        name,
        DESCRIPTIONS[name],
        extent,
        title=f"{run.title}: {name}",
        license="other",
        stac_extensions=COLLECTION_EXTENSIONS,
        summaries=pystac.Summaries(summaries),
    )
    form = {"type": COG, "roles": ["data"], "title": "Map", **_PIXELS, "classification:classes": CLASSES}
    collection.extra_fields["item_assets"] = {"map": form}
    card = pystac.Link("describedby", "../README.md", media_type="text/markdown", title="Data card")
    collection.add_link(card)
    collection.add_items(items)
    return collection


def _item(collection: str, made: Output, run: Run) -> pystac.Item:
    path = run.results / made.path
    year, place = path.parent.name, path.stem
    with raster_io.open_raster(path) as source:
        crs, bounds, shape, transform = source.crs, source.bounds, source.shape, source.transform
    corners = [(bounds.left, bounds.bottom), (bounds.right, bounds.bottom), (bounds.right, bounds.top)]
    ring = [*corners, (bounds.left, bounds.top), corners[0]]
    geometry = transform_geom(crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, precision=7)
    bbox = [round(edge, 7) for edge in transform_bounds(crs, "EPSG:4326", *bounds)]
    properties = {
        "title": f"{place}, {year}",
        "start_datetime": f"{year}-01-01T00:00:00Z",
        "end_datetime": f"{year}-12-31T23:59:59Z",
        "proj:code": crs.to_string(),
        "proj:bbox": list(bounds),
        "proj:shape": list(shape),
        "proj:transform": list(transform)[:6],
        **_processing(made),
        "jointseg:code": made.manifest.record["code"],
    }
    item = pystac.Item(f"{collection}-{year}-{place}", geometry, bbox, None, properties, stac_extensions=EXTENSIONS)
    cover = run.covers[made.path]
    fields = {
        "file:size": made.artefact.size,
        "file:checksum": _multihash(made.artefact.sha256),
        "bands": [{"name": "isa", "description": "Impervious surface, by the codes of the classes"}],
        **_PIXELS,
        _RESOLUTION: abs(transform.a),
        "classification:classes": _counted(cover),
    }
    if cover.known:
        fields["statistics"] = _statistics(cover)
    asset = pystac.Asset(f"{RESULTS}/{made.path}", title="Map", media_type=COG, roles=["data"], extra_fields=fields)
    item.add_asset("map", asset)
    crate = f"{RELEASE}/ro-crate-metadata.json"
    item.add_link(pystac.Link("processing-execution", crate, media_type="application/ld+json", title="RO-Crate"))
    return item


def _processing(made: Output) -> dict[str, Any]:
    """The fields of the processing extension, as far as they are known; no time, no facility."""
    written = made.manifest.record
    versions = {name: written["versions"][name] for name in SOFTWARE if name in written["versions"]}
    counted = Counter(taken.name for taken in made.manifest.inputs)
    taken = ", ".join(f"{count} {name}" if count > 1 else name for name, count in sorted(counted.items()))
    commit = f", commit {written['commit']}{' with changes' if written['dirty'] else ''}" if written["commit"] else ""
    lineage = f"Rule {made.manifest.rule}, step {written['step']}, code {written['code'][:12]}{commit}; from {taken}."
    told = {"processing:lineage": lineage, "processing:level": LEVEL, "processing:software": versions}
    if "jointseg" in versions:
        told["processing:version"] = versions["jointseg"]
    return told


def _counted(cover: Coverage) -> list[dict[str, Any]]:
    whole = sum(cover.pixels.values())
    return [
        {**each, "count": cover.pixels[each["value"]], "percentage": _rounded(100 * cover.pixels[each["value"]], whole)}
        for each in CLASSES
    ]


def _statistics(cover: Coverage) -> dict[str, Any]:
    """STAC statistics of the known pixels: the mean is the share of impervious surface."""
    present = [code for code in (NOT_ISA, ISA) if cover.pixels[code]]
    return {
        "minimum": min(present),
        "maximum": max(present),
        "mean": _rounded(cover.pixels[ISA], cover.known),
        "count": cover.known,
        "valid_percent": _rounded(100 * cover.known, sum(cover.pixels.values())),
    }


def _rounded(part: float, whole: float) -> float:
    return round(part / whole, 6)


def _link_parents(items: dict[str, pystac.Item], made: Output, run: Run) -> None:
    """What a map was made from: items of this catalogue, and other files of the run with their checksums."""
    item = items[made.path]
    for taken in made.manifest.inputs:
        inside = made.manifest.relative_path(taken.path)
        if inside in items:
            item.add_link(pystac.Link("derived_from", items[inside], media_type="application/geo+json"))
        elif inside is not None:
            extra = {"file:size": taken.size, "file:checksum": _multihash(taken.sha256)}
            item.add_link(pystac.Link("derived_from", f"{RESULTS}/{inside}", title=taken.name, extra_fields=extra))


def _multihash(sha256: str) -> str:
    return f"1220{sha256}"  # 0x12: sha2-256, 0x20: 32 bytes
