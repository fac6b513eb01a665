"""`jointseg plan`: what a run will take, before anything is spent."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import OK, Subparsers, add_command, positive
from jointseg.cli.commands.bench import PAGE


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "plan",
        run,
        "Tell what a run will take before anything is spent: tiles, jobs, requests, hours, disk, the bottleneck.",
        "examples:\n"
        "  jointseg plan config.yaml                                  the belt and its six cities\n"
        "  jointseg plan config.yaml --networks paper --devices 8     with a measurement of that name, on 8 devices\n"
        "  jointseg plan config.yaml --scenes 30 --mb-s 200 --json > plan.json\n\n"
        "Neither network nor credentials are needed: tiles are cut from the outlines, requests and bytes are counted\n"
        "as `jointseg requests` counts them, but with an assumed number of scenes a tile. Hours of mapping and disk\n"
        "come from a measurement of `jointseg bench inference`; without one they are not told. Hours of composing are\n"
        "those of two cores. What is assumed is printed with the plan.\n\n"
        "exit status: 0 told, 2 the config is not valid or outlines are missing",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument(
        "--bench", type=Path, metavar="FILE", default=PAGE.with_suffix(".json"), help="default: %(default)s"
    )
    parser.add_argument("--networks", metavar="NAME", help="measurement to plan with (default: the fastest)")
    parser.add_argument("--scenes", type=positive, metavar="N", help="a tile and year (default: from season and cloud)")
    parser.add_argument("--mb-s", type=float, metavar="R", default=100.0, help="from the server (default: %(default)s)")
    parser.add_argument(
        "--devices", type=positive, metavar="N", default=1, help="that map at a time (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(given: argparse.Namespace) -> int:
    from jointseg.config.load import read_config
    from jointseg.inference import benchmark_page
    from jointseg.run import plan

    config = read_config(given.config)
    bench = plan.measurement(benchmark_page.read(given.bench), given.networks, given.bench)
    assumed = plan.Assumptions(given.scenes or plan.expected_scenes(config), given.mb_s, given.devices)
    years = plan.plan(config, plan.run_tiles(config), assumed, bench)
    if given.json:
        print(json.dumps(plan.as_json(config, years, assumed, bench), indent=1))
    else:
        _tell(config, years, assumed, bench)
    return OK


def _tell(config: Any, years: list[Any], assumed: Any, bench: dict[str, Any] | None) -> None:
    from rich.table import Table

    from jointseg.run import plan
    from jointseg.run.console import text_console

    console = text_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    heads = ("year", "tiles", "km2", "jobs", "requests", "TB asked for", "composing, h", "mapping, h", "disk, TB")
    for column in heads:
        table.add_column(column, justify="right")
    for year in years:
        table.add_row(
            str(year.year),
            f"{year.tiles:,}",
            f"{year.km2:,.0f}",
            f"{year.jobs:,}",
            f"{year.requests:,}",
            f"{year.bytes / 1e12:.2f}",
            f"{year.compose_h:,.1f}",
            "-" if year.map_h is None else f"{year.map_h:,.1f}",
            "-" if year.disk is None else f"{year.disk / 1e12:.3f}",
        )
    console.print(table)
    console.print()
    overlap = (config.inference.window_m / config.inference.stride_m) ** 2
    console.print(
        f"assumed: {assumed.scenes} scenes a tile, {assumed.mb_s:g} MB/s, {assumed.devices} device(s) that map"
    )
    console.print(f"each pixel is computed {overlap:.2f} times: inference.window_m over inference.stride_m, squared")
    if bench is None:
        console.print("mapping and disk are not known: measure them with jointseg bench inference")
    else:
        console.print(
            f"measured: {bench['name']} on {bench['device']}, {bench['threads']} threads, {bench['precision']}"
        )
    peak = plan.peak_disk(config, years, assumed)
    if peak is not None:
        made = sum(year.disk for year in years)
        console.print(
            f"disk: {made / 1e12:.3f} TB of composites and maps, {peak / 1e12:.3f} TB at most while tiles are under way; after"
            " the run, jointseg audit prune tells what may go"
        )
    hours = plan.hours_by_part(years, assumed)
    console.print("hours: " + ", ".join(f"{part} {hour:,.1f}" for part, hour in hours.items()))
    console.print(f"the bottleneck is {next(iter(hours))}")
