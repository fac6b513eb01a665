"""The release: catalogue, crate, statement, cards and checksums, all made from manifests and files.

Nothing in it tells when or where a job ran, so the same maps make the same bytes.
"""

import logging
from pathlib import Path
from typing import Any

import yaml

from jointseg.provenance import cards, crate, stac, statement
from jointseg.provenance.code_digest import SOURCE
from jointseg.provenance.digest import file_digest
from jointseg.provenance.release_contents import Run, load_run
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

log = logging.getLogger(__name__)

WORKFLOW, CONFIG = "workflow", "workflow/config.yaml"
CHECKSUMS = "checksums.sha256"


def release(
    *,
    manifests: list[Path],
    isa: list[Path],
    mosaics: list[Path],
    report: Path,
    growth: Path,
    checkpoints: list[Path],
    catalogue: Path,
    workflow: dict[str, str],
    settings: dict[str, Any],
    accuracy: Path | None = None,
) -> dict[str, Any]:
    """Writes the release folder.

    Args:
        manifests: the manifests of all jobs behind the maps.
        isa: 1-m ISA tiles, at .../{year}/{tile}.tif.
        mosaics: ISA mosaics of cities, at .../{year}/{city}.tif.
        report: the HTML report.
        growth: the table of the cities' areas.
        checkpoints: the networks that made the maps.
        catalogue: the folder to make. Maps stay where they are; it points at them.
        workflow: sha256 of the workflow's files by their place beside the package: the Snakefile, then what it includes.
        settings: all settings of the run as plain values.
        accuracy: the table of accuracy; None for a run that has no test chips.

    Raises:
        DataError: for a map without manifest, of another size than its manifest says or with other codes than
            0, 1 and 255, for a checkpoint that this package did not write, and for a file of the workflow that is another.
    """
    results = catalogue.parent
    run = load_run(manifests, {"isa": isa, "mosaics": mosaics}, report, results, settings)
    with atomic_write(catalogue) as part:
        part.mkdir()
        flow = _copy_workflow(part, workflow, run)
        stac.write(part, run)
        statement.write(part, run, flow)
        cards.write(part, run, checkpoints, accuracy, growth)
        crate.write(part, run, flow)  # it tells of all before it
        _write_checksums(part, run)
    log.info("released %d tiles and %d mosaics of %d jobs", len(isa), len(mosaics), len(run.jobs))
    return {"tiles": len(isa), "mosaics": len(mosaics), "jobs": len(run.jobs), "digest": run.digest}


def _copy_workflow(part: Path, files: dict[str, str], run: Run) -> dict[str, Path]:
    """Copies the workflow and writes the settings; the copies by their place in the release, the main one first."""
    copies = {}
    for name, digest in files.items():
        place, file = f"{WORKFLOW}/{name}", SOURCE.parent / name
        if not file.is_file() or file_digest(file) != digest:
            raise DataError(f"{file} is not the {name} of this run; run the Snakefile that lies beside the package")
        copies[place] = part / place
        copies[place].parent.mkdir(parents=True, exist_ok=True)
        copies[place].write_bytes(file.read_bytes())
    copies[CONFIG] = part / CONFIG
    copies[CONFIG].write_text(yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return copies


def _write_checksums(part: Path, run: Run) -> None:
    """Every declared file, the report and the release itself, as `sha256sum -c` reads it."""
    lines = {f"../{run.report}": file_digest(run.results / run.report)}
    for each in run.outputs.values():
        lines |= {entry.path: entry.sha256 for entry in each.artefact.entries(f"../{each.path}")}
    lines |= {path.relative_to(part).as_posix(): file_digest(path) for path in part.rglob("*") if path.is_file()}
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items()))
    (part / CHECKSUMS).write_text(text, encoding="utf-8")
