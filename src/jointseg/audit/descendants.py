"""What descends from a file, by the paths in the manifests."""

from collections import defaultdict
from pathlib import PurePosixPath

from jointseg.provenance.manifest import Manifest


def descendants(manifests: list[Manifest], files: set[str]) -> set[str]:
    """Outputs, as jobs declare them, of every job that took one of the files, or took what such a job made, and so on.

    A job that took a folder took every file in it; one that took a file took part of the folder that holds it.
    """
    takers: dict[str, list[Manifest]] = defaultdict(list)
    inner_takers: dict[str, list[Manifest]] = defaultdict(list)  # by every folder above an input
    for manifest in manifests if files else ():
        for taken in manifest.inputs:
            if (inside := manifest.relative_path(taken.path)) is not None:
                takers[inside].append(manifest)
                for above in _above(inside):
                    inner_takers[above].append(manifest)
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        jobs = [*takers[path], *inner_takers[path], *(job for above in _above(path) for job in takers[above])]
        for job in jobs:
            if job.name not in seen:
                seen.add(job.name)
                made = [inside for inside, _ in job.declared_outputs()]
                found.update(made)
                waiting += made
    return found


def _above(path: str) -> list[str]:
    return [each.as_posix() for each in PurePosixPath(path).parents][:-1]
