"""Checkpoints: weights in safetensors, with architecture, normalisation and training facts in the header."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from jointseg.models import discriminator
from jointseg.models.direct_segmenter import DirectSegmenter
from jointseg.models.prog_esrgan import ProgESRGAN
from jointseg.models.single_esrgan import SingleESRGAN
from jointseg.raster.bands import band_names, composite_band_indices
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write


def _mask2former(**kwargs: Any) -> nn.Module:
    # transformers takes seconds to import: only jobs that use the segmenter load it.
    from jointseg.models import mask2former

    return mask2former.build(**kwargs)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "prog_esrgan": ProgESRGAN,
    "single_esrgan": SingleESRGAN,
    "mask2former": _mask2former,
    "direct": DirectSegmenter,
    "unet_discriminators": discriminator.pair,
}
HEADER = "jointseg"  # one metadata entry, because safetensors writes several in random order
TOLERANCE = 1e-6  # of a mean or standard deviation of reflectance; JSON stores more digits


def build(name: str, **kwargs: Any) -> nn.Module:
    """Return the named network with random weights; `kwargs` are its preset in the config.

    Raises DataError if the architecture is unknown.
    """
    if name not in ARCHITECTURES:
        raise DataError(f"architecture '{name}' is unknown; choose {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](**kwargs)


def architecture_name(model: nn.Module) -> str:
    """Return the name in ARCHITECTURES of a generator or segmenter."""
    names: dict[Callable[..., nn.Module], str] = {network: name for name, network in ARCHITECTURES.items()}
    if type(model) in names:
        return names[type(model)]
    from jointseg.models.mask2former import Segmenter

    if not isinstance(model, Segmenter):
        raise TypeError(f"{type(model).__name__} is none of {', '.join(ARCHITECTURES)}")
    return "mask2former"


def normalisation_of(statistics: dict[str, Any]) -> dict[str, list[float]]:
    """Return {"mean", "std"} in reflectance of each band of the 10 m images; the 1 m images use the first three.

    The bands of merged dates have the normalisation of the composite's bands, because generators add details to them as
    to the composite. Raises DataError if a band has no valid pixel in the train split, for example a merged date
    without clear observations.
    """
    normalisation = {key: statistics["lr"][key] for key in ("mean", "std")}
    for number, mean in enumerate(normalisation["mean"], 1):
        if mean is None:
            raise DataError(
                f"band {number} of the 10 m chips has no valid pixel in the train split; rebuild the composites, "
                "for a band of merged dates with sentinel2.merged_dates: 0"
            )
    indices = composite_band_indices(band_names(len(normalisation["mean"])))
    return {key: [float(values[index]) for index in indices] for key, values in normalisation.items()}


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
    """Write weights and header. The same content gives the same bytes.

    `architecture` is {"name": ..., "kwargs": {...}}, with which `build` creates the network; `normalisation` {"mean",
    "std"} in reflectance, per band; `extra` are JSON-able facts about the training.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    header = {"architecture": architecture, "normalisation": normalisation, "trained": extra}
    with atomic_write(path) as part:
        part.write_bytes(serialise(tensors, {HEADER: json.dumps(header, sort_keys=True)}))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}); delete it and retrain") from error


def _equal(first: dict[str, list[float]], second: dict[str, list[float]]) -> bool:
    return all(
        len(first[key]) == len(second[key]) and np.allclose(first[key], second[key], rtol=0, atol=TOLERANCE)
        for key in ("mean", "std")
    )


def load(
    path: Path, expected: str | Sequence[str], normalisation: dict[str, list[float]] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in evaluation mode and the header {"architecture", "normalisation", "trained"}.

    Args:
        expected: accepted architecture, or architectures.
        normalisation: that the network must have been trained with; None accepts any.

    Raises:
        DataError: the file is damaged, or has another architecture or normalisation.
    """
    header, tensors = _read(path)
    for key in ("architecture", "normalisation", "trained"):
        if key not in header:
            raise DataError(f"checkpoint {path} has no '{key}' in its header; it was not written by this package")
    name = header["architecture"]["name"]
    accepted = [expected] if isinstance(expected, str) else expected
    if name not in accepted:
        raise DataError(
            f"checkpoint {path} contains a '{name}', expected a '{' or '.join(accepted)}'; set the path of such a file"
        )
    if normalisation is not None and not _equal(header["normalisation"], normalisation):
        raise DataError(
            f"checkpoint {path} was trained with normalisation {header['normalisation']}, expected {normalisation}; "
            "train it on this dataset or use the dataset it was trained on"
        )
    model = build(name, **header["architecture"]["kwargs"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"checkpoint {path}: its weights do not fit its header ({error}); retrain it") from error
    return model.eval(), header
