"""A workflow of two steps that runs without Snakemake, for tests of manifests and audits."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.iocontainers import Namedlist

from jointseg.provenance.job_record import run_job
from jointseg.runtime.files import atomic_write

WRITTEN = {"maps/a/one.txt": "one", "maps/a/sub/two.txt": "two"}


def named(values: dict[str, Any]) -> Namedlist:
    """Named values as Snakemake passes them to scripts: strings as items, lists as nested lists."""
    flat: list[Any] = []
    spans = {}
    for name, value in values.items():
        start = len(flat)
        if isinstance(value, list):
            flat += value
            spans[name] = (start, len(flat))
        else:
            flat.append(value)
            spans[name] = (start, None)
    namedlist = Namedlist(flat)
    for name, (start, end) in spans.items():
        namedlist._set_name(name, start, end=end)
    return namedlist


def job(rule: str, results: str, *, inputs=None, outputs=None, wildcards=None, params=None) -> SimpleNamespace:
    """The object that Snakemake passes to the script of a rule."""
    job_name = "/".join([rule, *map(str, (wildcards or {}).values())])
    settings = Namedlist()
    for name, value in (params or {}).items():
        settings.append(value)
        settings._add_name(name)
    return SimpleNamespace(
        rule=rule,
        input=named(inputs or {}),
        output=named({**(outputs or {}), "manifest": f"{results}/manifests/{job_name}.json"}),
        wildcards=named({name: str(value) for name, value in (wildcards or {}).items()}),
        params=settings,
        log=named({"log": f"{results}/logs/{job_name}.log"}),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Restore logging and signal handler of the test process afterwards."""
    root = logging.getLogger()
    handlers, level, handler = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for each in root.handlers:
            if each not in handlers:
                each.close()
        root.handlers[:], root.level = handlers, level
        logging.captureWarnings(False)
        logging.raiseExceptions = True
        signal.signal(signal.SIGTERM, handler)


def maps(*, source: Path, maps: Path, tile: str, factor: int) -> dict[str, Any]:
    """Write a folder."""
    assert source.is_file() and factor == 2
    with atomic_write(maps) as part:
        for name, text in WRITTEN.items():
            path = part / Path(name).relative_to("maps/a")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return {"tile": tile}


def total(*, maps: list[Path], extra: Path | None = None, total: Path) -> None:
    """Write the file names of folders to one file."""
    assert extra is None
    with atomic_write(total) as part:
        part.write_text("".join(sorted(path.name for folder in maps for path in folder.rglob("*.txt"))))


def make(results: str = "results/toy") -> None:
    """Run the workflow into a results folder below the working directory."""
    Path("source.txt").write_text("the source")
    first = job(
        "maps",
        results,
        inputs={"source": "source.txt"},
        outputs={"maps": f"{results}/maps/a"},
        wildcards={"tile": "a"},
        params={"factor": 2, "code": "c0de"},
    )
    second = job(
        "total",
        results,
        inputs={"maps": [f"{results}/maps/a"], "extra": []},
        outputs={"total": f"{results}/total.txt"},
        params={"code": "c0de"},
    )
    with quiet():
        run_job(first, maps)
        run_job(second, total)
