"""Outputs that are derived from given files, according to the manifests."""

from collections import defaultdict
from pathlib import PurePosixPath

from jointseg.provenance.manifest import Manifest


def descendants(manifests: list[Manifest], files: set[str]) -> set[str]:
    """Return the declared outputs of all jobs that use one of the files, directly or through other jobs.

    A job that uses a folder uses every file in it. A job that uses a file also depends on the folder that contains it.
    """
    users: dict[str, list[Manifest]] = defaultdict(list)
    users_below: dict[str, list[Manifest]] = defaultdict(list)  # by every folder above an input
    for manifest in manifests if files else ():
        for artefact in manifest.inputs:
            if (path := manifest.relative_path(artefact.path)) is not None:
                users[path].append(manifest)
                for folder in _folders_above(path):
                    users_below[folder].append(manifest)
    derived: set[str] = set()
    seen: set[str] = set()
    queue = list(files)
    while queue:
        path = queue.pop()
        jobs = [*users[path], *users_below[path], *(job for folder in _folders_above(path) for job in users[folder])]
        for job in jobs:
            if job.name not in seen:
                seen.add(job.name)
                outputs = [output for output, _ in job.declared_outputs()]
                derived.update(outputs)
                queue += outputs
    return derived


def _folders_above(path: str) -> list[str]:
    return [folder.as_posix() for folder in PurePosixPath(path).parents][:-1]
