"""The release as an RO-Crate of the profile Workflow Run Crate: workflow, run, jobs and files."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rocrate.rocrate import ROCrate

from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Artefact, Manifest
from jointseg.provenance.release_contents import Run, without_credentials

VERSION = "1.1"  # of RO-Crate, as required by the profiles below
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# RO-Crate 1.1 has no term for sha256; Workflow Run Crate defines one.
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
    """Write ro-crate-metadata.json into a release folder, in which all files except the checksums exist.

    `workflow` has the workflow files by path in the release; the first is the main one.
    """
    crate = ROCrate(version=VERSION)
    crate.name = run.title
    crate.description = f"{run.title}: 1-m impervious surface maps and the provenance of each file"
    crate.datePublished, crate.license = f"{run.years[-1]}-12-31", LICENCE
    crate.metadata.extra_terms = TERMS
    with warnings.catch_warnings():
        # The files are outside the crate folder, about which the library warns.
        warnings.filterwarnings("ignore", message="No source for")
        main = _workflow(crate, run, workflow)
        entities = {path: _entity(crate, path, output.artefact) for path, output in run.outputs.items()}
        page = {"name": run.report, **_file(run.results / run.report)}
        entities[run.report] = crate.add_file(dest_path=f"../{run.report}", properties=page)
        for path in sorted([*part.glob("*.*"), *part.glob("models/*")]):
            name = path.relative_to(part).as_posix()
            crate.add_file(dest_path=name, properties={"name": name, **_file(path)})
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
    text = json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False)
    (part / "ro-crate-metadata.json").write_text(text + "\n", encoding="utf-8")


def _workflow(crate: ROCrate, run: Run, workflow: dict[str, Path]) -> Any:
    """Add the workflow files and the settings; return the main workflow."""
    engine, version = (", ".join(run.versions(name)) or "unknown" for name in ("snakemake", "jointseg"))
    main: Any = None
    for name, path in workflow.items():
        properties: dict[str, Any] = {"name": name.removeprefix("workflow/"), **_file(path)}
        if main is None:
            about = "The workflow with the rules that produced the files of this release"
            described = {**properties, "description": about, "version": version}
            main = crate.add_workflow(dest_path=name, properties=described, main=True, lang="snakemake")
            main["programmingLanguage"]["version"] = engine
            continue
        is_code = name.endswith((".smk", ".py"))
        kind = {"@type": ["File", "SoftwareSourceCode"], "version": version} if is_code else {}
        part = crate.add_file(dest_path=name, properties={**properties, **kind})
        if is_code:
            main.append_to("hasPart", part)
    return main


def _run(crate: ROCrate, run: Run, main: Any, workflow: dict[str, Path], entities: dict[str, Any]) -> Any:
    """The execution of the workflow, from external inputs to maps and report."""
    settings = [crate.get(name) for name in workflow if name.endswith(".yaml")]
    inputs = [_external(crate, artefact) for artefact in run.external_inputs().values()]
    maps = [entities[output.path] for members in run.maps.values() for output in members]
    return crate.add_action(
        main,
        identifier=RUN,
        object=_unique([*settings, *inputs]),
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


def _entity(crate: ROCrate, path: str, artefact: Artefact) -> Any:
    properties = {"name": path, "contentSize": str(artefact.size), "sha256": artefact.sha256}
    if artefact.files is None:
        properties["encodingFormat"] = _format(path)
        return crate.add_file(dest_path=f"../{path}", properties=properties)
    return crate.add_dataset(dest_path=f"../{path}", properties=properties)


def _action(crate: ROCrate, run: Run, manifest: Manifest, entities: dict[str, Any]) -> Any:
    record = manifest.record
    code_id = f"#{record['step']}-{record['code'][:12]}"
    code = crate.get(code_id) or crate.add_jsonld(
        {
            "@id": code_id,
            "@type": "SoftwareApplication",
            "name": record["step"],
            "identifier": f"sha256:{record['code']}",
            "softwareVersion": (record["commit"] or "no commit") + ("-dirty" if record["dirty"] else ""),
        }
    )
    producers = [(artefact, run.producer(manifest, artefact)) for artefact in manifest.materials]
    inputs = [entities[output.path] if output else _external(crate, artefact) for artefact, output in producers]
    paths = [manifest.relative_path(artefact.path) for artefact in manifest.outputs]
    outputs = [entities[path] for path in paths if path in entities]
    wildcards = " ".join(f"{name}={value}" for name, value in sorted(record["wildcards"].items()))
    return crate.add_action(
        code,
        identifier=f"#{manifest.name}",
        object=_unique(inputs),
        result=_unique(outputs),
        properties={
            "name": f"{manifest.rule} {wildcards}".strip(),
            "description": json.dumps(without_credentials(record["params"]), sort_keys=True),
            "actionStatus": COMPLETED,
        },
    )


def _external(crate: ROCrate, artefact: Artefact) -> Any:
    """An external input, by name and checksum; it is not part of the crate."""
    identifier = f"#input-{artefact.sha256}"
    return crate.get(identifier) or crate.add_jsonld(
        {"@id": identifier, "@type": "CreativeWork", "name": Path(artefact.path).name, "sha256": artefact.sha256}
    )


def _unique(entities: Iterable[Any]) -> Any:
    """Distinct entities; a single entity without a list, as RO-Crate requires."""
    found = list({entity.id: entity for entity in entities}.values())
    return found[0] if len(found) == 1 else found
