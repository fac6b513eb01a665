"""`jointseg audit outdated` lists the jobs of `snakemake -n`, and the change that outdates them."""

import ast
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jointseg.provenance.code_digest import code_parts
from jointseg.provenance.syntax import MODULE_LEVEL
from jointseg.run import steps

COUNT = 30
FAST_EDITS = 5  # the others are slow tests
# Config key, another value, and the name of the step's parameter.
SETTINGS = [
    ("sentinel2.max_cloud_percent", 70, "max_cloud_percent"),
    ("sentinel2.mask_dilation_m", 30, "mask_dilation_m"),
    ("sentinel2.method", "medoid", "method"),
    ("dataset.count", 44, "points"),
    ("dataset.min_correlation", 0.45, "min_correlation"),
    ("dataset.lane_width_m", 3.4, "lane_width_m"),
    ("superres.presets.small.stage2.learning_rate", 0.002, "training.learning_rate"),
    ("superres.presets.small.adversarial.perceptual", 0.2, "training.perceptual"),
    ("segmentation.presets.small.training.clip", 2.0, "training.clip"),
    ("inference.stride_m", 400, "stride_m"),
    ("inference.preview_km", 1.0, "preview_km"),
    ("title", "Another title", "title"),
    ("seed", 7, "seed"),
]
PACKAGES = ["shapely", "torch", "safetensors", "pystac", "scipy", "Jinja2", "pyproj"]
INPUTS = ["sources/osm.gpkg", "dataset/samples.parquet", "superres/stage1.safetensors", "accuracy/accuracy.csv"]
OUTPUTS = [
    "isa/2017/*.tif",
    "sentinel2/composites/2021/*.tif",
    "segmentation/superres.safetensors",
    "mosaics/2021/*.tif",
]


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Replace the content of a file, and restore it with its times afterwards."""
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def changed_setting(finished, chance: random.Random) -> Iterator[tuple[str, str]]:
    key, value, name = chance.choice(SETTINGS)

    def change(config: dict) -> None:
        *sections, last = key.split(".")
        for section in sections:
            config = config.setdefault(section, {})
        config[last] = value

    edited = finished.changed_config("edited", change)
    with replaced(finished.config, edited.read_bytes()):
        yield "setting", name


@contextmanager
def changed_code(finished, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Add a statement to a random function that a step uses."""
    source = finished.root / "src"
    parts = code_parts(steps.module(chance.choice(sorted(steps.STEPS))), source)
    module, part = chance.choice(
        [(module, part) for module, found in sorted(parts.items()) for part in sorted(found) if is_function(part)]
    )
    path = source.joinpath(*module.split(".")).with_suffix(".py")
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in part.split("."):
        node = [child for child in body if getattr(child, "name", "") == name][-1]
        body = node.body
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(body[-1].lineno - 1, " " * body[-1].col_offset + "pass\n")
    with replaced(path, "".join(lines).encode()):
        yield "code", f"{module}:{part}"


def is_function(part: str) -> bool:
    return (
        part != MODULE_LEVEL
        and (part.rsplit(".", maxsplit=1)[-1].islower() or part[0] == "_")
        and "/" not in part
        and "html" not in part
    )


@contextmanager
def changed_package(finished, chance: random.Random) -> Iterator[tuple[str, str]]:
    lock, name = finished.root / "requirements.lock", chance.choice(PACKAGES)
    edited, count = re.subn(rf"(?m)^{name}==.*$", f"{name}==99.1", lock.read_text())
    assert count == 1
    with replaced(lock, edited.encode()):
        yield "package", name.lower()


@contextmanager
def changed_input(finished, chance: random.Random) -> Iterator[tuple[str, str]]:
    path = finished.results / chance.choice(INPUTS)
    with replaced(path, path.read_bytes() + b" "):
        yield "input", path.relative_to(finished.root).as_posix()


@contextmanager
def deleted_output(finished, chance: random.Random) -> Iterator[tuple[str, str]]:
    path = chance.choice(sorted(finished.results.glob(chance.choice(OUTPUTS))))
    aside = finished.root / "aside"
    path.rename(aside)
    try:
        yield "output", path.relative_to(finished.root).as_posix()
    finally:
        aside.rename(path)


EDITS: list[Callable] = [changed_setting, changed_code, changed_package, changed_input, deleted_output]


def test_everything_is_up_to_date_after_a_run(finished):
    done = finished.jointseg("audit", "outdated", "mini.yaml")
    assert done.returncode == 0 and "everything is up to date" in done.stdout


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[] if n < FAST_EDITS else [pytest.mark.slow]) for n in range(COUNT)]
)
def test_jobs_are_those_of_a_dry_run(finished, number):
    chance = random.Random(number)
    with EDITS[number % len(EDITS)](finished, chance) as (kind, what):
        expected = finished.jobs_to_run()
        done = finished.jointseg("audit", "outdated", "mini.yaml", "--json")
    assert done.returncode == bool(expected), done.stderr
    plan = json.loads(done.stdout)
    jobs = plan["jobs"]
    assert Counter(job["rule"] for job in jobs) == expected, (kind, what)
    assert len({job["name"] for job in jobs}) == len(jobs)
    causes = {(change["kind"], change["what"]) for job in jobs for change in job["changes"]}
    assert expected, (kind, what)
    assert (kind, what) in causes, causes
    assert {cause for cause, _ in causes} == {kind}, causes
    assert all(job["changes"] or job["follows"] for job in jobs)
    assert plan["unmeasured"] == 0 and sum(plan["hours"].values()) > 0
