"""What a model card tells: of a checkpoint's own header, the job that trained it, and its test."""

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

HEADER = "jointseg"  # as models.checkpoint writes it; without torch here
VERSIONS = ("python", "torch", "transformers", "numpy")


def card_context(checkpoint: Path, run: Run, scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that the template of a model card shows.

    Args:
        checkpoint: a safetensors file of this package.
        run: what is released.
        scores: rows of the table of accuracy; those of the method that this network was trained for are shown.

    Raises:
        DataError: when the file is no checkpoint of this package.
    """
    header, shapes, kinds = _read(checkpoint)
    made = run.outputs.get(_inside(checkpoint, run.results))
    trained = header["trained"]
    method = trained.get("method")
    return {
        "name": f"{checkpoint.parent.name}-{checkpoint.stem}",
        "title": run.title,
        "sha256": file_digest(checkpoint),
        "bytes": checkpoint.stat().st_size,
        "architecture": header["architecture"]["name"],
        "form": _lines(header["architecture"]["kwargs"]),
        "parameters": _parameters(shapes),
        "kinds": ", ".join(kinds),
        "normalisation": header["normalisation"],
        "trained": _lines(trained),
        "job": _job(made.manifest) if made else None,
        "about": (run.settings.get("weights") or {}).get("about", ""),
        "scores": [row for row in scores if row["kind"] == "method" and row["name"] == method],
        **_data(run, made),
    }


def _inside(checkpoint: Path, results: Path) -> str:
    return checkpoint.relative_to(results).as_posix() if checkpoint.is_relative_to(results) else ""


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], list[str]]:
    """Header, shapes by tensor and number types of a checkpoint; weights stay on the disk."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
            kinds = sorted({each.get_dtype() for each in slices.values()})
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}); delete it and train it again") from error
    for key in ("architecture", "normalisation", "trained"):
        if key not in header:
            raise DataError(f"checkpoint {path} has no '{key}' in its header; it was not written by this package")
    return header, shapes, kinds


def _parameters(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, str]]:
    """Numbers stored, by the first two parts of a tensor's name where there is one branch only, and in all."""
    depth = 1 if len({name.partition(".")[0] for name in shapes}) > 1 else 2
    counted: Counter[str] = Counter()
    for name, shape in shapes.items():
        counted[".".join(name.split(".")[:depth])] += prod(shape)
    rows = [(part, f"{count:,}") for part, count in sorted(counted.items())]
    return [*rows, ("in all", f"{counted.total():,}")]


def _job(manifest: Manifest) -> dict[str, Any]:
    """The training job. Its processor's name and its times stay out: they are of a machine, not of the network."""
    written = manifest.record
    device = written["device"] or {}
    return {
        "name": manifest.name,
        "step": written["step"],
        "code": written["code"],
        "commit": written["commit"],
        "dirty": written["dirty"],
        "params": _lines(written["params"]),
        "facts": _lines(written["facts"]),
        "device": device.get("cuda") or "CPU",
        "versions": {name: written["versions"][name] for name in VERSIONS if name in written["versions"]},
        "inputs": [{"name": each.name, "path": each.path, "sha256": each.sha256} for each in manifest.inputs],
    }


def _data(run: Run, made: Output | None) -> dict[str, Any]:
    """What a network trained in this run was trained on; nothing is known here of one made elsewhere."""
    datasets = run.of("dataset") if made else []
    facts = datasets[0].record["facts"] if datasets else {}
    samples = run.of("samples") if datasets else []
    reaches = samples[0].record["facts"].get("splits", {}) if samples else {}
    chips = facts.get("chips", {})
    shares = facts.get("isa_fraction", {})
    settings = run.settings
    return {
        "chips": [
            (name, chips[name], f"{100 * shares[name]:.1f}" if name in shares else "–") for name in sorted(chips)
        ],
        "reaches": sorted(reaches.items()),
        "map_year": settings["map_year"],
        "made_up": settings.get("synthetic") is not None,
        "bands": settings["sentinel2"]["bands"],
        "chip_m": (settings.get("dataset") or {}).get("chip_m"),
    }


def _lines(value: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, f"{each:.6g}" if isinstance(each, float) else str(each)) for name, each in flatten(value)]
