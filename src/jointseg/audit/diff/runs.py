"""Which files of two runs differ, and for each the first job behind it at which the runs part, and in what."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.audit.diff.causes import Pair, Parting, files
from jointseg.audit.diff.files import How, how
from jointseg.audit.lineage import Lineage


@dataclass(frozen=True)
class FileDiff:
    """One file that differs: its path in the results folders, on which side it is ("A", "B", "both"), and how."""

    path: str
    where: str
    how: How | None = None


@dataclass(frozen=True)
class JobDiff:
    """The differing files of one job.

    Attributes:
        where: the run that has the job: "A", "B" or "both".
        of: number of files that the job made.
        partings: the jobs behind it, and perhaps itself, at which the runs part; the first come first.
    """

    job: str
    where: str
    files: list[FileDiff]
    of: int
    partings: list[Parting] = field(default_factory=list)


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
    same: int = 0
    otherwise: list[Parting] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        for job, told in zip(self.jobs, found["jobs"]):
            for each, file in zip(job.files, told["files"]):
                if each.how is not None and each.how.raster is not None:
                    file["how"]["raster"] = each.how.raster.as_json()
        return found | {"clean": not self.jobs}


def diff(
    a: Path,
    b: Path,
    maps: Path | None = None,
    begun: Callable[[int], None] = lambda total: None,
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Compares two runs by their manifests, and the files that differ by what is in them.

    Args:
        a, b: results folders; jobs are matched by the names of their manifests, files by their paths in the folders.
        maps: a folder for a picture of each raster that differs.
        begun: called once with the number of files to compare.
        advance: called for each file compared.
    """
    pair = Pair(Lineage(a), Lineage(b))
    report = Report(a.as_posix(), b.as_posix())
    for name in sorted(pair.a.manifests.keys() | pair.b.manifests.keys()):
        one, other = pair.a.manifests.get(name), pair.b.manifests.get(name)
        before, after = files(one), files(other)
        found = []
        for path in sorted(before.keys() | after.keys()):
            if path not in after or path not in before:
                found.append(FileDiff(path, "A" if path in before else "B"))
            elif before[path].sha256 != after[path].sha256:
                found.append(FileDiff(path, "both"))
        if found:
            where = "both" if one and other else "A" if one else "B"
            partings = pair.partings(name) if where == "both" else []
            report.jobs.append(JobDiff(name, where, found, len(before.keys() | after.keys()), partings))
        elif one and other:
            report.same += 1
            if changes := pair.changes(name):
                report.otherwise.append(Parting(name, changes))
    begun(sum(each.where == "both" for job in report.jobs for each in job.files))
    for job in report.jobs:
        for place, each in enumerate(job.files):
            if each.where == "both":
                picture = maps / f"{each.path.replace('/', '-')}.png" if maps else None
                job.files[place] = FileDiff(each.path, "both", how(a / each.path, b / each.path, picture))
                advance()
    return report
