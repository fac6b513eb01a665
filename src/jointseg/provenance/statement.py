"""The release as an in-toto statement with SLSA provenance: the maps, the workflow and its external inputs."""

import json
from pathlib import Path
from typing import Any

from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Artefact
from jointseg.provenance.release_contents import Run

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
# docs/reference/steps/provenance.md defines both. The output of a run cannot attest who ran it; a signature can.
BUILD_TYPE = "urn:jointseg:snakemake-run:1"
BUILDER = "urn:jointseg:unattested-builder:1"
TREE = "sha256sumTree"  # of a folder: sha256 of what `sha256sum` prints for its files, sorted by path


def write(part: Path, run: Run, workflow: dict[str, Path]) -> None:
    """Write provenance.intoto.json; for the arguments see `crate.write`."""
    maps = [output for members in run.maps.values() for output in members]
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": output.path, "digest": {"sha256": output.artefact.sha256}} for output in maps],
        "predicateType": PREDICATE,
        "predicate": {"buildDefinition": _definition(run, workflow), "runDetails": _details(run)},
    }
    text = json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False)
    (part / "provenance.intoto.json").write_text(text + "\n", encoding="utf-8")


def _definition(run: Run, workflow: dict[str, Path]) -> dict[str, Any]:
    code: dict[str, set[str]] = {}
    packages: dict[str, str] = {}
    for job in run.jobs.values():
        code.setdefault(job.rule, set()).add(job.record["code"])
        packages |= job.record.get("environment") or {}
    settings = next(name for name in workflow if name.endswith(".yaml"))
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"workflow": next(iter(workflow)), "configuration": settings},
        "internalParameters": {"code": {rule: sorted(digests) for rule, digests in code.items()}, "packages": packages},
        "resolvedDependencies": [
            *({"name": name, "digest": {"sha256": file_digest(path)}} for name, path in workflow.items()),
            *_source(run),
            *(_dependency(artefact) for artefact in run.external_inputs().values()),
        ],
    }


def _source(run: Run) -> list[dict[str, Any]]:
    """The commits and lock files that the jobs ran with."""
    commits = {(job.record["commit"], bool(job.record["dirty"])) for job in run.jobs.values()}
    found: list[dict[str, Any]] = [
        {"name": "repository", "digest": {"gitCommit": commit}, "annotations": {"changed": dirty}}
        for commit, dirty in sorted(item for item in commits if item[0])
    ]
    locks = [lock for lock in run.distinct("lock") if lock]
    return found + [{"name": lock["file"], "digest": {"sha256": lock["sha256"]}} for lock in locks]


def _dependency(artefact: Artefact) -> dict[str, Any]:
    """An external input by its file name; its full path is specific to the machine that read it."""
    return {
        "name": Path(artefact.path).name,
        "digest": {"sha256" if artefact.files is None else TREE: artefact.sha256},
        "annotations": {"bytes": artefact.size},
    }


def _details(run: Run) -> dict[str, Any]:
    found = {name: run.versions(name) for name in ("jointseg", "snakemake", "python")}
    version = {name: ", ".join(versions) for name, versions in found.items() if versions}
    # The id depends on content only: the same workflow with the same inputs is the same invocation.
    return {"builder": {"id": BUILDER, "version": version}, "metadata": {"invocationId": f"sha256:{run.digest}"}}
