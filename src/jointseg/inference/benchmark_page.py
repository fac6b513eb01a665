"""The results table of the engine's benchmark: kept as JSON, shown as Markdown."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

BELT_KM2 = 2.2e6
HEAD = """# Inference

Made by `jointseg bench inference`, which keeps the numbers in `{json}` and writes this page of them. A measurement made again
takes the place of the older one of the same name, device, threads and precision.

- **Engine / networks**: wall time of the whole engine (checkpoints loaded, composites read, map written as COG) over that of
  the networks alone on the same windows with as many threads, in rounds in which the two took turns: median (range).
- **Share of the roof**: the least time that the device could take, by its measured product of matrices and copy and by what
  the networks' operations compute and move, over the engine's wall time.
- **Belt**: hours of one such device for 2.2 million km2, at this tile's rate.
"""


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one measurement from another."""
    return tuple(record[name] for name in ("name", "device", "threads", "precision"))


def read(path: Path) -> list[dict[str, Any]]:
    """The measurements that are kept; none where the file is not there. Raises DataError for another file."""
    if not path.exists():
        return []
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        [key(record) for record in records]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file of `jointseg bench inference` ({error}); give another --out") from error
    return records


def keep(record: dict[str, Any], page: Path) -> None:
    """Adds a measurement to the JSON file beside the page, and writes the page anew."""
    table = page.with_suffix(".json")
    records = sorted(
        [each for each in read(table) if key(each) != key(record)] + [record], key=lambda each: str(key(each))
    )
    for path, text in ((table, json.dumps(records, indent=1) + "\n"), (page, render(records, table.name))):
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")


def render(records: Sequence[dict[str, Any]], json_name: str) -> str:
    """The page."""
    heads = ["networks", "device", "threads", "arithmetic", "engine / networks", "km2 an hour", "share of the roof",
             "belt, hours", "memory, MB"]  # fmt: skip
    rows = [
        [
            each["name"],
            each["device"],
            str(each["threads"]),
            each["precision"],
            _spread(each["ratio"]),
            f"{each['km2_per_hour']:,.0f}",
            f"{each['share_of_roof']:.0%}",
            f"{BELT_KM2 / each['km2_per_hour']:,.0f}",
            ", ".join(f"{place} {size:,.0f}" for place, size in each["memory_mb"].items()),
        ]
        for each in records
    ]
    lines = [HEAD.format(json=json_name), *_table(heads, rows), ""]
    for each in records:
        lines += _detail(each)
    return "\n".join(lines)


def _detail(record: dict[str, Any]) -> list[str]:
    window, stride = record["lattice"]
    total = sum(record["stages_s"].values())
    sizes = ", ".join(f"{count / 1e6:.2f} M ({part})" for part, count in record["parameters"].items())
    demand, roofs, windows = record["demand"], record["roofs"], record["windows"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"## {record['name']}, {record['precision']}, {record['device']}, {record['threads']} threads",
        "",
        f"Tile {record['tile']} of {record['km2']} km2 in {windows} windows of {window} m every {stride} m (each pixel computed "
        f"{(window / stride) ** 2:.2f} times); parameters: {sizes}; {record['date']}; {versions}.",
        "",
        f"Engine {_spread(record['engine_s'], 2)} s, networks alone {_spread(record['networks_s'], 2)} s. A window asks for "
        f"{demand['flops'] / 1e9:.1f} GFLOP and {demand['bytes'] / 1e9:.2f} GB; the device makes {roofs['flops'] / 1e9:,.0f} "
        f"GFLOP/s and {roofs['bytes'] / 1e9:.1f} GB/s.",
        "",
        *_table(
            ["stage", "seconds, all threads", "share"],
            [
                [name, f"{s:.2f}", f"{s / total:.1%}"]
                for name, s in sorted(record["stages_s"].items(), key=lambda e: -e[1])
            ],
        ),
        "",
    ]
    if record["trained"]:
        lines += [
            "Options that change pixels, against fp32 with every query's mask made at 1 m:",
            "",
            *_table(
                ["option", "mean difference of the probability", "99th percentile", "pixels of another class"],
                [
                    [name, f"{each['mean']:.5f}", f"{each['p99']:.4f}", f"{each['changed']:.3%}"]
                    for name, each in record["differences"].items()
                ],
            ),
            "",
        ]
    return lines


def _spread(values: Sequence[float], digits: int = 3) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] + ["---:"] * (len(heads) - 1), *rows)]
