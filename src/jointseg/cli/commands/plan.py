"""`jointseg plan`: estimate the resources of a run."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import OK, Subparsers, add_command, positive
from jointseg.cli.commands.bench import PAGE


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "plan",
        run,
        "Estimate tiles, jobs, requests, time and disk of a run, and its bottleneck.",
        "examples:\n"
        "  jointseg plan config.yaml                                  the study area and its cities\n"
        "  jointseg plan config.yaml --networks paper --devices 8     with the measurement `paper`, on 8 devices\n"
        "  jointseg plan config.yaml --scenes 30 --mb-s 200 --json > plan.json\n\n"
        "Neither network nor credentials are needed. The tile grid is built from the outlines; requests and bytes are\n"
        "those of `jointseg estimate requests`, but for an assumed number of scenes per tile. Inference time and disk\n"
        "come from a measurement of `jointseg bench inference` and are left out without one. Compositing time is for\n"
        "two cores. The assumptions are printed with the plan.\n\n"
        "exit status: 0 estimated, 2 the config is invalid or outlines are missing",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    bench = PAGE.with_suffix(".json")
    parser.add_argument("--bench", type=Path, metavar="FILE", default=bench, help="measurements (default: %(default)s)")
    parser.add_argument("--networks", metavar="NAME", help="name of the measurement to use (default: the fastest)")
    numbers = (
        ("--scenes", positive, None, "scenes per tile and year (default: from season and cloud cover)"),
        ("--mb-s", float, 100.0, "download rate, MB/s (default: %(default)s)"),
        ("--devices", positive, 1, "devices for inference (default: %(default)s)"),
    )
    for name, kind, default, text in numbers:
        parser.add_argument(name, type=kind, metavar="N", default=default, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from jointseg.config.load import read_config
    from jointseg.inference import benchmark_page
    from jointseg.run import plan

    config = read_config(args.config)
    bench = plan.measurement(benchmark_page.read_records(args.bench), args.networks, args.bench)
    assumptions = plan.Assumptions(args.scenes or plan.expected_scenes(config), args.mb_s, args.devices)
    years = plan.plan(config, plan.run_tiles(config), assumptions, bench)
    if args.json:
        print(json.dumps(plan.as_json(config, years, assumptions, bench), indent=1))
    else:
        _print_plan(config, years, assumptions, bench)
    return OK


def _print_plan(config: Any, years: list[Any], assumptions: Any, bench: dict[str, Any] | None) -> None:
    from jointseg.run import plan
    from jointseg.run.console import text_console, text_table

    console = text_console()
    columns = ("year", "tiles", "km2", "jobs", "requests", "download, TB", "composites, h", "inference, h", "disk, TB")
    table = text_table(*columns, right=columns)
    for year in years:
        table.add_row(
            str(year.year),
            f"{year.tiles:,}",
            f"{year.km2:,.0f}",
            f"{year.jobs:,}",
            f"{year.requests:,}",
            f"{year.bytes / 1e12:.2f}",
            f"{year.composite_h:,.1f}",
            "-" if year.inference_h is None else f"{year.inference_h:,.1f}",
            "-" if year.disk is None else f"{year.disk / 1e12:.3f}",
        )
    console.print(table)
    console.print()
    console.print(
        f"assumed: {assumptions.scenes} scenes per tile, {assumptions.mb_s:g} MB/s, "
        f"{assumptions.devices} device(s) for inference"
    )
    overlap = plan.window_overlap(config)
    console.print(f"inference computes each pixel {overlap:.2f} times: (inference.window_m / inference.stride_m)^2")
    if bench is None:
        console.print("time and disk of inference are unknown: measure them with jointseg bench inference")
    else:
        conditions = f"{bench['name']} on {bench['device']}, {bench['threads']} threads, {bench['precision']}"
        console.print(f"measured: {conditions}")
    peak = plan.peak_disk(config, years, assumptions)
    if peak is not None:
        final = sum(year.disk for year in years)
        console.print(
            f"disk: {final / 1e12:.3f} TB of composites and maps, at most {peak / 1e12:.3f} TB during the run; "
            "jointseg audit prune lists what can be deleted after it"
        )
    hours = plan.hours_by_part(years, assumptions)
    console.print("hours: " + ", ".join(f"{part} {hour:,.1f}" for part, hour in hours.items()))
    console.print(f"bottleneck: {next(iter(hours))}")
