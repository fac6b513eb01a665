"""One map (tile and year) with everything it depends on, shared by the explanations of its pixels."""

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
    """A map and its provenance."""

    tile: Tile
    # isa, composite: manifests of the map and of the composite of its tile
    isa: Manifest
    composite: Manifest
    isa_path: Path
    composite_path: Path
    composites: dict[str, Path]  # paths of the composites that the map was predicted from, by tile
    reference: Parent | None  # the reference composite of the normalisation, None without normalisation
    scenes: CompositeScenes
    networks: Networks
    jobs: list[Job]  # all jobs that the map depends on, nearest first
    disagreements: list[Disagreement]  # among the ancestors, and of the files that an explanation reads


def load(lineage: Lineage, tile: Tile, year: int) -> TileMap:
    """Read the provenance of a map. Raises DataError if the map, its manifest or that of its composite is missing."""
    isa = _map_job(lineage, tile, year)
    parents = lineage.parents(isa)
    composites = [parent for parent in parents if parent.artefact.name == "composites"]
    own = next(parent for parent in composites if parent.path.stem == tile.id)
    if own.producer is None:
        raise DataError(f"no manifest declares {own.path} as output; rerun its job")
    composite = own.producer
    jobs = [isa, *lineage.ancestors(isa)]
    networks = Networks(lineage, isa)
    inputs = {parent.artefact.name: parent for parent in lineage.parents(composite)}
    isa_path = lineage.path(isa, isa.outputs[0].path)
    read = [(isa.name, isa_path, isa.outputs[0].sha256)]
    read += [(isa.name, parent.path, parent.artefact.sha256) for parent in parents if parent not in composites]
    read += [(isa.name, own.path, own.artefact.sha256)]
    for name in ("scenes", "reference"):
        if name in inputs:
            read.append((composite.name, inputs[name].path, inputs[name].artefact.sha256))
    read += [(index.training_job.name, index.path, index.sha256) for index in networks.indexes.values()]
    changed = [found for job, path, sha256 in read for found in _check_file(lineage, job, path, sha256)]
    return TileMap(
        tile=tile,
        isa=isa,
        composite=composite,
        isa_path=isa_path,
        composite_path=own.path,
        composites={parent.path.stem: parent.path for parent in composites},
        reference=inputs.get("reference"),
        scenes=CompositeScenes(lineage, composite),
        networks=networks,
        jobs=[job_summary(lineage, job) for job in jobs],
        disagreements=[*find_disagreements(lineage, jobs), *changed],
    )


def _map_job(lineage: Lineage, tile: Tile, year: int) -> Manifest:
    wildcards = {"year": str(year), "tile": tile.id}
    maps = [manifest for manifest in lineage.manifests.values() if manifest.rule == "predict"]
    for manifest in maps:
        if manifest.record["wildcards"] == wildcards:
            return manifest
    if (path := lineage.results / "isa" / str(year) / f"{tile.id}.tif").exists():
        raise DataError(f"no manifest declares {path} as output; rerun its job")
    years = sorted({job.record["wildcards"]["year"] for job in maps if job.record["wildcards"]["tile"] == tile.id})
    raise DataError(
        f"{lineage.results} has no map of tile {tile.id} for {year}; available years: {', '.join(years) or 'none'}"
    )


def _check_file(lineage: Lineage, job: str, path: Path, sha256: str) -> list[Disagreement]:
    """Disagreement of a file that an explanation reads with the record of a job."""
    if not path.is_file():
        return [Disagreement(job, display_path(lineage, path), f"it does not exist; {job} has sha256 {sha256[:12]}")]
    if file_digest(path) != sha256:
        return [Disagreement(job, display_path(lineage, path), f"it was changed after {job}: its checksum differs")]
    return []
