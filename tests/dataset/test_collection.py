"""The dataset's folder: documents, STAC, checksums, sources, and the torch Dataset."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
import torch
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from support.tiny_dataset import CHIP, SCENES, make, rebuild, row_of, store
from torch.utils.data import DataLoader

from jointseg.dataset.band_statistics import BandStatistics, band_sums
from jointseg.dataset.source_records import sources
from jointseg.dataset.torch_dataset import TorchChips
from jointseg.provenance.manifest import SCHEMA
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

DOCUMENTS = ("index.parquet", "statistics.json", "card.md", "sources.json", "collection.json", "checksums.sha256")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("built") / "dataset")


def test_checksums_match_sha256sum(built: Path) -> None:
    lines = (built / "checksums.sha256").read_text().splitlines()
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert {line.split("  ")[1] for line in lines} == files - {"checksums.sha256"}
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "checksums.sha256"], cwd=built, check=True)


def test_bytes_do_not_depend_on_time_and_path(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "elsewhere" / "set"))
    for name in DOCUMENTS:
        (copy / name).unlink()
    shutil.rmtree(copy / "items")
    rebuild(copy)
    second = make(tmp_path / "again")
    for path in sorted(path for path in built.rglob("*") if path.is_file()):
        name = path.relative_to(built)
        assert path.read_bytes() == (copy / name).read_bytes() == (second / name).read_bytes(), name


def test_digest_depends_only_on_the_content(built: Path, tmp_path: Path) -> None:
    digest = json.loads((built / "statistics.json").read_text())["content_sha256"]
    copy = Path(shutil.copytree(built, tmp_path / "dataset"))
    rebuild(copy, version="2.0.0")
    facts = json.loads((copy / "statistics.json").read_text())
    assert (facts["version"], facts["content_sha256"]) == ("2.0.0", digest)
    row = row_of(copy, "up-0004")
    label = raster_io.read(copy / "chips" / row["label"])[0]
    label[0, 0, 0] = 1 - label[0, 0, 0]
    store(copy, row, "label", label)
    rebuild(copy)
    other = json.loads((copy / "statistics.json").read_text())["content_sha256"]
    assert other != digest
    for name in ("card.md", "collection.json"):
        assert other in (copy / name).read_text()


def test_error_for_a_file_outside_the_folder(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "dataset"))
    (copy / "samples.parquet").rename(tmp_path / "samples.parquet")
    with pytest.raises(DataError, match=r"samples.parquet is not in the folder of the dataset"):
        rebuild(copy, samples=tmp_path / "samples.parquet")


def test_statistics_are_exact_and_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 65536, (3, 40, 40)).astype(np.uint16) for _ in range(7)]
    for image in images:
        image[:, :3] = 0
    pixels = np.concatenate([image[:, 3:].reshape(3, -1) for image in images], axis=1).astype(np.float64)
    valid = [band[band > 0] / 1e4 for band in pixels]
    summaries = []
    for order in (images, images[::-1]):
        totals = BandStatistics()
        for image in order:
            totals.add(band_sums(image))
        summaries.append(totals.summary())
    assert summaries[0] == summaries[1]
    assert summaries[0]["mean"] == pytest.approx([band.mean() for band in valid], abs=1e-8)
    assert summaries[0]["std"] == pytest.approx([band.std() for band in valid], abs=1e-8)
    assert summaries[0]["pixels"] == [band.size for band in valid]
    dark = BandStatistics()
    dark.add(band_sums(np.zeros((2, 4, 4), dtype=np.uint16)))
    assert dark.summary() == {"mean": [None, None], "std": [None, None], "pixels": [0, 0]}


def test_isa_fractions_by_reach_and_split(built: Path) -> None:
    facts = json.loads((built / "statistics.json").read_text())
    table = pd.read_parquet(built / "index.parquet")
    train = table[(table["reach"] == "up") & (table["split"] == "train")]
    assert facts["reaches"]["up"]["train"] == {
        "chips": 3,
        "isa_fraction": pytest.approx(train["isa_fraction"].mean(), abs=1e-6),
    }
    assert facts["chips"] == {"train": 6, "validation": 3, "test": 3}
    card = (built / "card.md").read_text()
    assert f"| up | 3 | {train['isa_fraction'].mean():.3f} |" in card
    assert "| up | low correlation | 1 |" in card
    assert not re.search(r"\bnan\b|None|\{\{|\{%", card)


# STAC


def test_collection_is_valid_stac_with_links_to_every_file(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "elsewhere"))  # links are relative
    collection = pystac.Collection.from_file(copy / "collection.json")
    validator = JsonSchemaSTACValidator()
    validator.validate_core(collection.to_dict(), collection.STAC_OBJECT_TYPE, "1.1.0")
    table = pd.read_parquet(built / "index.parquet").set_index("sample_id")
    items = list(collection.get_items())
    assert [item.id for item in items] == list(table.index)
    for item in items:
        validator.validate_core(item.to_dict(), item.STAC_OBJECT_TYPE, "1.1.0")
        row = table.loc[item.id]
        assert (item.properties["isaseg:split"], item.get_collection()) == (row["split"], collection)
        assert set(item.assets) == {"lr", "hr", "label", "fraction"}
        for kind, asset in item.assets.items():
            path = Path(str(asset.get_absolute_href()))
            assert path == copy / "chips" / row[kind]
            array, transform, crs = raster_io.read(path)
            assert list(array.shape[1:]) == asset.extra_fields["proj:shape"]
            assert list(transform)[:6] == asset.extra_fields["proj:transform"]
            assert (crs, array.dtype.name) == (item.properties["proj:code"], asset.extra_fields["data_type"])
            assert len(asset.extra_fields["bands"]) == len(array)
            assert asset.extra_fields["file:size"] == path.stat().st_size
    texts = [path.read_text() for path in [copy / "collection.json", *copy.glob("items/*/*.json")]]
    assert not any(re.search(r'"href": "(/|\w+:)|/tmp|created|updated', text) for text in texts)


# Sources


def manifest(folder: Path, rule: str, inputs: list[dict], outputs: list[str], **more: Any) -> Path:
    path = folder / f"results/manifests/{rule}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"name": "x", "path": f"results/{name}", "sha256": "ee" * 32, "size": 1} for name in outputs]
    common = {"schema": SCHEMA, "rule": rule, "results": "results", "wildcards": {}, "params": {}, "code": "c"}
    path.write_text(json.dumps(common | {"inputs": inputs, "outputs": listed, "facts": {}} | more))
    return path


def test_sources_are_inputs_that_no_job_of_the_dataset_made(built: Path, tmp_path: Path) -> None:
    files = [{"path": f"{scene}/{scene}.tif", "size": 7, "sha256": "ab" * 32} for scene in (*SCENES, "JL1GF02A_unused")]
    jilin1 = {"name": "jilin1", "path": "/data/jilin1", "sha256": "aa" * 32, "size": 21, "files": files}
    own = {"name": "pairs", "path": "results/dataset/pairs/up.parquet", "sha256": "cc" * 32, "size": 3}
    osm = {"name": "osm", "path": "/data/osm/yreb.osm.pbf", "sha256": "bb" * 32, "size": 5}
    scenes = {"wildcards": {"tile": "50N_E0660_N3540"}, "facts": {"scenes": ["S2A_MSIL2A_X"]}}
    manifests = [
        manifest(tmp_path, "chips", [jilin1, own], ["dataset/chips/up"]),
        manifest(tmp_path, "labels", [osm, own, jilin1], ["dataset/labels/up.parquet"]),
        manifest(tmp_path, "scenes", [osm | {"name": "archive"}], ["sentinel2/scenes/2021/x.json"], **scenes),
    ]
    records = sources(manifests, sorted(built.glob("pairs/*.parquet")))
    assert records == {
        "jilin1": [{"name": "jilin1", "sha256": "aa" * 32, "size": 21}],
        "osm": [{"name": "yreb.osm.pbf", "sha256": "bb" * 32, "size": 5}],
        "scenes": {
            "jilin1": [
                {"scene": SCENES[1], "chips": 4, "files": [files[1]]},
                {"scene": SCENES[0], "chips": 8, "files": [files[0]]},
            ],
            "sentinel2": [{"tile": "50N_E0660_N3540", "scenes": ["S2A_MSIL2A_X"]}],
        },
    }


# The torch Dataset


def test_item_matches_the_files(built: Path) -> None:
    data = TorchChips(built)
    item = data[data.ids.index("low-0001")]  # has nodata and unlabelled pixels
    row = row_of(built, "low-0001")
    lr, hr, label = (raster_io.read(built / "chips" / row[kind])[0] for kind in ("lr", "hr", "label"))
    assert (item["id"], len(data)) == ("low-0001", 12)
    assert torch.equal(item["lr_valid"], torch.from_numpy((lr != 0).all(axis=0)))
    assert torch.equal(item["hr_valid"], torch.from_numpy((hr != 0).all(axis=0)))
    assert torch.equal(item["label_valid"], torch.from_numpy(label[0] != 255))
    assert not item["lr_valid"].all() and not item["hr_valid"].all() and not item["label_valid"].all()
    np.testing.assert_allclose(item["hr"].numpy(), hr / 1e4, atol=1e-7)
    assert torch.equal(item["label"][item["label_valid"]], torch.from_numpy(label[0][label[0] != 255]))
    assert not item["label"][~item["label_valid"]].any()


def test_filters_select_chips(built: Path) -> None:
    assert TorchChips(built, "test", reaches=["up"]).ids == ["up-0004", "up-0005", "up-0006"]
    assert TorchChips(built, min_correlation=0.895).ids == ["low-0001", "low-0002", "low-0003"]
    later = TorchChips(built, dates=("2022-07-01", "2022-07-31"))
    assert set(later.chips.table["hr_date"]) == {"2022-07-01T02:25:15Z"}
    with pytest.raises(DataError, match=r"no chip of reaches \['down'\]"):
        TorchChips(built, reaches=["down"])
    with pytest.raises(DataError, match="crop_px 17 must not exceed"):
        TorchChips(built, crop_px=17)[0]


def test_normalised_train_split_has_mean_0_and_standard_deviation_1(built: Path) -> None:
    statistics = json.loads((built / "statistics.json").read_text())
    data = TorchChips(built, "train", normalisation=statistics)
    for kind in ("lr", "hr"):
        values = torch.cat(
            [item[kind][:, item[f"{kind}_valid"]] for item in (data[at] for at in range(len(data)))], dim=1
        )
        assert values.mean(dim=1).abs().max() < 1e-3
        assert (values.std(dim=1) - 1).abs().max() < 1e-3


def test_crops_and_flips_are_consistent_between_resolutions(built: Path) -> None:
    """The 1 m image averaged to 10 m correlates with the 10 m image only if both are cropped and flipped alike."""
    data = TorchChips(built, crop_px=12, flips=True, seed=3)
    for at in range(1, len(data)):
        item = data[at]
        assert item["lr"].shape == (3, 12, 12) and item["label"].shape == (120, 120)
        low = torch.nn.functional.avg_pool2d(item["hr"], 10).mean(dim=0).flatten()
        assert np.corrcoef(low, item["lr"].mean(dim=0).flatten())[0, 1] > 0.6
        bright = item["hr"][0] > 0.2
        assert (bright == item["label"].bool())[item["label_valid"]].float().mean() > 0.98


def test_augmentation_depends_only_on_seed_and_epoch(built: Path) -> None:
    def read(workers: int, epoch: int, seed: int = 5) -> torch.Tensor:
        data = TorchChips(built, crop_px=4, flips=True, seed=seed)
        loader = DataLoader(data, batch_size=5, num_workers=workers, persistent_workers=workers > 0)
        list(loader)
        data.set_epoch(epoch)
        return torch.cat([batch["hr"] for batch in loader])

    first = read(0, 1)
    assert first.shape == (12, 3, 40, 40)
    assert torch.equal(first, read(2, 1))
    assert not torch.equal(first, read(0, 2))
    assert not torch.equal(first, read(0, 1, seed=6))


def test_example_of_the_documentation_runs(built: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/use_the_dataset.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(example.replace("results/yreb/dataset", str(built)).replace("crop_px=32", "crop_px=8"), names)
    assert names["batch"]["hr"].shape[1:] == (3, 80, 80)
    assert CHIP == 160
