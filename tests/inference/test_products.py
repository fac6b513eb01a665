"""What one pass makes: maps, scores, their disagreement and the image, each with its own unknown."""

import numpy as np
import pytest
import torch

from jointseg.inference.products import FORMS, SCORE_STEPS, Products


def piece(channels: int) -> torch.Tensor:
    return torch.rand((channels, 20, 30), generator=torch.Generator().manual_seed(1))


def test_the_map_alone_blends_the_probability_alone() -> None:
    products = Products(["isa"], 0.5)
    probability = piece(1)
    assert products.channels == 1 and not products.image
    assert products.blended(probability, None) is probability
    made = products.finished(probability, np.ones((2, 3), bool), None)
    assert list(made) == ["isa"]
    assert np.array_equal(made["isa"], (probability.numpy() >= 0.5).astype(np.uint8))


def test_every_product_knows_what_is_unknown() -> None:
    products = Products(list(FORMS), 0.4)
    known = np.array([[True, False, True], [True, True, True]])
    owned = np.ones((20, 30), bool)
    owned[:, 29] = False
    values = products.blended(piece(1), 0.05 + 0.2 * piece(3))
    assert values.shape == (5, 20, 30) and products.channels == 5
    made = products.finished(values, known, owned)
    unknown = ~(known.repeat(10, 0).repeat(10, 1) & owned)
    for name, form in FORMS.items():
        assert made[name].shape == (len(form.bands), 20, 30) and made[name].dtype == form.dtype
        assert ((made[name] == form.nodata) == unknown).all(), name
    seen = ~unknown
    probability = values[0].numpy()
    assert made["probability"][0][seen] / SCORE_STEPS == pytest.approx(probability[seen], abs=0.0021)
    assert made["rgb"][:, seen] * 1e-4 == pytest.approx(values[-3:].numpy()[:, seen], abs=6e-5)
    assert (made["disagreement"][0][seen] == 0).all(), "one window agrees with itself"


def test_disagreement_is_the_spread_of_the_windows() -> None:
    products = Products(["isa", "disagreement"], 0.5)
    one, other = torch.full((1, 10, 10), 0.2), torch.full((1, 10, 10), 0.8)
    half = 0.5 * products.blended(one, None) + 0.5 * products.blended(other, None)
    made = products.finished(half, np.ones((1, 1), bool), None)
    assert (made["disagreement"] == round(0.3 * SCORE_STEPS)).all()


def test_dark_ground_is_not_unknown() -> None:
    products = Products(["isa", "rgb"], 0.5)
    values = products.blended(torch.zeros((1, 10, 10)), torch.full((3, 10, 10), -0.01))
    assert (products.finished(values, np.ones((1, 1), bool), None)["rgb"] == 1).all()
