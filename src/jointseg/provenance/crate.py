"""The release as an RO-Crate of the profile Workflow Run Crate: the workflow, its run, every job and every file."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rocrate.rocrate import ROCrate

from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Artefact, Manifest
from jointseg.provenance.release_contents import Run, without_credentials

VERSION = "1.1"  # of RO-Crate: the one that the profiles below stand on
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# RO-Crate 1.1 has no term for this hash; Workflow Run Crate has.
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
LICENCE = "No licence is stated for the maps; the sources keep their own, see README.md"
FORMATS = {
    ".csv": "text/csv",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".py": "text/x-python",
    ".smk": "text/x-python",
    ".tif": "image/tiff; application=geotiff",
    ".vrt": "application/xml",
    ".yaml": "application/yaml",
}
OTHER_FORMAT = "application/octet-stream"
COMPLETED = "http://schema.org/CompletedActionStatus"
RUN = "#run"


def write(part: Path, run: Run, workflow: dict[str, Path]) -> None:
    """Writes ro-crate-metadata.json.

    Args:
        part: the release folder, with its other files but the checksums in it.
        run: what is released.
        workflow: files of the workflow by their place in the release; the first is the main one.
    """
    crate = ROCrate(version=VERSION)
    crate.name, crate.description = run.title, f"{run.title}: 1-m impervious surface maps, and how each file was made"
    crate.datePublished, crate.license = f"{run.years[-1]}-12-31", LICENCE
    crate.metadata.extra_terms = TERMS
    with warnings.catch_warnings():
        # The files lie beside the crate, which the library takes for an oversight.
        warnings.filterwarnings("ignore", message="No source for")
        main = _workflow(crate, run, workflow)
        entities = {inside: _entity(crate, inside, made.artefact) for inside, made in run.outputs.items()}
        page = {"name": run.report, **_file(run.results / run.report)}
        entities[run.report] = crate.add_file(dest_path=f"../{run.report}", properties=page)
        for path in sorted([*part.glob("*.*"), *part.glob("models/*")]):
            place = path.relative_to(part).as_posix()
            crate.add_file(dest_path=place, properties={"name": place, **_file(path)})
    crate.get("README.md")["about"] = crate.root_dataset
    crate.root_dataset["conformsTo"] = [
        crate.get(identifier)
        or crate.add_jsonld(
            {"@id": identifier, "@type": "CreativeWork", "name": name, "version": identifier.rsplit("/", 1)[-1]}
        )
        for identifier, name in PROFILES.items()
    ]
    actions = [_action(crate, run, manifest, entities) for manifest in run.jobs.values()]
    crate.root_dataset["mentions"] = [_run(crate, run, main, workflow, entities), *actions]
    written = json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False)
    (part / "ro-crate-metadata.json").write_text(written + "\n", encoding="utf-8")


def _workflow(crate: ROCrate, run: Run, workflow: dict[str, Path]) -> Any:
    """The main workflow, its parts, and the settings it was run with."""
    engine, version = (", ".join(run.versions(name)) or "unknown" for name in ("snakemake", "jointseg"))
    main: Any = None
    for place, path in workflow.items():
        properties: dict[str, Any] = {"name": place.removeprefix("workflow/"), **_file(path)}
        if main is None:
            about = "The flow: every rule that made a file of this release"
            described = {**properties, "description": about, "version": version}
            main = crate.add_workflow(dest_path=place, properties=described, main=True, lang="snakemake")
            main["programmingLanguage"]["version"] = engine
            continue
        is_code = place.endswith((".smk", ".py"))
        kind = {"@type": ["File", "SoftwareSourceCode"], "version": version} if is_code else {}
        part = crate.add_file(dest_path=place, properties={**properties, **kind})
        if is_code:
            main.append_to("hasPart", part)
    return main


def _run(crate: ROCrate, run: Run, main: Any, workflow: dict[str, Path], entities: dict[str, Any]) -> Any:
    """The execution of the whole workflow: from what came from outside to the maps and the report."""
    settings = [crate.get(place) for place in workflow if place.endswith(".yaml")]
    taken = [_outside(crate, one) for one in run.outside().values()]
    maps = [entities[made.path] for members in run.maps.values() for made in members]
    return crate.add_action(
        main,
        identifier=RUN,
        object=_unique([*settings, *taken]),
        result=_unique([*maps, entities[run.report]]),
        properties={
            "name": f"Run of the workflow: {run.title}",
            "description": f"{len(run.jobs)} jobs; sha256 over code, parameters, inputs and outputs: {run.digest}",
            "actionStatus": COMPLETED,
        },
    )


def _file(path: Path) -> dict[str, str]:
    return {"contentSize": str(path.stat().st_size), "sha256": file_digest(path), "encodingFormat": _format(path.name)}


def _format(name: str) -> str:
    return FORMATS.get(Path(name).suffix, OTHER_FORMAT)


def _entity(crate: ROCrate, inside: str, artefact: Artefact) -> Any:
    properties = {"name": inside, "contentSize": str(artefact.size), "sha256": artefact.sha256}
    if artefact.files is None:
        properties["encodingFormat"] = _format(inside)
        return crate.add_file(dest_path=f"../{inside}", properties=properties)
    return crate.add_dataset(dest_path=f"../{inside}", properties=properties)


def _action(crate: ROCrate, run: Run, manifest: Manifest, entities: dict[str, Any]) -> Any:
    written = manifest.record
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
    makers = [(each, run.producer(manifest, each)) for each in manifest.materials]
    taken = [entities[made.path] if made else _outside(crate, each) for each, made in makers]
    result = [
        entities[inside] for each in manifest.outputs if (inside := manifest.relative_path(each.path)) in entities
    ]
    wildcards = " ".join(f"{name}={value}" for name, value in sorted(written["wildcards"].items()))
    return crate.add_action(
        code,
        identifier=f"#{manifest.name}",
        object=_unique(taken),
        result=_unique(result),
        properties={
            "name": f"{manifest.rule} {wildcards}".strip(),
            "description": json.dumps(without_credentials(written["params"]), sort_keys=True),
            "actionStatus": COMPLETED,
        },
    )


def _outside(crate: ROCrate, taken: Artefact) -> Any:
    """An input that no job made: named, with its hash, not part of the crate."""
    identifier = f"#input-{taken.sha256}"
    return crate.get(identifier) or crate.add_jsonld(
        {"@id": identifier, "@type": "CreativeWork", "name": Path(taken.path).name, "sha256": taken.sha256}
    )


def _unique(entities: Iterable[Any]) -> Any:
    """Each entity once; one alone without a list around it, as RO-Crate asks for."""
    found = list({entity.id: entity for entity in entities}.values())
    return found[0] if len(found) == 1 else found
