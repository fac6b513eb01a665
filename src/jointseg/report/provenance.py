"""The report's section on provenance, from the manifests: checkpoints, code, versions, processors."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jointseg.provenance.machine import MAIN_PACKAGES

_CHECKPOINT = ".safetensors"


def checkpoints(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return every checkpoint that the run wrote or read, with its checksum and the facts of its training job."""
    rows: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda each: (each["rule"], str(each["wildcards"]))):
        job = " ".join([record["rule"], *map(str, record["wildcards"].values())])
        for output in record["outputs"]:
            if output["path"].endswith(_CHECKPOINT):
                facts = _one_line(record.get("facts") or {})
                rows[output["sha256"]] = {"file": output["path"], "job": job, "facts": facts}
    for record in records:
        for source in record["inputs"]:
            if source["path"].endswith(_CHECKPOINT):
                external = {"file": source["path"], "job": "external input", "facts": ""}
                rows.setdefault(source["sha256"], external)
    return [{"sha256": sha, **row} for sha, row in sorted(rows.items(), key=lambda item: item[1]["file"])]


def table_files(
    tables: dict[str, list[Path]], records: list[dict[str, Any]], manifests: list[Path], page: Path
) -> dict[str, list[dict[str, str]]]:
    """Return the files of each table and the manifests of their jobs, as links relative to the page."""
    manifest_of = {output["path"]: path for record, path in zip(records, manifests) for output in record["outputs"]}
    return {
        name: [
            {"name": path.name, "href": _link(path, page), "manifest": _link(manifest_of[path.as_posix()], page)}
            for path in paths
            if path.as_posix() in manifest_of
        ]
        for name, paths in tables.items()
    }


def _link(path: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def run_provenance(records: list[dict[str, Any]], manifests: list[Path], page: Path) -> dict[str, Any]:
    """Return jobs, files and code by rule with a link to one of its manifests; commits, versions, processors."""
    manifest_of = {record["rule"]: _link(path, page) for record, path in reversed(list(zip(records, manifests)))}
    rules: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda each: each["rule"]):
        name = record["rule"]
        rule = rules.setdefault(name, {"rule": name, "jobs": 0, "files": 0, "bytes": 0, "code": set()})
        rule["jobs"] += 1
        rule["files"] += sum(len(output.get("files") or [0]) for output in record["outputs"])
        rule["bytes"] += sum(output["size"] for output in record["outputs"])
        rule["code"].add(str(record.get("code") or "")[:10])
    for rule in rules.values():
        rule["size"] = f"{rule['bytes'] / 1e6:.2f}"
        rule["code"] = ", ".join(sorted(rule["code"]))
        rule["manifest"] = manifest_of.get(rule["rule"], "")
    commits = {
        (record.get("commit") or "none")[:12] + (" + changes" if record.get("dirty") else "") for record in records
    }
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in (record.get("versions") or {}).items():
            if name in MAIN_PACKAGES:
                versions.setdefault(name, set()).add(str(version))
    machines = [record.get("device") or {} for record in records]
    devices = {str(machine.get("cuda") or machine.get("processor")) for machine in machines}
    return {
        "rules": list(rules.values()),
        "commits": sorted(commits),
        "versions": [(name, ", ".join(sorted(versions[name]))) for name in MAIN_PACKAGES if name in versions],
        "devices": sorted(devices),
        "jobs": len(records),
    }


def _one_line(facts: dict[str, Any], prefix: str = "") -> str:
    """Return the facts of a job on one line, without lists and long texts."""
    parts = []
    for key, value in sorted(facts.items()):
        if isinstance(value, dict):
            parts.append(_one_line(value, f"{prefix}{key}."))
        elif isinstance(value, float):
            parts.append(f"{prefix}{key} {value:.4g}")
        elif isinstance(value, int | str) and len(str(value)) <= 40:
            parts.append(f"{prefix}{key} {value}")
    return ", ".join(part for part in parts if part)
