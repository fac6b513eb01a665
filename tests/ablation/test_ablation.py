"""The ablation: training and scoring of all variants, zones, bands, tables, page, and coverage of the intervals."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from support import tiny_dataset
from support.tiny_networks import GENERATOR, SEGMENTER
from support.tiny_training import GAN_TRAINING, SEGMENTATION_TRAINING, STAGE2_TRAINING

from jointseg.ablation import images, tables
from jointseg.ablation.band_subset import ablation_bands
from jointseg.ablation.estimates import estimate_over_seeds, gap_closed
from jointseg.ablation.generators import ablation_generator
from jointseg.ablation.summary import ablation
from jointseg.ablation.variant import ablation_variant
from jointseg.ablation.variants import BAND_SETS, INITIAL_GENERATOR, VARIANTS
from jointseg.accuracy.cluster_estimators import f1, metric_difference
from jointseg.accuracy.zones import zone_masks
from jointseg.config import networks
from jointseg.models.prog_esrgan import upsample
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.bands import COMPOSITE_BANDS, MERGED_BANDS, fill_merged
from jointseg.runtime.errors import DataError

SCHEDULE: dict[str, Any] = {
    "model": SEGMENTER,
    "training": SEGMENTATION_TRAINING | {"crop_px": 160, "steps": 2},
    "generator": GENERATOR,
    "direct_steps": 3,
    "joint": {"generator_learning_rate": 1e-4, "image": 1.0, "consistency": 1.0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset with near infrared and merged dates in addition to RGB."""
    root = tiny_dataset.make(tmp_path_factory.mktemp("dataset"))
    for path in root.glob("chips/*/*_lr.tif"):
        dn, transform, crs = raster_io.read(path)
        extra = [dn[:1] * 2, *(np.where(dn > 0, dn + 10 * corner, 0).astype(np.uint16) for corner in range(4))]
        names = (*COMPOSITE_BANDS, *MERGED_BANDS)
        cog.write(path, np.concatenate([dn, *extra]), transform=transform, crs=crs, nodata=0, descriptions=names)
    tiny_dataset.rebuild(root)
    return root


def data_inputs(data: Path, bands: str, out: Path) -> dict[str, Any]:
    """Return inputs of a step with the statistics of one set of bands."""
    reduced = out / f"{bands}.json"
    ablation_bands(statistics=data / "statistics.json", reduced=reduced, data="dataset", bands=bands)
    chips = [data / "chips" / reach for reach in tiny_dataset.REACHES]
    return {"index": data / "index.parquet", "statistics": reduced, "chips": chips}


def train_generator(data: Path, bands: str, kind: str, out: Path, seed: int = 1) -> Path:
    path = out / f"{bands}-{kind}-{seed}.safetensors"
    if not path.exists():
        start = train_generator(data, bands, INITIAL_GENERATOR[kind], out, seed) if kind in INITIAL_GENERATOR else None
        stage1 = {name: value for name, value in STAGE2_TRAINING.items() if name != "stage1_weight"}
        ablation_generator(
            **data_inputs(data, bands, out),
            **{what: path.with_suffix(f".{what}") for what in ("history", "panel")},
            checkpoint=path,
            data="dataset",
            bands=bands,
            kind=kind,
            model=GENERATOR,
            stage1=stage1,
            stage2=STAGE2_TRAINING,
            adversarial=GAN_TRAINING,
            seed=seed,
            threads=1,
            state=str(out / "state" / f"{path.name}.pt"),
            start=start,
        )
    return path


def output_paths(out: Path, variant: str, seed: int) -> dict[str, Path]:
    kinds = {"trained": "", "counts": ".csv", "image_scores": "-images.csv", "examples": "-pictures"}
    return {name: out / f"{variant}-{seed}{end}" for name, end in kinds.items()}


def run_variant(data: Path, variant: str, out: Path, seed: int = 1) -> dict[str, Path]:
    spec, paths = VARIANTS[variant], output_paths(out, variant, seed)
    if not paths["counts"].exists():
        start = train_generator(data, spec.bands, spec.generator, out, seed) if spec.generator else None
        facts = ablation_variant(
            **data_inputs(data, spec.bands, out),
            **paths,
            data="dataset",
            variant=variant,
            schedule=SCHEDULE,
            seed=str(seed),
            threads=1,
            work=str(out / "work"),
            year=2021,
            start=start,
        )
        assert facts["variant"] == variant and 0 < facts["threshold"] < 1
    return paths


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation")


def test_config_accepts_exactly_the_variants():
    assert list(get_args(networks.Variant)) == list(VARIANTS)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_variant_is_trained_and_scored_on_all_test_chips(variant, data, out):
    paths = run_variant(data, variant, out)
    table = pd.read_parquet(data / "index.parquet").set_index("sample_id")
    tested = table[table["split"] == "test"]
    counts = pd.read_csv(paths["counts"])
    total = counts[counts["zone"] == "all"].set_index("sample_id")
    assert set(total.index) == set(tested.index)
    assert (total[["tp", "fp", "fn", "tn", "nodata"]].sum(axis=1) == tiny_dataset.CHIP**2).all()
    assert (total[["tp", "fp", "fn", "tn"]].sum(axis=1) > 0).all()
    if VARIANTS[variant].image == "none":
        assert paths["image_scores"].read_text().strip() == ""
    else:
        scores = pd.read_csv(paths["image_scores"])
        assert list(scores["sample_id"]) == list(tested.index)
        assert np.isfinite(scores[["psnr", "ssim", "perceptual"]].to_numpy()).all() or variant == "hr"
    assert len(list(paths["examples"].glob("*_isa.tif"))) == len(tested)
    with safe_open(paths["trained"] / "segmenter.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["jointseg"])
    assert len(header["normalisation"]["mean"]) == len(BAND_SETS[VARIANTS[variant].bands])
    assert not (out / "work").exists()


def test_joint_training_changes_the_generator(data, out):
    start = train_generator(data, "rgb", "l1", out)
    with (
        safe_open(start, framework="pt") as before,
        safe_open(run_variant(data, "joint", out)["trained"] / "generator.safetensors", framework="pt") as after,
    ):
        assert any(not torch.equal(before.get_tensor(name), after.get_tensor(name)) for name in before.keys())  # noqa: SIM118


@pytest.mark.parametrize("variant", ["joint", "direct", "single"])
def test_equal_seeds_give_equal_bytes(variant, data, out, tmp_path):
    first, second = run_variant(data, variant, out), run_variant(data, variant, tmp_path)
    for name in ("counts", "image_scores"):
        assert first[name].read_bytes() == second[name].read_bytes()
    for path in first["trained"].iterdir():
        assert path.read_bytes() == (second["trained"] / path.name).read_bytes(), path.name


def test_upper_bound_reads_the_true_image(data, out):
    scores = pd.read_csv(run_variant(data, "hr", out)["image_scores"])
    assert (scores["psnr"] > 100).all() and (scores["displacement_m"].abs() < 1).all()


def test_page_and_tables_have_all_variants_with_intervals(data, out, tmp_path):
    variants = ["bilinear", "joint", "hr"]
    runs = [(variant, seed) for variant in variants for seed in (1, 2)]
    outputs = [run_variant(data, variant, out, seed) for variant, seed in runs]
    files = {"table": "t.csv", "scores": "s.csv", "document": "d.md", "figure": "f.png", "panels": "p.png"}
    paths = {name: tmp_path / file for name, file in files.items()}
    base = data_inputs(data, "rgb", tmp_path)
    facts = ablation(
        index=base["index"],
        chips=base["chips"],
        counts=[run["counts"] for run in outputs],
        image_scores=[run["image_scores"] for run in outputs],
        examples=[output_paths(out, variant, 1)["examples"] for variant in variants],
        **paths,
        data="dataset",
        runs=runs,
        variants=variants,
        title="A tiny ablation",
        about="Synthetic.",
        setup=["two steps"],
    )
    table = pd.read_csv(paths["table"])
    row = table.query("variant == 'joint' and zone == 'all' and reach == 'all'").iloc[0]
    assert row["seeds"] == 2 and row["value_lower"] < row["value"] < row["value_upper"]
    assert facts["f1"]["joint, labels"] == pytest.approx(row["value"], abs=1e-6)
    text = paths["document"].read_text()
    assert all(VARIANTS[variant].title in text for variant in variants) and "# A tiny ablation" in text
    for name in ("figure", "panels"):
        assert paths[name].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="for 6 runs"):
        ablation(
            index=base["index"], chips=base["chips"], counts=[], image_scores=[], examples=[], **paths, data="", runs=runs,
            variants=variants, title="", about="", setup=[],
        )  # fmt: skip


def test_error_names_band_that_the_dataset_lacks(tmp_path):
    three = {"lr": {"mean": [0.1] * 3, "std": [0.1] * 3}, "hr": {}}
    (tmp_path / "statistics.json").write_text(json.dumps(three))
    with pytest.raises(DataError, match=r"no B08 .*sentinel2\.bands"):
        ablation_bands(
            statistics=tmp_path / "statistics.json", reduced=tmp_path / "r.json", data="dataset", bands="nir"
        )


def test_bands_are_selected_by_their_number():
    dn = np.arange(1, 17, dtype=np.uint16)[:, None, None].repeat(2, 1).repeat(2, 2)
    assert fill_merged(dn, 3)[:, 0, 0].tolist() == [1, 2, 3]
    assert fill_merged(dn, 4)[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert fill_merged(dn, 15)[:, 0, 0].tolist() == [1, 2, 3, *range(5, 17)]
    with pytest.raises(DataError, match="B08"):
        fill_merged(dn[:3], 4)


def test_merged_bands_are_arranged_as_5_m_pixels():
    rng = np.random.default_rng(0)
    pixels_5m = rng.integers(500, 3000, (3, 8, 8)).astype(np.uint16)
    corners = [pixels_5m[:, row::2, col::2] for row in (0, 1) for col in (0, 1)]  # nw, ne, sw, se as in bands.MERGED
    dn = np.concatenate([pixels_5m[:, ::2, ::2], *corners])
    expected = upsample(torch.from_numpy(pixels_5m[None].astype(np.float32)), 5)[0].round().numpy()
    assert np.array_equal(images.interleave_and_upsample(dn), expected)
    dn[0, 1, 2] = 0
    assert (images.interleave_and_upsample(dn)[:, 10:20, 20:30] == 0).all() and (
        images.interleave_and_upsample(dn) == 0
    ).sum() == 300


def test_zones_depend_on_isa_fraction_and_building_size():
    label = np.zeros((320, 320), np.uint8)
    fraction = np.zeros((7, 320, 320), np.uint16)
    label[:, :160] = 1  # a town in the west
    fraction[1, 50:54, :] = 10_000  # a road out of the town
    label[50:54, :] = 1
    fraction[2, 200:210, 300:310] = 10_000  # 100 m2
    fraction[2, 250:270, 280:300] = 10_000  # 400 m2
    label[fraction[2] > 0] = 1
    label[:, 319] = 255
    masks = zone_masks(label, fraction)
    assert masks["dense"][160, 80] and not masks["dense"][160, 300]
    assert masks["sparse"][160, 300] and not masks["sparse"][160, 80]
    assert masks["rural roads"][52, 300] and not masks["rural roads"][52, 80]
    assert masks["small buildings"].sum() == 100 and masks["small buildings"][205, 305]
    assert not any(mask[:, 319].any() for mask in masks.values())


def test_gap_closed_and_difference():
    totals = {name: np.array([tp, 0, 100 - tp, 0]) for name, tp in {"variant": 75, "bilinear": 50, "hr": 100}.items()}
    low, high = (float(np.real(f1(totals[name].astype(complex)))) for name in ("bilinear", "hr"))
    mine = float(np.real(f1(totals["variant"].astype(complex))))
    joined = np.concatenate(list(totals.values())).astype(complex)
    assert np.real(gap_closed(f1)(joined)) == pytest.approx((mine - low) / (high - low))
    assert np.real(metric_difference(f1)(joined[:8])) == pytest.approx(mine - low)


def draw_counts(rng: np.random.Generator, seeds: int, chips: int, sd_chip: float, sd_seed: float) -> np.ndarray:
    """Draw counts [seeds, chips, 4] of 1,000 pixels per chip with a recall of about one half."""
    fraction = 0.5 + rng.normal(0, sd_chip, (1, chips)) + rng.normal(0, sd_seed, (seeds, 1))
    tp = np.clip(1000 * fraction, 0, 1000)
    return np.stack([tp, 0 * tp, 1000 - tp, 0 * tp], axis=2)


def recall(totals: np.ndarray) -> complex:
    return totals[0] / (totals[0] + totals[2])


@pytest.mark.parametrize(("sd_chip", "sd_seed"), [(0.1, 0.02), (0.02, 0.03), (0.1, 0.0)])
def test_interval_has_its_nominal_coverage(sd_chip, sd_seed):
    rng, chips, seeds = np.random.default_rng(7), 40, 4
    weights, strata = np.ones(chips), np.repeat(["a", "b"], chips // 2)
    covered = covered_by_chips = 0
    draws = 1500
    for _ in range(draws):
        drawn = draw_counts(rng, seeds, chips, sd_chip, sd_seed)
        estimate = estimate_over_seeds([drawn], weights, strata, recall)
        covered += estimate.lower <= 0.5 <= estimate.upper
        chips_only = estimate_over_seeds([drawn.mean(axis=0, keepdims=True)], weights, strata, recall)
        covered_by_chips += chips_only.lower <= 0.5 <= chips_only.upper
    assert 0.93 <= covered / draws <= 0.985
    if sd_seed > sd_chip:
        assert covered_by_chips / draws < 0.6, "an interval over the chips only must fail this test"


def test_differences_are_paired_by_common_seeds(tmp_path):
    tested = pd.DataFrame({"sample_id": ["a", "b"], "reach": "r", "group": "r", "weight": 1.0})
    files = {}
    for variant, seed in [("bilinear", 1), ("bilinear", 2), ("hr", 2), ("hr", 3)]:
        path = tmp_path / f"{variant}{seed}.csv"
        rows = [{"sample_id": chip, "reference": "labels", "zone": "all", "tp": 50 + seed, "fp": 3, "fn": 5, "tn": 9, "nodata": 0} for chip in "ba"]  # fmt: skip
        pd.DataFrame(rows).to_csv(path, index=False)
        files[variant, seed] = path
    counts = tables.Counts(files, tested, ["r"])
    assert counts.seeds("bilinear", "hr") == [2] and counts.variants == ["bilinear", "hr"]
    estimate = counts.estimate(["hr", "bilinear"], "labels", "all", "all", metric_difference(f1))
    assert estimate.value == pytest.approx(0)
