"""What made a run, out of its manifests: checkpoints, code, versions, processors."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jointseg.provenance.machine import MAIN_PACKAGES

_WEIGHTS = ".safetensors"


def weights(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every checkpoint that the run made or was given, with its hash and what its job said of the training."""
    out: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda each: (each["rule"], str(each["wildcards"]))):
        job = " ".join([record["rule"], *map(str, record["wildcards"].values())])
        for made in record["outputs"]:
            if made["path"].endswith(_WEIGHTS):
                out[made["sha256"]] = {"file": made["path"], "job": job, "said": _flat(record.get("facts") or {})}
    for record in records:
        for taken in record["inputs"]:
            if taken["path"].endswith(_WEIGHTS):
                out.setdefault(taken["sha256"], {"file": taken["path"], "job": "given to this run", "said": ""})
    return [{"sha256": sha, **told} for sha, told in sorted(out.items(), key=lambda item: item[1]["file"])]


def files(
    tables: dict[str, list[Path]], records: list[dict[str, Any]], manifests: list[Path], page: Path
) -> dict[str, list[dict[str, str]]]:
    """The files of each table with the manifests of the jobs that made them, as links from the page's folder."""
    maker = {made["path"]: path for record, path in zip(records, manifests) for made in record["outputs"]}
    return {
        name: [
            {"name": path.name, "href": _link(path, page), "manifest": _link(maker[path.as_posix()], page)}
            for path in paths
            if path.as_posix() in maker
        ]
        for name, paths in tables.items()
    }


def _link(path: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def provenance(records: list[dict[str, Any]], manifests: list[Path], page: Path) -> dict[str, Any]:
    """What made the run: jobs, files and code by rule with a link to one of its manifests; commits, versions, processors.

    Args:
        records: of the manifests, in their order.
        manifests: their paths.
        page: that links to them.
    """
    one = {record["rule"]: _link(path, page) for record, path in reversed(list(zip(records, manifests)))}
    rules: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda each: each["rule"]):
        rule = rules.setdefault(
            record["rule"], {"rule": record["rule"], "jobs": 0, "files": 0, "bytes": 0, "code": set()}
        )
        rule["jobs"] += 1
        rule["files"] += sum(len(made.get("files") or [0]) for made in record["outputs"])
        rule["bytes"] += sum(made["size"] for made in record["outputs"])
        rule["code"].add(str(record.get("code") or "")[:10])
    for rule in rules.values():
        rule["size"] = f"{rule['bytes'] / 1e6:.2f}"
        rule["code"] = ", ".join(sorted(rule["code"]))
        rule["manifest"] = one.get(rule["rule"], "")
    commits = {
        f"{str(each.get('commit') or 'none')[:12]}{' + changes' if each.get('dirty') else ''}" for each in records
    }
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in (record.get("versions") or {}).items():
            if name in MAIN_PACKAGES:
                versions.setdefault(name, set()).add(str(version))
    devices = {
        str((each.get("device") or {}).get("cuda") or (each.get("device") or {}).get("processor")) for each in records
    }
    return {
        "rules": list(rules.values()),
        "commits": sorted(commits),
        "versions": [(name, ", ".join(sorted(versions[name]))) for name in MAIN_PACKAGES if name in versions],
        "devices": sorted(devices),
        "jobs": len(records),
    }


def _flat(facts: dict[str, Any], prefix: str = "") -> str:
    """Facts of a job as one line; lists and long texts are left to the manifest."""
    parts = []
    for key, value in sorted(facts.items()):
        if isinstance(value, dict):
            parts.append(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, float):
            parts.append(f"{prefix}{key} {value:.4g}")
        elif isinstance(value, int | str) and len(str(value)) <= 40:
            parts.append(f"{prefix}{key} {value}")
    return ", ".join(part for part in parts if part)
