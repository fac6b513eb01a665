"""Content of a model card: header of the checkpoint, training job and test scores."""

import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import Manifest
from jointseg.provenance.release_contents import Output, Run, flatten
from jointseg.runtime.errors import DataError

HEADER = "jointseg"  # equals models.checkpoint.HEADER, without importing torch
VERSIONS = ("python", "torch", "transformers", "numpy")


def card_context(checkpoint: Path, run: Run, scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values of the model card template. Raises DataError if the file is not a checkpoint of this package.

    Of `scores`, rows of the accuracy table, the card contains those of the method that the network was trained for.
    """
    header, shapes, dtypes = _read(checkpoint)
    inside = checkpoint.is_relative_to(run.results)
    output = run.outputs.get(checkpoint.relative_to(run.results).as_posix()) if inside else None
    trained = header["trained"]
    method = trained.get("method")
    return {
        "name": f"{checkpoint.parent.name}-{checkpoint.stem}",
        "title": run.title,
        "sha256": file_digest(checkpoint),
        "bytes": checkpoint.stat().st_size,
        "architecture": header["architecture"]["name"],
        "architecture_settings": _lines(header["architecture"]["kwargs"]),
        "parameters": _parameters(shapes),
        "dtypes": ", ".join(dtypes),
        "normalisation": header["normalisation"],
        "trained": _lines(trained),
        "job": _job(output.manifest) if output else None,
        "about": (run.settings.get("weights") or {}).get("about", ""),
        "scores": [row for row in scores if row["kind"] == "method" and row["name"] == method],
        **_training_data(run, output),
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], list[str]]:
    """Header, shape of each tensor and data types of a checkpoint, without loading the weights."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
            dtypes = sorted({tensor.get_dtype() for tensor in slices.values()})
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}); delete it and retrain it") from error
    for key in ("architecture", "normalisation", "trained"):
        if key not in header:
            raise DataError(f"checkpoint {path} has no '{key}' in its header; it was not written by this package")
    return header, shapes, dtypes


def _parameters(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, str]]:
    """Number of stored values by first component of the tensor name (two components if all share the first), and total."""
    depth = 1 if len({name.partition(".")[0] for name in shapes}) > 1 else 2
    counted: Counter[str] = Counter()
    for name, shape in shapes.items():
        counted[".".join(name.split(".")[:depth])] += prod(shape)
    rows = [(part, f"{count:,}") for part, count in sorted(counted.items())]
    return [*rows, ("total", f"{counted.total():,}")]


def _job(manifest: Manifest) -> dict[str, Any]:
    """The training job, without processor name and times: they describe the machine, not the network."""
    record = manifest.record
    device = record["device"] or {}
    return {
        "name": manifest.name,
        "step": record["step"],
        "code": record["code"],
        "commit": record["commit"],
        "dirty": record["dirty"],
        "params": _lines(record["params"]),
        "facts": _lines(record["facts"]),
        "device": device.get("cuda") or "CPU",
        "versions": {name: record["versions"][name] for name in VERSIONS if name in record["versions"]},
        "inputs": [{"name": file.name, "path": file.path, "sha256": file.sha256} for file in manifest.inputs],
    }


def _training_data(run: Run, output: Output | None) -> dict[str, Any]:
    """Training data of a network that this run trained; empty for a network from outside the run."""
    datasets = run.jobs_of("dataset") if output else []
    facts = datasets[0].record["facts"] if datasets else {}
    samples = run.jobs_of("samples") if datasets else []
    reaches = samples[0].record["facts"].get("splits", {}) if samples else {}
    chips = facts.get("chips", {})
    fractions = facts.get("isa_fraction", {})
    settings = run.settings
    return {
        "chips": [
            (name, chips[name], f"{100 * fractions[name]:.1f}" if name in fractions else "–") for name in sorted(chips)
        ],
        "reaches": sorted(reaches.items()),
        "map_year": settings["map_year"],
        "synthetic": settings.get("synthetic") is not None,
        "bands": settings["sentinel2"]["bands"],
        "chip_m": (settings.get("dataset") or {}).get("chip_m"),
    }


def _lines(value: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, f"{item:.6g}" if isinstance(item, float) else str(item)) for name, item in flatten(value)]
