"""The products of one pass: map, probability, disagreement and image, each with its nodata value."""

import numpy as np
import pytest
import torch

from jointseg.inference.products import FORMATS, SCORE_STEPS, Products


def piece(channels: int) -> torch.Tensor:
    return torch.rand((channels, 20, 30), generator=torch.Generator().manual_seed(1))


def test_map_needs_only_the_probability() -> None:
    products = Products(["isa"], 0.5)
    probability = piece(1)
    assert products.channels == 1 and not products.image
    assert products.blend_channels(probability, None) is probability
    made = products.finalise(probability, np.ones((2, 3), bool), None)
    assert list(made) == ["isa"]
    assert np.array_equal(made["isa"], (probability.numpy() >= 0.5).astype(np.uint8))


def test_every_product_has_its_nodata() -> None:
    products = Products(list(FORMATS), 0.4)
    valid = np.array([[True, False, True], [True, True, True]])
    owned = np.ones((20, 30), bool)
    owned[:, 29] = False
    values = products.blend_channels(piece(1), 0.05 + 0.2 * piece(3))
    assert values.shape == (5, 20, 30) and products.channels == 5
    made = products.finalise(values, valid, owned)
    nodata = ~(valid.repeat(10, 0).repeat(10, 1) & owned)
    for name, storage in FORMATS.items():
        assert made[name].shape == (len(storage.bands), 20, 30) and made[name].dtype == storage.dtype
        assert ((made[name] == storage.nodata) == nodata).all(), name
    known = ~nodata
    probability = values[0].numpy()
    assert made["probability"][0][known] / SCORE_STEPS == pytest.approx(probability[known], abs=0.0021)
    assert made["rgb"][:, known] * 1e-4 == pytest.approx(values[-3:].numpy()[:, known], abs=6e-5)
    assert (made["disagreement"][0][known] == 0).all(), "a single window has no disagreement"


def test_disagreement_is_the_standard_deviation_of_the_windows() -> None:
    products = Products(["isa", "disagreement"], 0.5)
    low, high = torch.full((1, 10, 10), 0.2), torch.full((1, 10, 10), 0.8)
    half = 0.5 * products.blend_channels(low, None) + 0.5 * products.blend_channels(high, None)
    made = products.finalise(half, np.ones((1, 1), bool), None)
    assert (made["disagreement"] == round(0.3 * SCORE_STEPS)).all()


def test_dark_pixels_are_not_nodata() -> None:
    products = Products(["isa", "rgb"], 0.5)
    values = products.blend_channels(torch.zeros((1, 10, 10)), torch.full((3, 10, 10), -0.01))
    assert (products.finalise(values, np.ones((1, 1), bool), None)["rgb"] == 1).all()
