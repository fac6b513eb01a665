"""Patches are aligned and augmented reproducibly; batches are prefetched in order."""

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from affine import Affine
from support.tiny_training import CHIP_PX, make

from jointseg.raster import cog
from jointseg.raster.bands import merged_from_5m, merged_to_5m
from jointseg.runtime.errors import DataError
from jointseg.training.augmentation import random_gains
from jointseg.training.patches import Patches
from jointseg.training.prefetch import BATCHES_PER_THREAD, prefetch

IDENTITY = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Patches:
    root = tmp_path_factory.mktemp("data")
    data = make(root)
    return Patches(data["index"], root / "chips", "train", IDENTITY, jitter=0.2)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_in_order_and_prepared_in_advance(threads: int) -> None:
    prepared: list[int] = []

    def make_batch(step: int) -> tuple[torch.Tensor]:
        time.sleep(0.01 * (step % 3))  # later batches are ready earlier
        prepared.append(step)
        return (torch.tensor(step),)

    batches = prefetch(make_batch, range(5, 25), threads)
    assert int(next(batches)[0]) == 5
    time.sleep(0.2)
    assert len(prepared) == BATCHES_PER_THREAD * threads + 1
    assert [int(step) for (step,) in batches] == list(range(6, 25)) and len(prepared) == 20


def test_an_error_of_a_batch_is_raised_at_its_step_and_ends_the_threads() -> None:
    def make_batch(step: int) -> tuple[torch.Tensor]:
        if step == 3:
            raise DataError("chip 3 is damaged")
        return (torch.tensor(step),)

    batches = prefetch(make_batch, range(10), 2)
    assert [int(next(batches)[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="chip 3 is damaged"):
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_a_sample_depends_only_on_seed_step_and_index(patches: Patches) -> None:
    batch = patches.batch(1, 7, range(6), 4)
    odd = patches.batch(1, 7, range(1, 6, 2), 4)
    for tensor, odd_tensor in zip(batch, odd):
        assert torch.equal(tensor[1::2], odd_tensor)
    for seed, step in ((2, 7), (1, 8)):
        assert not torch.equal(batch[0], patches.batch(seed, step, range(6), 4)[0])


def test_gains_are_the_same_at_both_scales_and_differ_by_band(patches: Patches) -> None:
    low, high, _ = patches.batch(0, 0, range(6), 4)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(high, 10), low, rtol=0, atol=1.3e-4)
    gains = random_gains(np.random.default_rng(0), 3, 0.2).ravel()
    assert len(set(gains)) == 3 and np.abs(gains - 1).max() <= 0.3 and np.ptp(gains) <= 0.2


def test_merged_dates_are_augmented_with_the_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    high = rng.integers(500, 3000, (3, 8, 8)).repeat(10, 1).repeat(10, 2)  # blocks of 10 m ...
    high = high + rng.integers(-100, 100, (3, 16, 16)).repeat(5, 1).repeat(5, 2)  # ... with blocks of 5 m
    low = high.reshape(3, 8, 10, 8, 10).mean((2, 4)).round()
    merged = merged_from_5m(high[:, ::5, ::5])
    profile = {"crs": "EPSG:32650", "nodata": 0}
    for name, image, size in (("lr", np.concatenate([low, merged]), 10), ("hr", high, 1), ("label", high[:1] % 2, 1)):
        dtype = np.uint8 if name == "label" else np.uint16
        cog.write(tmp_path / f"{name}.tif", image.astype(dtype), transform=Affine(size, 0, 0, 0, -size, 80), **profile)
    row = {"sample_id": "a", "split": "train", **{name: f"{name}.tif" for name in ("lr", "hr", "label")}}
    identity = {"mean": [0.0] * 15, "std": [1.0] * 15}
    chips = Patches(pd.DataFrame([row]), tmp_path, "train", identity, jitter=0.2)
    for seed in range(20):
        small, large, _ = chips.patch(np.random.default_rng(seed), 4)
        assert np.allclose(merged_to_5m(small[3:]), large[:, ::5, ::5], rtol=1e-5)
        assert np.allclose(small[:3], large.reshape(3, 4, 10, 4, 10).mean((2, 4)), atol=2e-4)


def test_every_symmetry_and_chip_is_drawn(patches: Patches) -> None:
    unique = {patches.patch(np.random.default_rng([0, 0, index]), 8)[0].tobytes() for index in range(200)}
    assert len(unique) == 200  # every sample has its own gains
    patches.jitter = 0.0
    unique = {patches.patch(np.random.default_rng([0, 0, index]), 8)[0].tobytes() for index in range(200)}
    assert len(unique) == 3 * 8


def test_patches_are_aligned_at_both_scales(tmp_path: Path) -> None:
    patches = Patches(make(tmp_path)["index"], tmp_path / "chips", "train", IDENTITY)
    low, high, valid = patches.batch(0, 0, range(6), 4)
    assert low.shape == (6, 3, 4, 4) and high.shape == (6, 3, 40, 40) and bool(valid.all())
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(high, 10), low, rtol=0, atol=1.1e-4)


def test_pixels_without_clear_observation_are_not_trained(tmp_path: Path) -> None:
    data = make(tmp_path)
    patches = Patches(data["index"], data["chips"][0].parent, "test", IDENTITY)
    low, _, valid = patches.full_chip(patches.ids[0])
    assert low[0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert not valid[0, 0, :10, :10].any() and valid.sum() == (CHIP_PX * 10) ** 2 - 100
