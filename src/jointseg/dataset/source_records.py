"""Sources of a dataset, from the manifests of its jobs: names, sizes and checksums, without paths."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from jointseg.provenance.manifest import Artefact, Manifest, read

_DATASET = "dataset/"  # prefix of the outputs of the dataset's own jobs in a results folder


def sources(manifests: Sequence[Path], pairs: Sequence[Path]) -> dict[str, Any]:
    """Return the sources of a dataset by input name: inputs of its jobs that no job of the dataset made.

    A source is {"name", "sha256", "size"}, sorted by name. `scenes` lists, for Jilin-1, each scene of an accepted pair
    with its id, the number of chips and, if a manifest lists them, its files; for Sentinel-2, the ids in the scene list
    of each tile, if manifests of the rule `scenes` are given. `pairs` has one table per reach.
    """
    jobs = sorted((read(path) for path in manifests), key=lambda job: job.name)
    inputs: dict[str, dict[str, Artefact]] = {}
    for job in jobs:
        if any(_in_dataset(job, output) for output in job.outputs):
            for artefact in job.inputs:
                if not _in_dataset(job, artefact):
                    inputs.setdefault(artefact.name, {})[artefact.sha256] = artefact
    records: dict[str, Any] = {
        name: sorted(map(_record, by_digest.values()), key=lambda record: (record["name"], record["sha256"]))
        for name, by_digest in sorted(inputs.items())
    }
    records["scenes"] = {
        "jilin1": list(_jilin1_scenes(pairs, _listed_files(jobs, inputs.get("jilin1", {})))),
        "sentinel2": [
            {"tile": job.record["wildcards"]["tile"], "scenes": job.record["facts"]["scenes"]}
            for job in jobs
            if job.rule == "scenes"
        ],
    }
    return records


def _in_dataset(job: Manifest, artefact: Artefact) -> bool:
    return (job.relative_path(artefact.path) or "").startswith(_DATASET)


def _record(artefact: Artefact) -> dict[str, Any]:
    return {"name": PurePosixPath(artefact.path).name, "sha256": artefact.sha256, "size": artefact.size}


def _listed_files(jobs: Sequence[Manifest], folders: dict[str, Artefact]) -> list[dict[str, Any]]:
    """Return the files of folders, from any manifest that lists them as inputs or outputs."""
    listed = {one.sha256: one.files for job in jobs for one in (*job.inputs, *job.outputs) if one.files is not None}
    files = [entry for digest in folders for entry in listed.get(digest, ())]
    return [{"path": entry.path, "sha256": entry.sha256, "size": entry.size} for entry in files]


def _jilin1_scenes(pairs: Sequence[Path], files: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not pairs:
        return
    table = pd.concat([pd.read_parquet(path, columns=["status", "scene_id", "path"]) for path in pairs])
    table = table[table["status"] == "ok"]
    for scene_id, rows in table.groupby("scene_id", sort=True):
        raster = PurePosixPath(rows["path"].iloc[0])
        # A scene without a folder of its own consists only of its raster.
        own = [file for file in files if file["path"] == str(raster) or file["path"].startswith(f"{raster.parent}/")]
        yield {"scene": scene_id, "chips": len(rows), "files": sorted(own, key=lambda file: file["path"])}
