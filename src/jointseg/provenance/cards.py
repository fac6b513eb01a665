"""The data card and the model cards of a release: what templates tell, taken from manifests and tables."""

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from jointseg.provenance import model_facts
from jointseg.provenance.release_contents import ISA, NODATA, NOT_ISA, Run
from jointseg.runtime import templates

DATA_CARD, MODEL_CARD = (Path(__file__).with_name(f"{name}_card.md.j2") for name in ("data", "model"))
METRICS = {"f1": "F1", "iou": "IoU", "precision": "Precision", "recall": "Recall", "overall_accuracy": "Overall"}
ALL = "all"  # of the column reach: every reach together


def write(part: Path, run: Run, checkpoints: list[Path], accuracy: Path | None, growth: Path) -> None:
    """Writes README.md and models/*.md.

    Args:
        part: the release folder.
        run: what is released.
        checkpoints: the networks that made the maps.
        accuracy: the table of accuracy; None for a run that has no test chips.
        growth: the table of the cities' areas.
    """
    scores = _scores(accuracy)
    (part / "models").mkdir()
    names = []
    for checkpoint in checkpoints:
        card = model_facts.card_context(checkpoint, run, scores)
        if card["name"] in names:
            card["name"] += f"-{card['sha256'][:8]}"
        names.append(card["name"])
        text = templates.render(MODEL_CARD, card)
        (part / "models" / f"{card['name']}.md").write_text(text, encoding="utf-8")
    told = {
        "settings": run.settings,
        "jobs": len(run.jobs),
        "tiles": len(run.maps["isa"]),
        "mosaics": len(run.maps["mosaics"]),
        "covers": coverage_rows(run),
        "cities": _cities(growth),
        "metrics": list(METRICS.values()),
        "scores": scores,
        "looks": observation_rows(run),
        "outside": list(run.outside().values()),
        "models": names,
        "digest": run.digest,
        "commits": [(job["commit"], job["dirty"]) for job in _different(run, ("commit", "dirty"))],
    }
    (part / "README.md").write_text(templates.render(DATA_CARD, told), encoding="utf-8")


def coverage_rows(run: Run) -> list[dict[str, Any]]:
    """Ground area by year and class, and the shares of known and unknown ground, over the tiles."""
    rows = []
    by_year: dict[str, list[str]] = defaultdict(list)
    for made in run.maps["isa"]:
        by_year[Path(made.path).parent.name].append(made.path)
    for year, places in sorted(by_year.items()):
        km2 = {code: math.fsum(run.covers[place].km2[code] for place in places) for code in (ISA, NOT_ISA, NODATA)}
        known, whole = km2[ISA] + km2[NOT_ISA], math.fsum(km2.values())
        rows.append(
            {
                "year": year,
                "tiles": len(places),
                "isa": f"{km2[ISA]:.3f}",
                "other": f"{km2[NOT_ISA]:.3f}",
                "unknown": f"{km2[NODATA]:.3f}",
                "share": f"{100 * km2[ISA] / known:.2f}" if known else "–",
                "unknown_share": f"{100 * km2[NODATA] / whole:.2f}",
            }
        )
    return rows


def observation_rows(run: Run) -> list[dict[str, Any]]:
    """By year: scenes used, and the clear looks that composites have, where their jobs told them."""
    scenes: dict[str, set[str]] = defaultdict(set)
    clear: dict[str, list[float]] = defaultdict(list)
    levels: dict[str, set[str]] = defaultdict(set)
    for job in run.of("scenes"):
        year = job.record["wildcards"]["year"]
        scenes[year] |= set(job.record["facts"]["scenes"])
        levels[year].add(job.record["params"]["level"])
    for job in run.of("composite"):
        if "mean_clear_observations" in job.record["facts"]:
            clear[job.record["wildcards"]["year"]].append(job.record["facts"]["mean_clear_observations"])
    return [
        {
            "year": year,
            "scenes": len(scenes[year]),
            "level": ", ".join(sorted(levels[year])),
            "clear": f"{min(clear[year]):.1f} to {max(clear[year]):.1f}" if clear[year] else "–",
        }
        for year in sorted(scenes)
    ]


def percent(row: dict[str, str], metric: str) -> str:
    """A score and its 95 % interval in percent, such as "71.2 (66.0 to 76.1)"; a dash where there is none."""
    value, lower, upper = (number(row.get(f"{metric}{end}", "")) for end in ("", "_lower", "_upper"))
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(lower):
        return f"{100 * value:.1f} (no interval)"
    return f"{100 * value:.1f} ({100 * lower:.1f} to {100 * upper:.1f})"


def number(text: str) -> float:
    return float(text) if text else math.nan


def _scores(accuracy: Path | None) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "values": [percent(row, metric) for metric in METRICS],
            "unknown": f"{number(row['nodata_fraction']):.2%}",
        }
        for row in _rows(accuracy)
        if row["reach"] == ALL
    ]


def _cities(growth: Path) -> list[dict[str, str]]:
    rows = []
    for row in _rows(growth):
        value, lower, upper = (number(row.get(f"estimated_km2{end}", "")) for end in ("", "_lower", "_upper"))
        told = f"{value:.3f} ({lower:.3f} to {upper:.3f})" if math.isfinite(value) else "–"
        areas = {name: f"{float(row[f'{name}_km2']):.3f}" for name in ("isa", "nodata")}
        rows.append({"city": row["city"], "year": row["year"], "estimated": told, **areas})
    return rows


def _rows(table: Path | None) -> list[dict[str, str]]:
    if table is None:
        return []
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _different(run: Run, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The different combinations of manifest entries over all jobs, in a fixed order."""
    found = {tuple(job.record[key] for key in keys) for job in run.jobs.values()}
    return [dict(zip(keys, each)) for each in sorted(found, key=repr)]
