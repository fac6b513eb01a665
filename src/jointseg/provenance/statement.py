"""The release as an in-toto statement with SLSA provenance: which maps, made how, out of what."""

import json
from pathlib import Path
from typing import Any

from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Artefact
from jointseg.provenance.release_contents import Run

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
# What these two mean is told in docs/provenance.md. Who ran the flow is for a signature to say, not for its output.
BUILD_TYPE = "urn:jointseg:snakemake-run:1"
BUILDER = "urn:jointseg:unattested-builder:1"
TREE = "sha256sumTree"  # of a folder: sha256 of what `sha256sum` prints for its files, sorted by path


def write(part: Path, run: Run, workflow: dict[str, Path]) -> None:
    """Writes provenance.intoto.json; arguments as those of `crate.write`."""
    subjects = [made for members in run.maps.values() for made in members]
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": made.path, "digest": {"sha256": made.artefact.sha256}} for made in subjects],
        "predicateType": PREDICATE,
        "predicate": {"buildDefinition": _definition(run, workflow), "runDetails": _details(run)},
    }
    text = json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False)
    (part / "provenance.intoto.json").write_text(text + "\n", encoding="utf-8")


def _definition(run: Run, workflow: dict[str, Path]) -> dict[str, Any]:
    code: dict[str, list[str]] = {}
    packages: dict[str, str] = {}
    for job in run.jobs.values():
        digests = code.setdefault(job.rule, [])
        if job.record["code"] not in digests:
            digests.append(job.record["code"])
        packages |= job.record.get("environment") or {}
    settings = next(place for place in workflow if place.endswith(".yaml"))
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"workflow": next(iter(workflow)), "configuration": settings},
        "internalParameters": {"code": {rule: sorted(found) for rule, found in code.items()}, "packages": packages},
        "resolvedDependencies": [
            *({"name": place, "digest": {"sha256": file_digest(path)}} for place, path in workflow.items()),
            *_source(run),
            *(_dependency(one) for one in run.outside().values()),
        ],
    }


def _source(run: Run) -> list[dict[str, Any]]:
    """The commits and lock files of the repository by which the jobs were run."""
    commits = {(job.record["commit"], bool(job.record["dirty"])) for job in run.jobs.values()}
    found: list[dict[str, Any]] = [
        {"name": "repository", "digest": {"gitCommit": commit}, "annotations": {"changed": dirty}}
        for commit, dirty in sorted(each for each in commits if each[0])
    ]
    locks = [each for each in run.said("lock") if each]
    return found + [{"name": lock["file"], "digest": {"sha256": lock["sha256"]}} for lock in locks]


def _dependency(taken: Artefact) -> dict[str, Any]:
    """An input from outside; the full path is the business of the machine that read it."""
    algorithm = "sha256" if taken.files is None else TREE
    return {"name": Path(taken.path).name, "digest": {algorithm: taken.sha256}, "annotations": {"bytes": taken.size}}


def _details(run: Run) -> dict[str, Any]:
    found = {name: run.versions(name) for name in ("jointseg", "snakemake", "python")}
    version = {name: ", ".join(versions) for name, versions in found.items() if versions}
    # The id is made of content: the same flow over the same inputs is the same invocation.
    return {"builder": {"id": BUILDER, "version": version}, "metadata": {"invocationId": f"sha256:{run.digest}"}}
