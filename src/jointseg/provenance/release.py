"""The release: STAC catalogue, RO-Crate, in-toto statement, cards and checksums, derived from manifests and files.

It contains no times and hosts, so the same maps give the same bytes.
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
    """Write the release folder.

    Args:
        manifests: manifests of all jobs that the maps depend on.
        isa: 1-m ISA tiles, .../{year}/{tile}.tif.
        mosaics: ISA mosaics of cities, .../{year}/{city}.tif.
        checkpoints: the networks that the maps were predicted with.
        catalogue: the folder to write. Maps are not copied; the catalogue links to them.
        workflow: sha256 of the workflow files by path relative to the repository: the Snakefile, then its includes.
        settings: all settings of the run as plain values.
        accuracy: the accuracy table; None for a run without test chips.

    Raises:
        DataError: a map has no manifest, a size that differs from its manifest or codes other than 0, 1 and 255; a
            checkpoint was not written by this package; or a workflow file has changed since the run.
    """
    results = catalogue.parent
    run = load_run(manifests, {"isa": isa, "mosaics": mosaics}, report, results, settings)
    with atomic_write(catalogue) as part:
        part.mkdir()
        copies = _copy_workflow(part, workflow, run)
        stac.write(part, run)
        statement.write(part, run, copies)
        cards.write(part, run, checkpoints, accuracy, growth)
        crate.write(part, run, copies)  # lists the files written so far
        _write_checksums(part, run)
    log.info("released %d tiles and %d mosaics of %d jobs", len(isa), len(mosaics), len(run.jobs))
    return {"tiles": len(isa), "mosaics": len(mosaics), "jobs": len(run.jobs), "digest": run.digest}


def _copy_workflow(part: Path, files: dict[str, str], run: Run) -> dict[str, Path]:
    """Copy the workflow and write the settings; return the copies by path in the release, the Snakefile first."""
    copies = {}
    for name, digest in files.items():
        file = SOURCE.parent / name
        if not file.is_file() or file_digest(file) != digest:
            raise DataError(f"{file} is not the {name} of this run; run the Snakefile beside the package")
        copy = part / WORKFLOW / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        copies[f"{WORKFLOW}/{name}"] = copy
    copies[CONFIG] = part / CONFIG
    copies[CONFIG].write_text(yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return copies


def _write_checksums(part: Path, run: Run) -> None:
    """Checksums of every declared file, the report and the release, in the format of `sha256sum -c`."""
    lines = {f"../{run.report}": file_digest(run.results / run.report)}
    for output in run.outputs.values():
        lines |= {entry.path: entry.sha256 for entry in output.artefact.entries(f"../{output.path}")}
    lines |= {path.relative_to(part).as_posix(): file_digest(path) for path in part.rglob("*") if path.is_file()}
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items()))
    (part / CHECKSUMS).write_text(text, encoding="utf-8")
