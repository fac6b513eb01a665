"""The data card and the model cards of a release, rendered from manifests and tables."""

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
ALL = "all"  # value of the column `reach` for all reaches together


def write(part: Path, run: Run, checkpoints: list[Path], accuracy: Path | None, growth: Path) -> None:
    """Write README.md and models/*.md into a release folder; for the arguments see `release.release`."""
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
    commits = {(job.record["commit"], job.record["dirty"]) for job in run.jobs.values()}
    context = {
        "settings": run.settings,
        "jobs": len(run.jobs),
        "tiles": len(run.maps["isa"]),
        "mosaics": len(run.maps["mosaics"]),
        "coverage": coverage_rows(run),
        "cities": _cities(growth),
        "metrics": list(METRICS.values()),
        "scores": scores,
        "observations": observation_rows(run),
        "external_inputs": list(run.external_inputs().values()),
        "models": names,
        "digest": run.digest,
        "commits": sorted(commits, key=repr),
    }
    (part / "README.md").write_text(templates.render(DATA_CARD, context), encoding="utf-8")


def coverage_rows(run: Run) -> list[dict[str, Any]]:
    """Return area by year and class, and the fractions of impervious surface and nodata, over all tiles."""
    rows = []
    by_year: dict[str, list[str]] = defaultdict(list)
    for output in run.maps["isa"]:
        by_year[Path(output.path).parent.name].append(output.path)
    for year, paths in sorted(by_year.items()):
        km2 = {code: math.fsum(run.coverage[path].km2[code] for path in paths) for code in (ISA, NOT_ISA, NODATA)}
        valid, total = km2[ISA] + km2[NOT_ISA], math.fsum(km2.values())
        rows.append(
            {
                "year": year,
                "tiles": len(paths),
                "isa": f"{km2[ISA]:.3f}",
                "not_isa": f"{km2[NOT_ISA]:.3f}",
                "nodata": f"{km2[NODATA]:.3f}",
                "isa_percent": f"{100 * km2[ISA] / valid:.2f}" if valid else "–",
                "nodata_percent": f"{100 * km2[NODATA] / total:.2f}",
            }
        )
    return rows


def observation_rows(run: Run) -> list[dict[str, Any]]:
    """Return scenes per year and the range of mean clear observations per composite, if the jobs recorded it."""
    scenes: dict[str, set[str]] = defaultdict(set)
    clear: dict[str, list[float]] = defaultdict(list)
    levels: dict[str, set[str]] = defaultdict(set)
    for job in run.jobs_of("scenes"):
        year = job.record["wildcards"]["year"]
        scenes[year] |= set(job.record["facts"]["scenes"])
        levels[year].add(job.record["params"]["level"])
    for job in run.jobs_of("composite"):
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
    """Return a score with its 95 % CI in percent, such as "71.2 (66.0 to 76.1)", or a dash if there is none."""
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
            "nodata": f"{number(row['nodata_fraction']):.2%}",
        }
        for row in _rows(accuracy)
        if row["reach"] == ALL
    ]


def _cities(growth: Path) -> list[dict[str, str]]:
    rows = []
    for row in _rows(growth):
        value, lower, upper = (number(row.get(f"estimated_km2{end}", "")) for end in ("", "_lower", "_upper"))
        estimate = f"{value:.3f} ({lower:.3f} to {upper:.3f})" if math.isfinite(value) else "–"
        areas = {"isa": f"{float(row['isa_km2']):.3f}", "nodata": f"{float(row['nodata_km2']):.3f}"}
        rows.append({"city": row["city"], "year": row["year"], "estimated": estimate, **areas})
    return rows


def _rows(table: Path | None) -> list[dict[str, str]]:
    if table is None:
        return []
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
