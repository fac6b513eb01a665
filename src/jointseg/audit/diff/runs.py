"""Which files of two runs differ, and for each the first job behind it at which the runs part, and in what."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.audit.diff.causes import Divergence, RunPair, declared_files
from jointseg.audit.diff.files import FileComparison, compare_files
from jointseg.audit.lineage import Lineage


@dataclass(frozen=True)
class FileDiff:
    """One file that differs: its path in the results folders, on which side it is ("A", "B", "both"), and how."""

    path: str
    side: str
    difference: FileComparison | None = None


@dataclass(frozen=True)
class JobDiff:
    """The differing files of one job.

    Attributes:
        side: the run that has the job: "A", "B" or "both".
        total: number of files that the job made.
        divergences: the jobs behind it, and perhaps itself, at which the runs part; the first come first.
    """

    job: str
    side: str
    files: list[FileDiff]
    total: int
    divergences: list[Divergence] = field(default_factory=list)


@dataclass
class Report:
    """What a comparison of two runs saw.

    Attributes:
        jobs: those with files that differ.
        same: jobs whose files are the same bytes in both.
        otherwise: of those, the ones whose records differ in more than times and place.
    """

    a: str
    b: str
    jobs: list[JobDiff] = field(default_factory=list)
    identical_jobs: int = 0
    changed_records: list[Divergence] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        for job, told in zip(self.jobs, found["jobs"]):
            for each, file in zip(job.files, told["files"]):
                if each.difference is not None and each.difference.raster is not None:
                    file["difference"]["raster"] = each.difference.raster.as_json()
        return found | {"clean": not self.jobs}


def diff(
    a: Path,
    b: Path,
    maps: Path | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Compares two runs by their manifests, and the files that differ by what is in them.

    Args:
        a, b: results folders; jobs are matched by the names of their manifests, files by their paths in the folders.
        maps: a folder for a picture of each raster that differs.
        on_start: called once with the number of files to compare.
        advance: called for each file compared.
    """
    pair = RunPair(Lineage(a), Lineage(b))
    report = Report(a.as_posix(), b.as_posix())
    for name in sorted(pair.a.manifests.keys() | pair.b.manifests.keys()):
        one, other = pair.a.manifests.get(name), pair.b.manifests.get(name)
        before, after = declared_files(one), declared_files(other)
        found = []
        for path in sorted(before.keys() | after.keys()):
            if path not in after or path not in before:
                found.append(FileDiff(path, "A" if path in before else "B"))
            elif before[path].sha256 != after[path].sha256:
                found.append(FileDiff(path, "both"))
        if found:
            side = "both" if one and other else "A" if one else "B"
            divergences = pair.divergences(name) if side == "both" else []
            report.jobs.append(JobDiff(name, side, found, len(before.keys() | after.keys()), divergences))
        elif one and other:
            report.identical_jobs += 1
            if changes := pair.changes(name):
                report.changed_records.append(Divergence(name, changes))
    on_start(sum(each.side == "both" for job in report.jobs for each in job.files))
    for job in report.jobs:
        for place, each in enumerate(job.files):
            if each.side == "both":
                picture = maps / f"{each.path.replace('/', '-')}.png" if maps else None
                job.files[place] = FileDiff(each.path, "both", compare_files(a / each.path, b / each.path, picture))
                advance()
    return report
