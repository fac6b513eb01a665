"""`jointseg audit explain`: the provenance of one pixel of the map."""

import argparse
import json
from pathlib import Path

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command
from jointseg.runtime.errors import DataError


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "explain",
        run,
        "Trace one pixel of the map back to its windows, networks, scenes, chips and jobs.",
        "examples:\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021\n"
        "  jointseg audit explain results/yreb --tile 50N_E0660_N3540 --row 700 --col 800 --year 2021\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021 --json > pixel.json\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021 --figure pixel.png\n\n"
        "Rows and columns are 1 m pixels from the tile's north-western corner, starting at 0. Start the command in the\n"
        "working directory of the run, so that sources outside the results folder are found. Scenes are read again,\n"
        "from the server if they are remote.\n\n"
        "exit status: 0 explained and consistent, 1 explained but a file differs from its manifest,\n"
        "2 the pixel does not exist, or one of its manifests is missing",
    )
    parser.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    parser.add_argument("--lon", type=float, metavar="DEGREES", help="longitude of the pixel, WGS 84")
    parser.add_argument("--lat", type=float, metavar="DEGREES", help="latitude of the pixel, WGS 84")
    parser.add_argument("--tile", metavar="ID", help="instead: tile of the pixel, such as 50N_E0660_N3540")
    parser.add_argument("--row", type=int, metavar="N", help="row in the tile")
    parser.add_argument("--col", type=int, metavar="N", help="column in the tile")
    parser.add_argument("--year", type=int, required=True, metavar="YEAR", help="year of the map")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the pixel, its windows and its scenes")


def run(args: argparse.Namespace) -> int:
    location, cell = (args.lon, args.lat), (args.tile, args.row, args.col)
    by_location, by_cell = None not in location, None not in cell
    if by_location == by_cell or any(value is not None for value in (cell if by_location else location)):
        raise DataError("not exactly one pixel: pass --lon and --lat, or --tile, --row and --col")

    from jointseg.audit.explain.explainer import Explainer

    explainer = Explainer(args.results)
    explanation = explainer.at(*location, args.year) if by_location else explainer.pixel(*cell, args.year)
    if args.figure is not None:
        from jointseg.audit.explain.figure import draw

        draw(explainer, explanation, args.figure)
    if args.json:
        print(json.dumps(explanation.as_json(), indent=1, sort_keys=True))
    else:
        from jointseg.audit.explain.text import print_explanation

        print_explanation(explanation)
    return FINDINGS if explanation.disagreements else OK
