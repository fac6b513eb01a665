"""Comparison of two runs: files that differ, and for each the first job at which the runs diverge and its differences."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.audit.diff.causes import Divergence, RunPair, declared_files
from jointseg.audit.diff.files import FileComparison, compare_files
from jointseg.audit.lineage import Lineage


@dataclass(frozen=True)
class FileDiff:
    """One file that differs: its path in the results folders, the side that has it ("A", "B" or "both"), and how."""

    path: str
    side: str
    difference: FileComparison | None = None


@dataclass(frozen=True)
class JobDiff:
    """The differing files of one job."""

    job: str
    side: str  # the run that has the job: "A", "B" or "both"
    files: list[FileDiff]
    total: int  # number of files that the job produced
    # the first jobs, among the job and its ancestors, at which the runs diverge
    divergences: list[Divergence] = field(default_factory=list)


@dataclass
class Report:
    """Result of a comparison of two runs."""

    a: str
    b: str
    jobs: list[JobDiff] = field(default_factory=list)
    identical_jobs: int = 0  # number of jobs with identical files
    # of those, the jobs whose manifests differ in more than times and locations
    changed_records: list[Divergence] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        payload = asdict(self)
        for job, job_payload in zip(self.jobs, payload["jobs"]):
            for file, file_payload in zip(job.files, job_payload["files"]):
                if file.difference is not None and file.difference.raster is not None:
                    file_payload["difference"]["raster"] = file.difference.raster.as_json()
        return payload | {"clean": not self.jobs}


def diff(
    a: Path,
    b: Path,
    maps: Path | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Compare two runs by their manifests, and differing files by content.

    Jobs are matched by manifest name, files by path in the results folder. `maps` is a folder for an image of each raster
    that differs. `on_start` is called once with the number of files to compare, `advance` for each of them.
    """
    pair = RunPair(Lineage(a), Lineage(b))
    report = Report(a.as_posix(), b.as_posix())
    for name in sorted(pair.a.manifests.keys() | pair.b.manifests.keys()):
        _compare_job(pair, name, report)
    on_start(sum(file.side == "both" for job in report.jobs for file in job.files))
    for job in report.jobs:
        for index, file in enumerate(job.files):
            if file.side == "both":
                image = maps / f"{file.path.replace('/', '-')}.png" if maps else None
                job.files[index] = FileDiff(file.path, "both", compare_files(a / file.path, b / file.path, image))
                advance()
    return report


def _compare_job(pair: RunPair, name: str, report: Report) -> None:
    """Add the comparison of one job by checksums to the report."""
    one, other = pair.a.manifests.get(name), pair.b.manifests.get(name)
    before, after = declared_files(one), declared_files(other)
    differing = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after or path not in before:
            differing.append(FileDiff(path, "A" if path in before else "B"))
        elif before[path].sha256 != after[path].sha256:
            differing.append(FileDiff(path, "both"))
    if differing:
        side = "both" if one and other else "A" if one else "B"
        divergences = pair.divergences(name) if side == "both" else []
        report.jobs.append(JobDiff(name, side, differing, len(before.keys() | after.keys()), divergences))
    elif one and other:
        report.identical_jobs += 1
        if changes := pair.changes(name):
            report.changed_records.append(Divergence(name, changes))
