"""`jointseg requests`: what composing would ask of the server, without asking it."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import OK, Subparsers, add_command

HOW_MANY = 5  # tiles named without --json


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "requests",
        run,
        "Tell what composing would ask of the Sentinel-2 server, without asking it.",
        "examples:\n"
        "  jointseg run config.yaml all_scenes          list the scenes first: a search for each tile and year\n"
        "  jointseg requests config.yaml                requests and bytes by year\n"
        "  jointseg requests config.yaml --year 2021\n"
        "  jointseg requests config.yaml --json > requests.json\n\n"
        "Counted from the scene lists that are there; tiles without one are named as not known yet. Requests are\n"
        "those of composites that are still to be made, at most, when no answer has to be asked for twice: on\n"
        "Earth Engine windows of bands (computePixels), of a STAC catalogue windows of files, each of which takes\n"
        "one or more HTTP ranges. Bytes are those of the pixels, uncompressed at 10 m. Pieces are answers that a\n"
        "run which was stopped has kept: they are not asked for again. Neither network nor credentials are needed.\n\n"
        "exit status: 0 told, 2 the config is not valid or its tiles are not cut yet",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--year", type=int, metavar="Y", help="this year alone (default: all of the config)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(given: argparse.Namespace) -> int:
    from jointseg.config.load import read_config
    from jointseg.sentinel2.request_estimate import estimate_by_year

    config = read_config(given.config)
    years = sorted(config.years) if given.year is None else [given.year]
    told = estimate_by_year(config, years) if config.sentinel2.remote else []
    if given.json:
        found = {"source": config.sentinel2.source.kind, "years": [year.as_json() for year in told]}
        print(json.dumps(found, indent=1, sort_keys=True))
    elif config.sentinel2.remote:
        _tell(told)
    else:
        print("the source is an archive: no server is asked")
    return OK


def _tell(years: list[Any]) -> None:
    """Prints a table by year for people, and what it leaves open."""
    from rich.table import Table

    from jointseg.run.console import text_console

    console = text_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("year", "tiles", "listed", "composites made", "scenes", "requests", "GB", "pieces kept"):
        table.add_column(column, justify="right")
    for year in years:
        counts = (year.tiles, year.scene_lists, year.composites, year.scenes, year.estimate.requests)
        table.add_row(str(year.year), *map(str, counts), f"{year.estimate.bytes / 1e9:.2f}", str(year.cached_responses))
    console.print(table)
    console.print()
    requests, size = sum(year.estimate.requests for year in years), sum(year.estimate.bytes for year in years)
    kept = sum(year.cached_responses for year in years)
    console.print(f"{requests} requests for {size / 1e9:.2f} GB of pixels; {kept} answers are kept already")
    for year in years:
        if year.unlisted_tiles:
            more = f" and {len(year.unlisted_tiles) - HOW_MANY} more" if len(year.unlisted_tiles) > HOW_MANY else ""
            named = ", ".join(year.unlisted_tiles[:HOW_MANY])
            console.print(
                f"{year.year}: {len(year.unlisted_tiles)} tiles have no scene list, not known yet: {named}{more}"
            )
