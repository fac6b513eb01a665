"""One training step of every preset of the production config, in fp32 and bf16."""

from pathlib import Path

import pytest
import torch
import yaml

from jointseg.models import mask2former
from jointseg.models.discriminator import pair
from jointseg.models.mask_loss import LossWeights
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.training import adversarial, losses
from jointseg.training.backbone import load
from jointseg.training.compute import autocast, autocast_dtype
from jointseg.training.optimiser import Optimiser
from jointseg.training.settings import AdversarialSettings

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
PRESETS = ["small", pytest.param("base", marks=pytest.mark.slow), pytest.param("paper", marks=pytest.mark.slow)]
SIDE_PX = 8  # of a patch at 10 m


def changed(network: torch.nn.Module, before: torch.Tensor) -> bool:
    after = torch.cat([weight.detach().flatten() for weight in network.parameters()])
    return bool(torch.isfinite(after).all()) and not torch.equal(before, after)


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_step_of_super_resolution(preset: str, precision: str) -> None:
    section = CONFIG["superres"]["presets"][preset]
    training = AdversarialSettings.read(section["adversarial"] | {"precision": precision})
    torch.manual_seed(0)
    network = ProgESRGAN(**section["model"]).to(memory_format=torch.channels_last)
    critics = pair(["2_5m", "1m"], features=training.discriminator_features)
    low = torch.randn(1, 3, SIDE_PX, SIDE_PX).contiguous(memory_format=torch.channels_last)
    high, valid = torch.randn(1, 3, 10 * SIDE_PX, 10 * SIDE_PX), torch.ones(1, 1, 10 * SIDE_PX, 10 * SIDE_PX)
    optimiser = Optimiser(torch.optim.Adam(network.parameters(), 1e-4), 1.0)
    before = weights(network)
    with autocast(precision):
        images = [image.float() for image in network(low)]
    first = losses.l1(images[0], *losses.degrade_to_stage1(high, valid)) + losses.l1(images[1], high, valid)
    assert optimiser.step(first, 1e-4, 0) and changed(network, before)
    before = weights(network)
    with autocast(precision):
        images = [image.float() for image in network(low)]
    pairs = adversarial.paired(images, high, valid)
    critics.requires_grad_(False)
    terms = adversarial.generator_terms(pairs, list(critics.values()), load("efficientnet_lite0"), training)
    assert optimiser.step(adversarial.weighted_sum(terms, training), 1e-4, 1) and changed(network, before)
    critics.requires_grad_(True)
    before = weights(critics)
    loss, _ = adversarial.critic_terms(pairs, list(critics.values()), precision)
    assert Optimiser(torch.optim.Adam(critics.parameters(), 1e-4), 1.0).step(loss, 1e-4, 1) and changed(critics, before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_step_of_segmentation(preset: str, precision: str) -> None:
    section = CONFIG["segmentation"]["presets"][preset]
    torch.manual_seed(0)
    model = mask2former.build(**section["model"]).train()
    x, label = torch.randn(1, 3, 64, 64), torch.randint(0, 2, (1, 64, 64), dtype=torch.uint8)
    label[:, :8] = 255
    before = weights(model)
    loss = model.loss(x, label, LossWeights(points=256), [torch.Generator().manual_seed(0)], autocast_dtype(precision))
    assert loss.dtype == torch.float32
    optimiser = Optimiser(torch.optim.AdamW(model.parameters(), 1e-4), 1.0)
    assert optimiser.step(loss, 1e-4, 0) and changed(model, before)
