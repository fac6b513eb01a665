"""`jointseg estimate requests`: number and volume of the requests to the Sentinel-2 server."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import OK, Subparsers, add_command, add_subcommands

MAX_TILES = 5  # ids printed without --json


def add(commands: Subparsers) -> None:
    estimates = add_subcommands(add_command(commands, "estimate", None, "Estimate what a run needs."))
    parser = add_command(
        estimates,
        "requests",
        run,
        "Estimate the requests to the Sentinel-2 server that the composites of a run need.",
        "examples:\n"
        "  jointseg run config.yaml all_scenes          list the scenes first: one search per tile and year\n"
        "  jointseg estimate requests config.yaml       requests and bytes by year\n"
        "  jointseg estimate requests config.yaml --year 2021\n"
        "  jointseg estimate requests config.yaml --json > requests.json\n\n"
        "Counts from the existing scene lists; tiles without one are listed separately. Requests are an upper bound for\n"
        "the composites that do not exist yet, without retries: on Earth Engine one per window of bands\n"
        "(computePixels), from a STAC catalogue one per window of a file, each with one or more HTTP ranges. Bytes\n"
        "are uncompressed pixels at 10 m. Cached responses of an interrupted run are not requested again. Neither\n"
        "network nor credentials are needed.\n\n"
        "exit status: 0 estimated, 2 the config is invalid or its tile grid does not exist yet",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--year", type=int, metavar="Y", help="only this year (default: all years of the config)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from jointseg.config.load import read_config
    from jointseg.sentinel2.request_estimate import estimate_by_year

    config = read_config(args.config)
    years = sorted(config.years) if args.year is None else [args.year]
    estimates = estimate_by_year(config, years) if config.sentinel2.remote else []
    if args.json:
        report = {"source": config.sentinel2.source.kind, "years": [year.as_json() for year in estimates]}
        print(json.dumps(report, indent=1, sort_keys=True))
    elif config.sentinel2.remote:
        _print_estimates(estimates)
    else:
        print("no requests: the source is an archive")
    return OK


def _print_estimates(years: list[Any]) -> None:
    """Print a table by year, the totals, and the tiles without a scene list."""
    from jointseg.run.console import first_of, text_console, text_table

    console = text_console()
    columns = ("year", "tiles", "scene lists", "composites", "scenes", "requests", "GB", "cached responses")
    table = text_table(*columns, right=columns)
    for year in years:
        counts = (year.tiles, year.scene_lists, year.composites, year.scenes, year.estimate.requests)
        table.add_row(str(year.year), *map(str, counts), f"{year.estimate.bytes / 1e9:.2f}", str(year.cached_responses))
    console.print(table)
    console.print()
    requests, size = sum(year.estimate.requests for year in years), sum(year.estimate.bytes for year in years)
    cached = sum(year.cached_responses for year in years)
    console.print(f"{requests} requests for {size / 1e9:.2f} GB of pixels; {cached} responses are cached")
    for year in years:
        if year.unlisted_tiles:
            tiles = first_of(year.unlisted_tiles, MAX_TILES)
            console.print(f"{year.year}: {len(year.unlisted_tiles)} tiles have no scene list yet: {tiles}")
