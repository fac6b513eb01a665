"""The release: a STAC catalogue, an RO-Crate and a list of checksums, all made from the manifests.

Nothing in it tells when or where a job ran, so the same maps make the same bytes.
"""

import json
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
from rasterio.warp import transform_bounds, transform_geom
from rocrate.rocrate import ROCrate

from jointseg import raster
from jointseg.errors import DataError
from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Artefact, Manifest, read

log = logging.getLogger(__name__)

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
EXTENSIONS = [
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
]
CLASSES = [
    {"value": 0, "name": "not-impervious", "title": "Not impervious"},
    {"value": 1, "name": "impervious", "title": "Impervious surface"},
    {"value": 255, "name": "unknown", "title": "Never seen clear, or outside", "nodata": True},
]
PROCESS_RUN = "https://w3id.org/ro/wfrun/process/0.5"


@dataclass(frozen=True)
class _Made:
    """A file or folder that a job made: its place in the results folder and the job's manifest."""

    inside: str
    artefact: Artefact
    manifest: Manifest


def release(
    *,
    manifests: list[Path],
    isa: list[Path],
    mosaics: list[Path],
    report: Path,
    catalogue: Path,
    title: str,
    years: list[int],
) -> dict[str, Any]:
    """Writes the release folder.

    Args:
        manifests: the manifests of all jobs behind the maps.
        isa: 1-m ISA tiles, at .../{year}/{tile}.tif.
        mosaics: ISA mosaics of cities, at .../{year}/{city}.tif.
        report: the HTML report.
        catalogue: the folder to make: catalog.json (STAC), ro-crate-metadata.json, checksums.sha256
            (`sha256sum -c checksums.sha256` inside it). Files stay where they are; it points at them.
        title: name of the product.
        years: the years mapped.
    """
    results = catalogue.parent
    jobs = sorted((read(path) for path in manifests), key=lambda each: each.name)
    made = [
        _Made(inside, output, each)
        for each in jobs
        for output in each.outputs
        if (inside := each.inside(output.path)) is not None
    ]
    by_path = {each.inside: each for each in made}
    maps = {"isa": _found(isa, by_path, results), "mosaics": _found(mosaics, by_path, results)}
    with raster.atomic(catalogue) as part:
        part.mkdir()
        _write_stac(part, maps, results, title, years)
        _write_crate(part, jobs, made, report.relative_to(results).as_posix(), results, title, max(years))
        _write_checksums(part, made, report, results)
    log.info("released %d tiles and %d mosaics of %d jobs", len(isa), len(mosaics), len(jobs))
    return {"tiles": len(isa), "mosaics": len(mosaics), "jobs": len(jobs)}


def _found(paths: list[Path], by_path: dict[str, _Made], results: Path) -> list[_Made]:
    found = []
    for path in sorted(paths):
        made = by_path.get(path.relative_to(results).as_posix())
        if made is None:
            raise DataError(f"no manifest given to the release tells who made {path}; run its job again")
        if path.stat().st_size != made.artefact.size:
            raise DataError(
                f"{path} has {path.stat().st_size} bytes, its manifest says {made.artefact.size}; "
                "delete it and run again"
            )
        found.append(made)
    return found


def _write_stac(part: Path, maps: dict[str, list[_Made]], results: Path, title: str, years: list[int]) -> None:
    root = pystac.Catalog("jointseg", f"{title}: 1-m impervious surface", title=title)
    about = {"isa": "1-m impervious surface, one item a tile and year", "mosaics": "The same, one item a city and year"}
    period = [datetime(min(years), 1, 1, tzinfo=UTC), datetime(max(years), 12, 31, 23, 59, 59, tzinfo=UTC)]
    for name, members in maps.items():
        if not members:
            continue
        items = [_item(name, made, results) for made in members]
        boxes = [item.bbox for item in items if item.bbox]
        west, south, east, north = zip(*boxes)
        extent = pystac.Extent(
            pystac.SpatialExtent([[min(west), min(south), max(east), max(north)]]), pystac.TemporalExtent([period])
        )
        collection = pystac.Collection(name, about[name], extent, title=f"{title}: {name}", license="other")
        root.add_child(collection)
        collection.add_items(items)
    root.normalize_hrefs(part.as_posix())
    root.save(pystac.CatalogType.SELF_CONTAINED)


def _item(collection: str, made: _Made, results: Path) -> pystac.Item:
    path = results / made.inside
    year, place = path.parent.name, path.stem
    with raster.opened(path) as source:
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
        "processing:software": {"jointseg": made.manifest.written["versions"].get("jointseg", "unknown")},
        "jointseg:code": made.manifest.written["code"],
    }
    item = pystac.Item(f"{collection}-{year}-{place}", geometry, bbox, None, properties, stac_extensions=EXTENSIONS)
    # An item lies at catalogue/collection/item/item.json, three folders below the results.
    up = "../../.."
    fields = {"file:size": made.artefact.size, "file:checksum": _multihash(made.artefact.sha256)}
    fields |= {"classification:classes": CLASSES}
    item.add_asset("map", pystac.Asset(f"{up}/{made.inside}", media_type=COG, roles=["data"], extra_fields=fields))
    for taken in made.manifest.inputs:
        inside = made.manifest.inside(taken.path)
        if inside is not None:
            extra = {"file:size": taken.size, "file:checksum": _multihash(taken.sha256)}
            item.add_link(pystac.Link("derived_from", f"{up}/{inside}", title=taken.name, extra_fields=extra))
    return item


def _multihash(sha256: str) -> str:
    return f"1220{sha256}"  # 0x12: sha2-256, 0x20: 32 bytes


def _write_crate(
    part: Path, jobs: list[Manifest], made: list[_Made], report: str, results: Path, title: str, year: int
) -> None:
    """RO-Crate of the profile Process Run Crate: every file, and one action a job with its code."""
    crate = ROCrate()
    crate.name, crate.description = title, f"{title}: 1-m impervious surface maps, and how each file was made"
    crate.datePublished = f"{year}-12-31"
    crate.root_dataset["conformsTo"] = crate.add_jsonld(
        {"@id": PROCESS_RUN, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    )
    with warnings.catch_warnings():
        # The files lie beside the crate, which the library takes for an oversight.
        warnings.filterwarnings("ignore", message="No source for")
        entities = {each.inside: _entity(crate, each.inside, each.artefact) for each in made}
        page = {"name": report, "encodingFormat": "text/html", "sha256": file_digest(results / report)}
        crate.add_file(dest_path=f"../{report}", properties=page)
    actions = [_action(crate, manifest, entities) for manifest in jobs]
    crate.root_dataset["mentions"] = actions
    written = json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False)
    (part / "ro-crate-metadata.json").write_text(written + "\n", encoding="utf-8")


def _entity(crate: ROCrate, inside: str, artefact: Artefact) -> Any:
    properties = {"name": inside, "contentSize": str(artefact.size), "sha256": artefact.sha256}
    if artefact.files is None:
        return crate.add_file(dest_path=f"../{inside}", properties=properties)
    return crate.add_dataset(dest_path=f"../{inside}", properties=properties)


def _action(crate: ROCrate, manifest: Manifest, entities: dict[str, Any]) -> Any:
    written = manifest.written
    code_id = f"#{written['step']}-{written['code'][:12]}"
    code = crate.get(code_id) or crate.add_jsonld(
        {
            "@id": code_id,
            "@type": "SoftwareApplication",
            "name": written["step"],
            "identifier": f"sha256:{written['code']}",
            "softwareVersion": (written["commit"] or "no commit") + ("-dirty" if written["dirty"] else ""),
        }
    )
    taken = [
        entities.get(manifest.inside(each.path) or "") or _outside(crate, each.sha256, Path(each.path).name)
        for each in manifest.inputs
    ]
    result = [entities[inside] for each in manifest.outputs if (inside := manifest.inside(each.path)) in entities]
    wildcards = " ".join(f"{name}={value}" for name, value in sorted(written["wildcards"].items()))
    return crate.add_action(
        code,
        identifier=f"#{manifest.name}",
        object=_unique(taken),
        result=_unique(result),
        properties={
            "name": f"{manifest.rule} {wildcards}".strip(),
            "description": json.dumps(written["params"], sort_keys=True),
        },
    )


def _outside(crate: ROCrate, sha256: str, name: str) -> Any:
    """An input that no job made: named, with its hash, not part of the crate."""
    identifier = f"#input-{sha256}"
    return crate.get(identifier) or crate.add_jsonld(
        {"@id": identifier, "@type": "CreativeWork", "name": name, "sha256": sha256}
    )


def _unique(entities: Iterable[Any]) -> list[Any]:
    return list({entity.id: entity for entity in entities}.values())


def _write_checksums(part: Path, made: list[_Made], report: Path, results: Path) -> None:
    """Every declared file, the report and the catalogue itself, as `sha256sum -c` reads it."""
    lines = {f"../{report.relative_to(results).as_posix()}": file_digest(report)}
    for each in made:
        if each.artefact.files is None:
            lines[f"../{each.inside}"] = each.artefact.sha256
        else:
            lines |= {f"../{each.inside}/{entry.path}": entry.sha256 for entry in each.artefact.files}
    for path in part.rglob("*.json"):
        lines[path.relative_to(part).as_posix()] = file_digest(path)
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items()))
    (part / "checksums.sha256").write_text(text, encoding="utf-8")
