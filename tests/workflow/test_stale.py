"""`jointseg audit stale` names the jobs that `snakemake -n` would run, and what made them stale."""

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

EDITS = 30
IN_CI = 5
# A config key by its place, another value, and the name under which the step takes it.
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
    """A file with other content; afterwards it is as before, its times included."""
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def setting(flow, chance: random.Random) -> Iterator[tuple[str, str]]:
    place, value, name = chance.choice(SETTINGS)

    def change(config: dict) -> None:
        *outer, last = place.split(".")
        for key in outer:
            config = config.setdefault(key, {})
        config[last] = value

    edited = flow.variant("edited", change)
    with replaced(flow.config, edited.read_bytes()):
        yield "setting", name


@contextmanager
def code(flow, chance: random.Random) -> Iterator[tuple[str, str]]:
    """One more statement in a random function that some step uses."""
    source = flow.root / "src"
    parts = code_parts(steps.module(chance.choice(sorted(steps.STEPS))), source)
    module, part = chance.choice(
        [(module, part) for module, found in sorted(parts.items()) for part in sorted(found) if is_function(part)]
    )
    path = source.joinpath(*module.split(".")).with_suffix(".py")
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in part.split("."):
        node = [each for each in body if getattr(each, "name", "") == name][-1]
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
def package(flow, chance: random.Random) -> Iterator[tuple[str, str]]:
    lock, name = flow.root / "requirements.lock", chance.choice(PACKAGES)
    edited, count = re.subn(rf"(?m)^{name}==.*$", f"{name}==99.1", lock.read_text())
    assert count == 1
    with replaced(lock, edited.encode()):
        yield "package", name.lower()


@contextmanager
def content(flow, chance: random.Random) -> Iterator[tuple[str, str]]:
    path = flow.results / chance.choice(INPUTS)
    with replaced(path, path.read_bytes() + b" "):
        yield "input", path.relative_to(flow.root).as_posix()


@contextmanager
def gone(flow, chance: random.Random) -> Iterator[tuple[str, str]]:
    path = chance.choice(sorted(flow.results.glob(chance.choice(OUTPUTS))))
    aside = flow.root / "aside"
    path.rename(aside)
    try:
        yield "output", path.relative_to(flow.root).as_posix()
    finally:
        aside.rename(path)


KINDS: list[Callable] = [setting, code, package, content, gone]


def test_nothing_is_stale_after_a_run(flow):
    done = flow.jointseg("audit", "stale", "mini.yaml")
    assert done.returncode == 0 and "nothing is stale" in done.stdout


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[] if n < IN_CI else [pytest.mark.slow]) for n in range(EDITS)]
)
def test_the_jobs_are_those_of_a_dry_run(flow, number):
    chance = random.Random(number)
    with KINDS[number % len(KINDS)](flow, chance) as (kind, what):
        expected = flow.jobs_to_run()
        done = flow.jointseg("audit", "stale", "mini.yaml", "--json")
    assert done.returncode == bool(expected), done.stderr
    plan = json.loads(done.stdout)
    jobs = plan["jobs"]
    assert Counter(job["rule"] for job in jobs) == expected, (kind, what)
    assert len({job["name"] for job in jobs}) == len(jobs)
    causes = {(change["kind"], change["what"]) for job in jobs for change in job["changes"]}
    assert expected, (kind, what)
    assert (kind, what) in causes, causes
    # Nothing else is blamed: one edit was made.
    assert {each for each, _ in causes} == {kind}, causes
    assert all(job["changes"] or job["follows"] for job in jobs)
    assert plan["unmeasured"] == 0 and sum(plan["hours"].values()) > 0
