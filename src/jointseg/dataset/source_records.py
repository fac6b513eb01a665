"""What a dataset was made from, as the manifests of its jobs know it: names, sizes and hashes, and no place."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from jointseg.provenance.manifest import Artefact, Manifest, read

_OWN = "dataset/"  # in a results folder: what the dataset's own jobs made


def sources(manifests: Sequence[Path], pairs: Sequence[Path]) -> dict[str, Any]:
    """The sources of a dataset, by the name of the input: what its jobs took and no job of the dataset made.

    A source is {"name", "sha256", "size"}, sorted by name. `scenes` has, of
    Jilin-1, for each scene that a chip shows its id, the number of chips and, where a manifest lists them, its files;
    of Sentinel-2 the ids in the frozen list of each tile, where manifests of the rule `scenes` are given.

    Args:
        manifests: of the jobs that made the dataset; of those that made its sources, where there are such.
        pairs: one table a reach.
    """
    jobs = sorted((read(path) for path in manifests), key=lambda job: job.name)
    taken: dict[str, dict[str, Artefact]] = {}
    for job in jobs:
        for one in job.inputs if _makes_dataset(job) else []:
            if not (job.relative_path(one.path) or "").startswith(_OWN):
                taken.setdefault(one.name, {})[one.sha256] = one
    told: dict[str, Any] = {
        name: sorted((_told(one) for one in found.values()), key=lambda each: (each["name"], each["sha256"]))
        for name, found in sorted(taken.items())
    }
    told["scenes"] = {
        "jilin1": list(_used(pairs, _listed(jobs, taken.get("jilin1", {})))),
        "sentinel2": [
            {"tile": job.record["wildcards"]["tile"], "scenes": job.record["facts"]["scenes"]}
            for job in jobs
            if job.rule == "scenes"
        ],
    }
    return told


def _makes_dataset(job: Manifest) -> bool:
    return any((job.relative_path(made.path) or "").startswith(_OWN) for made in job.outputs)


def _told(one: Artefact) -> dict[str, Any]:
    return {"name": PurePosixPath(one.path).name, "sha256": one.sha256, "size": one.size}


def _listed(jobs: Sequence[Manifest], folders: dict[str, Artefact]) -> list[dict[str, Any]]:
    """The files of folders, by a manifest that lists them: of the job that took a folder, or of the one that made it."""
    listed = {one.sha256: one.files for job in jobs for one in (*job.inputs, *job.outputs) if one.files is not None}
    files = [entry for digest in folders for entry in listed.get(digest, ())]
    return [{"path": each.path, "sha256": each.sha256, "size": each.size} for each in files]


def _used(pairs: Sequence[Path], files: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not pairs:
        return
    table = pd.concat([pd.read_parquet(path, columns=["status", "scene_id", "path"]) for path in pairs])
    table = table[table["status"] == "ok"]
    for scene_id, rows in table.groupby("scene_id", sort=True):
        raster = PurePosixPath(rows["path"].iloc[0])
        # A scene that lies in no folder of its own is its raster alone.
        within = [each for each in files if each["path"] == str(raster) or each["path"].startswith(f"{raster.parent}/")]
        yield {"scene": scene_id, "chips": len(rows), "files": sorted(within, key=lambda each: each["path"])}
