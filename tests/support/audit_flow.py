"""A workflow of four small steps with a raster, a folder and a table, for tests of diff, replay and prune."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from support.provenance_flow import job, quiet

from jointseg.provenance.job_record import run_job
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.files import atomic_write

SIDE = 1200
NOISE = "TOY_NOISE"  # environment variable that is not recorded in manifests


def scenes(*, archive: Path, scenes: Path) -> dict[str, Any]:
    """Write the list of files of a folder."""
    names = sorted(path.name for path in archive.iterdir())
    with atomic_write(scenes) as part:
        part.write_text(json.dumps({"scenes": names}))
    return {"scenes": names}


def isa(*, scenes: Path, isa: Path, year: str, model: dict[str, int], seed: int) -> None:
    """Write a map with `level` impervious rows per scene."""
    array = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    array[0, : model["level"] * len(json.loads(scenes.read_text())["scenes"])] = 1
    array[0, -1, seed % SIDE :] = 255
    array[0, 5, : int(os.environ.get(NOISE, "0"))] = 255
    cog.write(isa, array, crs="EPSG:32650", transform=Affine(1, 0, 660000, 0, -1, 3541200), descriptions=("isa",))


def chips(*, isa: Path, chips: Path) -> None:
    """Write two corners of the map to a folder."""
    with atomic_write(chips) as folder:
        folder.mkdir()
        for name, start in (("a", 0), ("b", SIDE - 10)):
            values = raster_io.read(isa)[0][:, start : start + 10, start : start + 10]
            cog.write(folder / f"{name}.tif", values, crs="EPSG:32650", transform=Affine(1, 0, 0, 0, -1, 10))


def assess(*, chips: list[Path], corrections: list[Path], table: Path, names: dict[str, str]) -> None:
    """Count the impervious pixels of each chip, with rows in the order of `names`."""
    assert corrections == []
    with atomic_write(table) as part:
        counts = {path.stem: int((raster_io.read(path)[0] == 1).sum()) for path in sorted(chips[0].iterdir())}
        part.write_text("name,pixels\n" + "".join(f"{names[name]},{counts[name]}\n" for name in names))


def make(
    results: str, archive: str = "archive", level: int = 3, seed: int = 7, names: tuple[str, ...] = ("b", "a")
) -> Path:
    """Run the workflow into a results folder, in the working directory."""
    Path(archive).mkdir(exist_ok=True)
    for path in (Path(archive, "S2A"), Path(archive, "S2B")):
        if not path.exists():
            path.write_text(path.name)
    wildcards = {"year": "2021"}
    scene_list, isa_map = f"{results}/scenes.json", f"{results}/isa/2021.tif"
    chip_folder = f"{results}/dataset/chips/east"
    with quiet():
        run_job(job("scenes", results, inputs={"archive": archive}, outputs={"scenes": scene_list}), scenes)
        settings = {"model": {"level": level}, "seed": seed}
        inputs, outputs = {"scenes": scene_list}, {"isa": isa_map}
        predict = job("predict", results, inputs=inputs, outputs=outputs, wildcards=wildcards, params=settings)
        run_job(predict, isa)
        run_job(job("chips", results, inputs={"isa": isa_map}, outputs={"chips": chip_folder}), chips)
        assessment = job(
            "assess",
            results,
            inputs={"chips": [chip_folder], "corrections": []},
            outputs={"table": f"{results}/accuracy.csv"},
            params={"names": {name: f"chip {name}" for name in names}},
        )
        run_job(assessment, assess)
    return Path(results)
