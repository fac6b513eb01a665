"""A tiny finished run and its release: two years, one tile, one city, one trained and one pretrained network."""

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
GEOREFERENCE = {"crs": "EPSG:32650", "transform": Affine(1, 0, 660000, 0, -1, 3544000)}
ROOT = "results/toy"
_CACHE = tempfile.TemporaryDirectory()
TRAINED = {"method": "superres", "seed": 7, "threshold": 0.25, "chips": {"train": 20, "validation": 6}}


def scenes(*, scenes: Path, year: str, tile: str, level: str) -> dict[str, Any]:
    """Write a scene list; return the ids of three scenes per year."""
    scenes.write_text("{}")
    return {"scenes": [f"S2_{year}_{number}" for number in range(3)]}


def composite(*, scenes: Path, archive: Path, composite: Path, year: str, tile: str) -> dict[str, Any]:
    """Write a composite of one pixel."""
    cog.write(composite, np.ones((3, 1, 1), "uint16"), **GEOREFERENCE, nodata=0)
    return {"mean_clear_observations": 2.5, "valid_fraction": 0.75}


def segmentation(*, checkpoint: Path, method: str, seed: int) -> dict[str, Any]:
    """Write a checkpoint with three parameters."""
    save(checkpoint, TRAINED)
    return {"device": "cpu", "validation_f1": 0.5}


def dataset(*, card: Path) -> dict[str, Any]:
    """Return the facts of a dataset of 30 chips."""
    card.write_text("chips")
    return {"chips": {"train": 20, "validation": 6, "test": 4}, "isa_fraction": {"train": 0.25}}


def isa(*, composites: list[Path], superres: Path, segmentation: Path, isa: Path, year: str, tile: str) -> None:
    """Write a map of four pixels."""
    cog.write(isa, ARRAY, **GEOREFERENCE, nodata=255)


def mosaic(*, isa: list[Path], mosaic: Path, city: str, year: str) -> None:
    """Write the same map as mosaic."""
    cog.write(mosaic, ARRAY, **GEOREFERENCE, nodata=255)


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
    """Create the run in the working directory, or copy it from a cache; return its results folder."""
    if not any(Path(_CACHE.name).iterdir()):
        _make()
        shutil.copytree(".", _CACHE.name, dirs_exist_ok=True)
    else:
        shutil.copytree(_CACHE.name, ".", dirs_exist_ok=True)
    return Path(ROOT)


def _make() -> None:
    Path("archive").mkdir()
    Path("archive/scene.tif").write_text("a scene")
    Path("pretrained").mkdir()
    save(Path("pretrained/superres.safetensors"), {"stage": 3, "seed": 5})
    trained = f"{ROOT}/segmentation/superres.safetensors"
    with quiet():
        run_job(job("dataset", ROOT, outputs={"card": f"{ROOT}/dataset/card.md"}), dataset)
        outputs, wildcards = {"checkpoint": trained}, {"method": "superres"}
        run_job(job("segmentation", ROOT, outputs=outputs, wildcards=wildcards, params={"seed": 7}), segmentation)
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
    wildcards = {"year": year, "tile": TILE}
    scene_list = f"{ROOT}/sentinel2/scenes/{year}/{TILE}.json"
    run_job(job("scenes", ROOT, outputs={"scenes": scene_list}, wildcards=wildcards, params={"level": "L2A"}), scenes)
    image = f"{ROOT}/sentinel2/composites/{year}/{TILE}.tif"
    inputs: dict[str, Any] = {"scenes": scene_list, "archive": "archive"}
    run_job(job("composite", ROOT, inputs=inputs, outputs={"composite": image}, wildcards=wildcards), composite)
    map_ = f"{ROOT}/isa/{year}/{TILE}.tif"
    inputs = {"composites": [image], "superres": "pretrained/superres.safetensors", "segmentation": network}
    run_job(job("predict", ROOT, inputs=inputs, outputs={"isa": map_}, wildcards=wildcards), isa)
    outputs = {"mosaic": f"{ROOT}/mosaics/{year}/{CITY}.tif"}
    run_job(
        job("mosaic", ROOT, inputs={"isa": [map_]}, outputs=outputs, wildcards={"year": year, "city": CITY}), mosaic
    )


def config() -> dict[str, Any]:
    """Return the settings of a run whose Sentinel-2 source needs a credential."""
    with open(REPOSITORY / "examples/synthetic/config.yaml") as file:
        settings = yaml.safe_load(file)
    source = {"kind": "earthengine", "project": "land", "service_account": "/keys/secret.json"}
    settings |= {"title": "Toy valley", "results": ROOT, "years": list(YEARS)}
    settings["sentinel2"]["source"] = source
    return load_config(settings).model_dump(mode="json")


def publish(results: Path, **other: Any) -> Path:
    """Run the step `release`; `other` replaces its arguments."""
    arguments: dict[str, Any] = {
        "manifests": sorted((results / "manifests").rglob("*.json")),
        "isa": sorted((results / "isa").rglob("*.tif")),
        "mosaics": sorted((results / "mosaics").rglob("*.tif")),
        "report": results / "report/index.html",
        "growth": results / "accuracy/growth.csv",
        "accuracy": results / "accuracy/accuracy.csv",
        "checkpoints": [Path("pretrained/superres.safetensors"), results / "segmentation/superres.safetensors"],
        "workflow": {
            path.relative_to(REPOSITORY).as_posix(): file_digest(path)
            for path in (REPOSITORY / "Snakefile", *sorted(REPOSITORY.glob("rules/*.smk")))
        },
        "catalogue": results / "release",
        "settings": config(),
    }
    release(**(arguments | other))
    return arguments["catalogue"]
