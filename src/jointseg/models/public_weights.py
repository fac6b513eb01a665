"""Weights of other projects: the public ESRGAN key layouts under RRDBNet's names, as the start of a training."""

import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jointseg.models.rrdb import RRDBNet
from jointseg.runtime.errors import DataError

# Of R, G, B in 0..1: what images for networks trained on photographs are stretched to.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NESTED = ("params_ema", "params")  # where BasicSR keeps the weights, the averaged ones first
BASICSR = ((r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"), ("^conv_body", "trunk_conv"), ("^conv_up", "upconv"), ("^conv_hr", "HRconv"))  # fmt: skip
OLD = (
    (r"^model\.0\.", "conv_first."),
    (r"^model\.1\.sub\.(\d+)\.(RDB\d\.conv\d)\.0\.", r"RRDB_trunk.\1.\2."),
    (r"^model\.1\.sub\.\d+\.(weight|bias)$", r"trunk_conv.\1"),
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of one written by torch.save, on the CPU.

    Raises:
        DataError: the file cannot be read, or holds anything but tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise DataError(f"weights file {path} cannot be read ({error}); give a .safetensors or a .pth file") from error
    for name in NESTED:
        if isinstance(found, dict) and name in found:
            found = found[name]
            break
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"weights file {path} holds no tensors by name; give one that holds a network's state dict")
    return dict(found)


def to_rrdb_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an ESRGAN generator by the names of RRDBNet, which are those of its release.

    Layouts: the release's; the one before it, as a sequence (`model.0`, `model.1.sub.0.RDB1.conv1.0`, ...); and that
    of BasicSR and Real-ESRGAN (`body.0.rdb1.conv1`, `conv_body`, `conv_up1`, `conv_hr`, ...).
    """
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    changes = [*BASICSR, *OLD]
    # In the sequence, what follows the trunk are the convolutions of the upsampling and the last two, in their order.
    after = sorted({int(found[1]) for name in weights if (found := re.match(r"model\.(\d+)\.", name))} - {0, 1})
    last = [*(f"upconv{number}" for number in range(1, len(after) - 1)), "HRconv", "conv_last"]
    changes += [(rf"^model\.{place}\.", f"{name}.") for place, name in zip(after, last)]
    return {_renamed(name, changes): value for name, value in weights.items()}


def _renamed(name: str, changes: list[tuple[str, str]]) -> str:
    for pattern, new in changes:
        changed = re.sub(pattern, new, name)
        if changed != name:
            return changed
    return name


def initialise_from_esrgan(network: RRDBNet, path: Path) -> None:
    """Lets a network that adds detail to a standardised image start from an ESRGAN generator trained on photographs.

    - Its first layer expects R, G, B in 0..1: the standardised bands are stretched to ImageNet's mean and deviation
      within that layer. Further input channels start with weight 0.
    - Its last layer draws the whole image, ours what the bilinear image lacks: that layer alone is not taken over,
      so the training still starts next to the bilinear image.

    Raises:
        DataError: the file cannot be read, or is of a network of another size.
    """
    found = to_rrdb_names(read_state_dict(path))
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith("conv_last.")}
    for name, value in wanted.items():
        shape = tuple(found[name].shape) if name in found else None
        fits = shape == tuple(value.shape)
        if name == "conv_first.weight" and shape is not None:
            fits = shape == (value.shape[0], 3 * network.unshuffle**2, *value.shape[2:])
        if not fits:
            raise DataError(
                f"weights file {path} has {name} of shape {shape}, expected {tuple(value.shape)}; "
                "give the weights of an ESRGAN generator with the features, growth, blocks and upsampling of the config"
            )
    share = network.unshuffle**2
    mean, std = (torch.tensor(each).repeat_interleave(share) for each in (IMAGENET_MEAN, IMAGENET_STD))
    published = found["conv_first.weight"].float()
    first = torch.zeros_like(wanted["conv_first.weight"])
    first[:, : 3 * share] = published * std[:, None, None]
    taken = {name: found[name].float() for name in wanted} | {
        "conv_first.weight": first,
        "conv_first.bias": found["conv_first.bias"].float() + (published.sum((2, 3)) * mean).sum(1),
    }
    network.load_state_dict(network.state_dict() | taken)
