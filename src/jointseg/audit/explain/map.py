"""One map of a tile and a year with all that is behind it, before a pixel is asked for."""

from dataclasses import dataclass
from pathlib import Path

from jointseg.area.grid import Tile
from jointseg.audit.explain.jobs import Disagreement, Job, display_path, find_disagreements, job_summary
from jointseg.audit.explain.networks import Networks
from jointseg.audit.explain.observations import CompositeScenes
from jointseg.audit.lineage import Lineage, Parent
from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Manifest
from jointseg.runtime.errors import DataError


@dataclass(frozen=True)
class TileMap:
    """What is known of one map.

    Attributes:
        isa, composite: manifests of the map and of the tile's own composite.
        isa_path, composite_path: where the rasters lie now.
        composites: by tile, those that the map was made from.
        reference: the input of the composite, None where the year is not normalised.
        jobs: of the whole ancestry, nearest first.
        doubts: disagreements along the ancestry, and of the files that an explanation reads.
    """

    place: Tile
    isa: Manifest
    composite: Manifest
    isa_path: Path
    composite_path: Path
    composites: dict[str, Path]
    reference: Parent | None
    scenes: CompositeScenes
    networks: Networks
    jobs: list[Job]
    disagreements: list[Disagreement]


def load(lineage: Lineage, place: Tile, year: int) -> TileMap:
    """Reads what is behind a map. DataError when there is none, or no manifest for it or for its composite."""
    isa = _job_of_map(lineage, place, year)
    parents = lineage.parents(isa)
    composites = [parent for parent in parents if parent.artefact.name == "composites"]
    own = next(parent for parent in composites if parent.path.stem == place.id)
    if own.producer is None:
        raise DataError(f"{own.path} has no manifest that tells who made it; run its job again")
    made = own.producer
    jobs = [isa, *lineage.ancestors(isa)]
    networks = Networks(lineage, isa)
    behind = {parent.artefact.name: parent for parent in lineage.parents(made)}
    isa_path = lineage.path(isa, isa.outputs[0].path)
    read = [(isa.name, isa_path, isa.outputs[0].sha256)]
    read += [(isa.name, parent.path, parent.artefact.sha256) for parent in parents if parent not in composites]
    read += [(isa.name, own.path, own.artefact.sha256)]
    read += [
        (made.name, behind[name].path, behind[name].artefact.sha256)
        for name in ("scenes", "reference")
        if name in behind
    ]
    read += [(index.taker.name, index.path, index.sha256) for index in networks.indexes.values()]
    doubts = [doubt for job, path, sha256 in read for doubt in _changed(lineage, job, path, sha256)]
    return TileMap(
        place=place,
        isa=isa,
        composite=made,
        isa_path=isa_path,
        composite_path=own.path,
        composites={parent.path.stem: parent.path for parent in composites},
        reference=behind.get("reference"),
        scenes=CompositeScenes(lineage, made),
        networks=networks,
        jobs=[job_summary(lineage, job) for job in jobs],
        disagreements=[*find_disagreements(lineage, jobs), *doubts],
    )


def _job_of_map(lineage: Lineage, place: Tile, year: int) -> Manifest:
    """The job that mapped a tile in a year."""
    wanted = {"year": str(year), "tile": place.id}
    maps = [each for each in lineage.manifests.values() if each.rule == "predict"]
    for manifest in maps:
        if manifest.record["wildcards"] == wanted:
            return manifest
    if (stray := lineage.results / "isa" / str(year) / f"{place.id}.tif").exists():
        raise DataError(f"{stray} has no manifest that tells who made it; run its job again")
    here = sorted({each.record["wildcards"]["year"] for each in maps if each.record["wildcards"]["tile"] == place.id})
    mapped = f"it is mapped in {', '.join(here)}" if here else "it is mapped in no year"
    raise DataError(f"{lineage.results} has no map of tile {place.id} in {year}; {mapped}")


def _changed(lineage: Lineage, job: str, path: Path, sha256: str) -> list[Disagreement]:
    """What is wrong with a file that an explanation reads."""
    if not path.is_file():
        return [Disagreement(job, display_path(lineage, path), f"it is not there any more; {job} had {sha256[:12]}")]
    if file_digest(path) != sha256:
        return [
            Disagreement(
                job, display_path(lineage, path), f"its bytes are not those that {job} had: it was changed since"
            )
        ]
    return []
