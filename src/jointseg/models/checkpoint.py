"""Checkpoints: weights in safetensors with architecture, normalisation and training facts in the header."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from jointseg.models import discriminator, mask2former
from jointseg.models.direct_segmenter import DirectSegmenter
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.models.single_esrgan import SingleESRGAN
from jointseg.raster.bands import band_names, composite_band_indices
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "prog_esrgan": ProgESRGAN,
    "single_esrgan": SingleESRGAN,
    "mask2former": mask2former.build,
    "direct": DirectSegmenter,
    "unet_discriminators": discriminator.pair,
}
HEADER = "jointseg"  # one metadata entry: safetensors writes several in an order that changes from run to run
TOLERANCE = 1e-6  # of a mean or standard deviation of reflectance; JSON keeps more digits than this


def build(name: str, **kwargs: Any) -> nn.Module:
    """The named network with random weights; kwargs as its preset in the config."""
    if name not in ARCHITECTURES:
        raise DataError(f"architecture '{name}' is unknown; known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](**kwargs)


def architecture_name(model: nn.Module) -> str:
    """The name in ARCHITECTURES of a generator or segmenter."""
    classes = {**ARCHITECTURES, "mask2former": mask2former.Segmenter}
    return next(name for name, made in classes.items() if made is type(model))


def normalisation_of(statistics: dict[str, Any]) -> dict[str, list[float]]:
    """{"mean", "std"} in reflectance of each band of the 10 m images; the first three are also the 1 m images'.

    Merged dates show the same bands at 5 m and are normalised as these, so that one image turns into the other.

    Raises DataError for a band without a known pixel in the train split, such as those of dates that saw none of it.
    """
    normalisation = {key: statistics["lr"][key] for key in ("mean", "std")}
    for number, mean in enumerate(normalisation["mean"], 1):
        if mean is None:
            raise DataError(
                f"band {number} of the 10 m chips has no known pixel in the train split; make the composites again, "
                "for a merged band with sentinel2.dates 0"
            )
    own = composite_band_indices(band_names(len(normalisation["mean"])))
    return {key: [float(values[place]) for place in own] for key, values in normalisation.items()}


def read_normalisation(statistics: Path) -> dict[str, list[float]]:
    """Return `normalisation_of` a statistics.json."""
    return normalisation_of(json.loads(Path(statistics).read_text()))


def save(
    path: Path,
    model: nn.Module,
    *,
    architecture: dict[str, Any],
    normalisation: dict[str, list[float]],
    extra: dict[str, Any],
) -> None:
    """Write weights and header; `architecture` is {"name": ..., "kwargs": {...}}, `extra` any JSON-able facts."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    header = {"architecture": architecture, "normalisation": normalisation, "trained": extra}
    with atomic_write(path) as beside:
        beside.write_bytes(serialise(tensors, {HEADER: json.dumps(header, sort_keys=True)}))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}); delete it and train it again") from error


def _agree(stored: dict[str, list[float]], wanted: dict[str, list[float]]) -> bool:
    return all(
        len(stored[key]) == len(wanted[key])
        and all(abs(a - b) <= TOLERANCE for a, b in zip(stored[key], wanted[key], strict=True))
        for key in ("mean", "std")
    )


def load(
    path: Path, expected: str | Sequence[str], normalisation: dict[str, list[float]] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network in evaluation mode and the header {"architecture", "normalisation", "trained"}.

    DataError for a file that is damaged, of another architecture than `expected` (one or several), or trained with
    another normalisation than `normalisation` (where that is given).
    """
    header, tensors = _read(path)
    for key in ("architecture", "normalisation", "trained"):
        if key not in header:
            raise DataError(f"checkpoint {path} has no '{key}' in its header; it was not written by this package")
    name = header["architecture"]["name"]
    wanted = [expected] if isinstance(expected, str) else expected
    if name not in wanted:
        raise DataError(f"checkpoint {path} holds a '{name}', expected a '{' or '.join(wanted)}'; give the right file")
    if normalisation is not None and not _agree(header["normalisation"], normalisation):
        raise DataError(
            f"checkpoint {path} was trained with normalisation {header['normalisation']}, expected {normalisation}; "
            "train it on this dataset or use the dataset it was trained on"
        )
    model = build(name, **header["architecture"]["kwargs"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(
            f"checkpoint {path}: its weights do not fit its own header ({error}); train it again"
        ) from error
    return model.eval(), header
