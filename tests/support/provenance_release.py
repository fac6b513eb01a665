"""A tiny finished run, and its release: two years, one tile, one city, one trained network and one that was given."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from affine import Affine
from support.provenance_flow import job, quiet
from torch import nn

from jointseg.config.load import load_config
from jointseg.models import checkpoint
from jointseg.provenance.digest import file_digest
from jointseg.provenance.job_record import run_job
from jointseg.provenance.release import release
from jointseg.raster import cog

REPOSITORY = Path(__file__).parents[2]
TILE, CITY, YEARS = "50N_E0660_N3540", "Hefei", (2021, 2023)
ARRAY = np.array([[[0, 1], [255, 1]]], dtype="uint8")
PLACE = {"crs": "EPSG:32650", "transform": Affine(1, 0, 660000, 0, -1, 3544000)}
ROOT = "results/toy"
_KEPT = tempfile.TemporaryDirectory()
TRAINED = {"method": "superres", "seed": 7, "threshold": 0.25, "chips": {"train": 20, "validation": 6}}


def scenes(*, scenes: Path, year: str, tile: str, level: str) -> dict[str, Any]:
    """Three scenes a year, one of them the same for every tile."""
    scenes.write_text("{}")
    return {"scenes": [f"S2_{year}_{number}" for number in range(3)]}


def composite(*, scenes: Path, archive: Path, composite: Path, year: str, tile: str) -> dict[str, Any]:
    """A composite of one pixel."""
    cog.write(composite, np.ones((3, 1, 1), "uint16"), **PLACE, nodata=0)
    return {"mean_clear_observations": 2.5, "valid_fraction": 0.75}


def segmentation(*, checkpoint: Path, method: str, seed: int) -> dict[str, Any]:
    """A network of three numbers."""
    save(checkpoint, TRAINED)
    return {"device": "cpu", "validation_f1": 0.5}


def dataset(*, card: Path) -> dict[str, Any]:
    """A dataset of 30 chips."""
    card.write_text("chips")
    return {"chips": {"train": 20, "validation": 6, "test": 4}, "isa_fraction": {"train": 0.25}}


def isa(*, composites: list[Path], superres: Path, segmentation: Path, isa: Path, year: str, tile: str) -> None:
    """A map of four pixels."""
    cog.write(isa, ARRAY, **PLACE, nodata=255)


def mosaic(*, isa: list[Path], mosaic: Path, city: str, year: str) -> None:
    """The map again."""
    cog.write(mosaic, ARRAY, **PLACE, nodata=255)


def save(path: Path, trained: dict[str, Any]) -> None:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, 0.5)
    nn.init.constant_(model.bias, 0.5)
    checkpoint.save(
        path,
        nn.Sequential(model),
        architecture={"name": "mask2former", "kwargs": {"queries": 4}},
        normalisation={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
        extra=trained,
    )


def make() -> Path:
    """Makes the run in the working directory, the first time, or copies it there; its results folder."""
    if not any(Path(_KEPT.name).iterdir()):
        _make()
        shutil.copytree(".", _KEPT.name, dirs_exist_ok=True)
    else:
        shutil.copytree(_KEPT.name, ".", dirs_exist_ok=True)
    return Path(ROOT)


def _make() -> None:
    Path("archive").mkdir()
    Path("archive/scene.tif").write_text("a scene")
    Path("given").mkdir()
    save(Path("given/superres.safetensors"), {"stage": 3, "seed": 5})
    trained = f"{ROOT}/segmentation/superres.safetensors"
    with quiet():
        run_job(job("dataset", ROOT, outputs={"card": f"{ROOT}/dataset/card.md"}), dataset)
        where = {"method": "superres"}
        run_job(
            job("segmentation", ROOT, outputs={"checkpoint": trained}, wildcards=where, params={"seed": 7}),
            segmentation,
        )
        for year in YEARS:
            _map(year, trained)
    results = Path(ROOT)
    (results / "report").mkdir()
    (results / "report/index.html").write_text("<html></html>")
    (results / "accuracy").mkdir()
    (results / "accuracy/growth.csv").write_text(
        "city,reach,year,isa_km2,nodata_km2,estimated_km2,estimated_km2_lower,estimated_km2_upper\n"
        "Hefei,downstream,2021,1.5,0.25,1.25,1,1.5\nHefei,downstream,2023,2.5,0.125,,,\n"
    )
    (results / "accuracy/accuracy.csv").write_text(
        "kind,name,map_year,reference,reach,chips,pixels,nodata_fraction,f1,f1_lower,f1_upper,iou,iou_lower,iou_upper\n"
        "method,superres,2021,labels,all,4,400,0.125,0.75,0.5,0.875,0.6,,\n"
        "method,superres,2021,labels,downstream,4,400,0,0.99,0.98,1,0.6,0.5,0.7\n"
        "product,gisa,2019,labels,all,4,400,0,0.625,0.5,0.7,,,\n"
    )


def _map(year: int, network: str) -> None:
    where = {"year": year, "tile": TILE}
    listed = f"{ROOT}/sentinel2/scenes/{year}/{TILE}.json"
    run_job(job("scenes", ROOT, outputs={"scenes": listed}, wildcards=where, params={"level": "L2A"}), scenes)
    made = f"{ROOT}/sentinel2/composites/{year}/{TILE}.tif"
    taken: dict[str, Any] = {"scenes": listed, "archive": "archive"}
    run_job(job("composite", ROOT, inputs=taken, outputs={"composite": made}, wildcards=where), composite)
    map_ = f"{ROOT}/isa/{year}/{TILE}.tif"
    taken = {"composites": [made], "superres": "given/superres.safetensors", "segmentation": network}
    run_job(job("predict", ROOT, inputs=taken, outputs={"isa": map_}, wildcards=where), isa)
    cut = {"mosaic": f"{ROOT}/mosaics/{year}/{CITY}.tif"}
    run_job(job("mosaic", ROOT, inputs={"isa": [map_]}, outputs=cut, wildcards={"year": year, "city": CITY}), mosaic)


def config() -> dict[str, Any]:
    """Settings of a run whose Sentinel-2 source needs a credential."""
    with open(REPOSITORY / "examples/synthetic/config.yaml") as file:
        given = yaml.safe_load(file)
    source = {"kind": "earthengine", "project": "land", "service_account": "/keys/secret.json"}
    given |= {"title": "Toy valley", "results": ROOT, "years": list(YEARS)}
    given["sentinel2"]["source"] = source
    return load_config(given).model_dump(mode="json")


def publish(results: Path, **other: Any) -> Path:
    """Makes the release; `other` replaces arguments of the step."""
    given: dict[str, Any] = {
        "manifests": sorted((results / "manifests").rglob("*.json")),
        "isa": sorted((results / "isa").rglob("*.tif")),
        "mosaics": sorted((results / "mosaics").rglob("*.tif")),
        "report": results / "report/index.html",
        "growth": results / "accuracy/growth.csv",
        "accuracy": results / "accuracy/accuracy.csv",
        "checkpoints": [Path("given/superres.safetensors"), results / "segmentation/superres.safetensors"],
        "workflow": {
            path.relative_to(REPOSITORY).as_posix(): file_digest(path)
            for path in (REPOSITORY / "Snakefile", *sorted(REPOSITORY.glob("rules/*.smk")))
        },
        "catalogue": results / "release",
        "settings": config(),
    }
    release(**(given | other))
    return given["catalogue"]
