"""Public ESRGAN weights as initial weights: conversion of their key layouts to RRDBNet's names."""

import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jointseg.models.rrdb import RRDBNet
from jointseg.runtime.errors import DataError

# Mean and standard deviation of R, G, B in 0..1 that networks trained on photographs expect.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NESTED = ("params_ema", "params")  # keys of BasicSR's weights, the averaged ones first
BASICSR = ((r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"), ("^conv_body", "trunk_conv"), ("^conv_up", "upconv"), ("^conv_hr", "HRconv"))  # fmt: skip
OLD = (
    (r"^model\.0\.", "conv_first."),
    (r"^model\.1\.sub\.(\d+)\.(RDB\d\.conv\d)\.0\.", r"RRDB_trunk.\1.\2."),
    (r"^model\.1\.sub\.\d+\.(weight|bias)$", r"trunk_conv.\1"),
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors file or in a file written by torch.save, on the CPU.

    Raises DataError if the file cannot be read, or contains no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise DataError(f"weights file {path} cannot be read ({error}); use a .safetensors or .pth file") from error
    for name in NESTED:
        if isinstance(content, dict) and name in content:
            content = content[name]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"weights file {path} contains no state dict; use a file with the state dict of a network")
    return dict(content)


def to_rrdb_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an ESRGAN generator to RRDBNet's names, which are those of the ESRGAN release.

    Supported layouts: the release; the older one as a sequence (`model.0`, `model.1.sub.0.RDB1.conv1.0`, ...); and
    that of BasicSR and Real-ESRGAN (`body.0.rdb1.conv1`, `conv_body`, `conv_up1`, `conv_hr`, ...).
    """
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    changes = [*BASICSR, *OLD]
    # In the sequence, the convolutions of the upsampling and the last two follow the trunk, in this order.
    after = sorted({int(found[1]) for name in weights if (found := re.match(r"model\.(\d+)\.", name))} - {0, 1})
    last = [*(f"upconv{number}" for number in range(1, len(after) - 1)), "HRconv", "conv_last"]
    changes += [(rf"^model\.{index}\.", f"{name}.") for index, name in zip(after, last)]
    return {_renamed(name, changes): value for name, value in weights.items()}


def _renamed(name: str, changes: list[tuple[str, str]]) -> str:
    for pattern, new in changes:
        changed = re.sub(pattern, new, name)
        if changed != name:
            return changed
    return name


def initialise_from_esrgan(network: RRDBNet, path: Path) -> None:
    """Initialise a network that adds detail to a standardised image from an ESRGAN generator trained on photographs.

    - The first layer of ESRGAN expects R, G, B in 0..1. The scaling of the standardised bands to ImageNet's mean and
      standard deviation is folded into this layer. Further input channels start with weight 0.
    - The last layer of ESRGAN outputs the image, that of `network` the difference to the bilinear image. This layer
      is not copied, so training still starts near the bilinear image.

    Raises DataError if the file cannot be read, or its network has another size.
    """
    public = to_rrdb_names(read_state_dict(path))
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith("conv_last.")}
    for name, value in expected.items():
        shape = tuple(public[name].shape) if name in public else None
        fits = shape == tuple(value.shape)
        if name == "conv_first.weight" and shape is not None:
            fits = shape == (value.shape[0], 3 * network.unshuffle**2, *value.shape[2:])
        if not fits:
            raise DataError(
                f"weights file {path} has {name} of shape {shape}, expected {tuple(value.shape)}; "
                "use the weights of an ESRGAN generator with the features, growth, blocks and upsampling of the config"
            )
    pixels = network.unshuffle**2
    mean, std = (torch.tensor(values).repeat_interleave(pixels) for values in (IMAGENET_MEAN, IMAGENET_STD))
    public_first = public["conv_first.weight"].float()
    first = torch.zeros_like(expected["conv_first.weight"])
    first[:, : 3 * pixels] = public_first * std[:, None, None]
    weights = {name: public[name].float() for name in expected} | {
        "conv_first.weight": first,
        "conv_first.bias": public["conv_first.bias"].float() + (public_first.sum((2, 3)) * mean).sum(1),
    }
    network.load_state_dict(network.state_dict() | weights)
