import pytest
import torch

from jointseg.models.discriminator import UNetDiscriminator


@pytest.mark.parametrize("size", [(8, 8), (24, 40)])
def test_one_score_per_pixel(size: tuple[int, int]) -> None:
    assert UNetDiscriminator(features=4)(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


def test_published_size_has_the_published_number_of_parameters() -> None:
    assert sum(weight.numel() for weight in UNetDiscriminator(3, 64).parameters()) == 4_376_897


def test_inner_convolutions_have_unit_spectral_norm() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(features=4).train()
    with torch.no_grad():
        for _ in range(30):  # each forward pass in training mode is one power iteration
            network(torch.zeros(1, 3, 8, 8))
    network.eval()
    for name in (f"conv{n}" for n in range(1, 9)):
        weight = getattr(network, name).weight.detach().flatten(1)
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.03), name
