"""The release as a STAC 1.1 catalogue: one collection of tiles, one of city mosaics, one item per map."""

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
    {
        "value": NODATA,
        "name": "nodata",
        "description": "No clear observation, or outside the tile's UTM zone",
        "nodata": True,
    },
]
DESCRIPTIONS = {
    "isa": "1-m impervious surface, one item per tile and year",
    "mosaics": "1-m impervious surface, one item per city and year",
}
LEVEL = "L4"  # model output derived from lower levels
SOFTWARE = ("jointseg", "torch", "transformers", "rasterio", "gdal (rasterio)")
_RESOLUTION = "raster:spatial_resolution"
_PIXELS = {"data_type": "uint8", "nodata": NODATA, "raster:sampling": "area"}
# Relative links from release/COLLECTION/ITEM/ITEM.json.
RESULTS, RELEASE = "../../..", "../.."


def write(part: Path, run: Run) -> None:
    """Write catalog.json, the collections and the items into a folder."""
    root = pystac.Catalog("jointseg", f"{run.title}: 1-m impervious surface", title=run.title)
    root.add_link(pystac.Link("describedby", "./README.md", media_type="text/markdown", title="Data card"))
    items: dict[str, pystac.Item] = {}
    for name, members in run.maps.items():
        items |= {output.path: _item(name, output, run) for output in members}
        if members:
            root.add_child(_collection(name, [items[output.path] for output in members], run))
    for members in run.maps.values():
        for output in members:
            _link_parents(items, output)
    root.normalize_hrefs(part.as_posix())
    root.save(pystac.CatalogType.SELF_CONTAINED)


def _collection(name: str, items: list[pystac.Item], run: Run) -> pystac.Collection:
    west, south, east, north = zip(*[item.bbox for item in items if item.bbox])
    period = [datetime(run.years[0], 1, 1, tzinfo=UTC), datetime(run.years[-1], 12, 31, 23, 59, 59, tzinfo=UTC)]
    box = [min(west), min(south), max(east), max(north)]
    extent = pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent([period]))
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
    item_asset = {"type": COG, "roles": ["data"], "title": "Map", **_PIXELS, "classification:classes": CLASSES}
    collection.extra_fields["item_assets"] = {"map": item_asset}
    collection.add_link(pystac.Link("describedby", "../README.md", media_type="text/markdown", title="Data card"))
    collection.add_items(items)
    return collection


def _item(collection: str, output: Output, run: Run) -> pystac.Item:
    path = run.results / output.path
    year, name = path.parent.name, path.stem
    with raster_io.open_raster(path) as source:
        crs, bounds, shape, transform = source.crs, source.bounds, source.shape, source.transform
    corners = [(bounds.left, bounds.bottom), (bounds.right, bounds.bottom), (bounds.right, bounds.top)]
    ring = [*corners, (bounds.left, bounds.top), corners[0]]
    geometry = transform_geom(crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, precision=7)
    bbox = [round(edge, 7) for edge in transform_bounds(crs, "EPSG:4326", *bounds)]
    properties = {
        "title": f"{name}, {year}",
        "start_datetime": f"{year}-01-01T00:00:00Z",
        "end_datetime": f"{year}-12-31T23:59:59Z",
        "proj:code": crs.to_string(),
        "proj:bbox": list(bounds),
        "proj:shape": list(shape),
        "proj:transform": list(transform)[:6],
        **_processing(output),
        "jointseg:code": output.manifest.record["code"],
    }
    item = pystac.Item(f"{collection}-{year}-{name}", geometry, bbox, None, properties, stac_extensions=EXTENSIONS)
    coverage = run.coverage[output.path]
    fields = {
        "file:size": output.artefact.size,
        "file:checksum": _multihash(output.artefact.sha256),
        "bands": [{"name": "isa", "description": "Impervious surface, by the codes of the classes"}],
        **_PIXELS,
        _RESOLUTION: abs(transform.a),
        "classification:classes": _class_counts(coverage),
    }
    if coverage.valid:
        fields["statistics"] = _statistics(coverage)
    asset = pystac.Asset(f"{RESULTS}/{output.path}", title="Map", media_type=COG, roles=["data"], extra_fields=fields)
    item.add_asset("map", asset)
    crate = f"{RELEASE}/ro-crate-metadata.json"
    item.add_link(pystac.Link("processing-execution", crate, media_type="application/ld+json", title="RO-Crate"))
    return item


def _processing(output: Output) -> dict[str, Any]:
    """Fields of the processing extension, without time and facility."""
    record = output.manifest.record
    versions = {name: record["versions"][name] for name in SOFTWARE if name in record["versions"]}
    counts = Counter(artefact.name for artefact in output.manifest.inputs)
    inputs = ", ".join(f"{count} {name}" if count > 1 else name for name, count in sorted(counts.items()))
    commit = f", commit {record['commit']}{' with changes' if record['dirty'] else ''}" if record["commit"] else ""
    lineage = f"Rule {output.manifest.rule}, step {record['step']}, code {record['code'][:12]}{commit}; from {inputs}."
    fields = {"processing:lineage": lineage, "processing:level": LEVEL, "processing:software": versions}
    if "jointseg" in versions:
        fields["processing:version"] = versions["jointseg"]
    return fields


def _class_counts(coverage: Coverage) -> list[dict[str, Any]]:
    total = sum(coverage.pixels.values())
    counts = [coverage.pixels[each["value"]] for each in CLASSES]
    return [
        {**each, "count": count, "percentage": round(100 * count / total, 6)} for each, count in zip(CLASSES, counts)
    ]


def _statistics(coverage: Coverage) -> dict[str, Any]:
    """STAC statistics of the valid pixels; the mean is the fraction of impervious surface."""
    present = [code for code in (NOT_ISA, ISA) if coverage.pixels[code]]
    return {
        "minimum": min(present),
        "maximum": max(present),
        "mean": round(coverage.pixels[ISA] / coverage.valid, 6),
        "count": coverage.valid,
        "valid_percent": round(100 * coverage.valid / sum(coverage.pixels.values()), 6),
    }


def _link_parents(items: dict[str, pystac.Item], output: Output) -> None:
    """Link a map to its inputs: items of this catalogue, and other files of the run with their checksums."""
    item = items[output.path]
    for artefact in output.manifest.inputs:
        path = output.manifest.relative_path(artefact.path)
        if path in items:
            item.add_link(pystac.Link("derived_from", items[path], media_type="application/geo+json"))
        elif path is not None:
            extra = {"file:size": artefact.size, "file:checksum": _multihash(artefact.sha256)}
            item.add_link(pystac.Link("derived_from", f"{RESULTS}/{path}", title=artefact.name, extra_fields=extra))


def _multihash(sha256: str) -> str:
    return f"1220{sha256}"  # 0x12: sha2-256, 0x20: 32 bytes
