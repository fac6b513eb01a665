"""The release, read back by the libraries that others will read it with."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pystac
import pytest
from affine import Affine
from provenance_flow import job, quiet
from rocrate.rocrate import ROCrate

from jointseg import raster
from jointseg.errors import DataError
from jointseg.provenance.export import release
from jointseg.provenance.record import run_job

TILE = "50N_E0660_N3540"
ARRAY = np.array([[[0, 1], [255, 1]]], dtype="uint8")
PLACE = {"crs": "EPSG:32650", "transform": Affine(1, 0, 660000, 0, -1, 3544000)}


def composite(*, composite: Path, year: str, tile: str) -> None:
    """A composite of one pixel."""
    raster.write(composite, np.ones((3, 1, 1), "uint16"), **PLACE, nodata=0)


def isa(*, composites: list[Path], segmentation: Path, isa: Path, year: str, tile: str) -> None:
    """A map of four pixels."""
    raster.write(isa, ARRAY, **PLACE, nodata=255)


def mosaic(*, isa: list[Path], mosaic: Path, city: str, year: str) -> None:
    """The map again."""
    raster.write(mosaic, ARRAY, **PLACE, nodata=255)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = "results/toy"
    Path("weights.safetensors").write_text("weights")
    for year in (2021, 2023):
        where = {"year": year, "tile": TILE}
        made = f"{root}/sentinel2/composites/{year}/{TILE}.tif"
        taken = {"composites": [made], "segmentation": "weights.safetensors"}
        city = {"year": year, "city": "Hefei"}
        with quiet():
            run_job(job("composite", root, outputs={"composite": made}, wildcards=where), composite)
            map_ = f"{root}/isa/{year}/{TILE}.tif"
            run_job(job("isa", root, inputs=taken, outputs={"isa": map_}, wildcards=where), isa)
            cut = {"mosaic": f"{root}/mosaics/{year}/Hefei.tif"}
            run_job(job("mosaic", root, inputs={"isa": [map_]}, outputs=cut, wildcards=city), mosaic)
    (tmp_path / root / "report").mkdir()
    (tmp_path / root / "report/index.html").write_text("<html></html>")
    return Path(root)


def publish(results: Path, catalogue: str = "release") -> Path:
    release(
        manifests=sorted((results / "manifests").rglob("*.json")),
        isa=sorted((results / "isa").rglob("*.tif")),
        mosaics=sorted((results / "mosaics").rglob("*.tif")),
        report=results / "report/index.html",
        catalogue=results / catalogue,
        title="Toy valley",
        years=[2021, 2023],
    )
    return results / catalogue


def test_the_catalogue_describes_every_map(results):
    catalogue = pystac.Catalog.from_file(publish(results) / "catalog.json")
    items = {item.id: item for item in catalogue.get_items(recursive=True)}
    assert sorted(items) == [
        f"isa-2021-{TILE}",
        f"isa-2023-{TILE}",
        "mosaics-2021-Hefei",
        "mosaics-2023-Hefei",
    ]
    item = items[f"isa-2021-{TILE}"]
    asset = item.assets["map"]
    path = Path(asset.get_absolute_href() or "")
    content = path.read_bytes()
    assert path.resolve() == (results / f"isa/2021/{TILE}.tif").resolve()
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert asset.extra_fields["file:size"] == len(content)
    assert [each["value"] for each in asset.extra_fields["classification:classes"]] == [0, 1, 255]
    assert item.properties["proj:code"] == "EPSG:32650"
    assert item.properties["proj:shape"] == [2, 2]
    assert item.common_metadata.start_datetime and item.common_metadata.start_datetime.year == 2021
    # 660 km east, 3544 km north in zone 50N.
    assert item.bbox == pytest.approx([118.69, 32.02, 118.69, 32.02], abs=0.02)
    (parent,) = item.get_links("derived_from")
    assert (
        Path(parent.get_absolute_href() or "").resolve()
        == (results / f"sentinel2/composites/2021/{TILE}.tif").resolve()
    )


def test_the_catalogue_holds_no_path_of_this_machine(results, tmp_path):
    for path in publish(results).rglob("*"):
        assert path.is_dir() or str(tmp_path) not in path.read_text(), path


def test_the_crate_tells_which_job_made_what(results):
    crate = ROCrate(publish(results))
    action = crate.get(f"#isa/2021/{TILE}")
    assert action.type == "CreateAction"
    assert [entity["name"] for entity in action["result"]] == [f"isa/2021/{TILE}.tif"]
    assert [entity["name"] for entity in action["object"]] == [
        f"sentinel2/composites/2021/{TILE}.tif",
        "weights.safetensors",
    ]
    assert action["instrument"]["name"] == "test_provenance_export:isa"
    assert len(crate.root_dataset["mentions"]) == 6


def test_the_checksums_are_those_of_sha256sum(results):
    folder = publish(results)
    done = subprocess.run(
        ["sha256sum", "-c", "checksums.sha256"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert f"../isa/2023/{TILE}.tif: OK" in done.stdout
    assert "catalog.json: OK" in done.stdout
    (results / "mosaics/2021/Hefei.tif").write_bytes(b"other")
    assert subprocess.run(
        ["sha256sum", "-c", "checksums.sha256"], cwd=folder, capture_output=True, check=False
    ).returncode


def test_the_same_maps_make_the_same_release_at_another_time(results):
    first = {path.name: path.read_bytes() for path in publish(results).rglob("*") if path.is_file()}
    for path in (results / "manifests").rglob("*.json"):
        written = json.loads(path.read_text())
        written |= {
            "started": "2030-01-01T00:00:00Z",
            "finished": "2030-01-01T00:00:09Z",
            "host": "other",
            "seconds": 9,
        }
        path.write_text(json.dumps(written))
    shutil.rmtree(results / "release")
    again = {path.name: path.read_bytes() for path in publish(results).rglob("*") if path.is_file()}
    assert again == first


def test_a_map_without_manifest_is_named(results):
    (results / f"manifests/isa/2021/{TILE}.json").unlink()
    with pytest.raises(DataError, match=rf"isa/2021/{TILE}\.tif"):
        publish(results)
    assert not (results / "release").exists()


def test_a_map_of_another_size_is_named(results):
    with open(results / f"isa/2021/{TILE}.tif", "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="bytes, its manifest says"):
        publish(results)
