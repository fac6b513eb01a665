"""`jointseg audit explain`: everything that made one pixel of the map."""

import argparse
import json
from pathlib import Path

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command
from jointseg.runtime.errors import DataError


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "explain",
        run,
        "Trace one pixel of the map back to the windows, networks, scenes, chips and jobs that made it.",
        "examples:\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021\n"
        "  jointseg audit explain results/yreb --tile 50N_E0660_N3540 --row 700 --col 800 --year 2021\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021 --json > pixel.json\n"
        "  jointseg audit explain results/yreb --lon 118.7021 --lat 31.9964 --year 2021 --figure pixel.png\n\n"
        "Rows and columns count 1 m pixels from the tile's north-western corner, from 0. Run it in the folder that the\n"
        "run was started in, so that sources outside the results folder are found. Scenes are read again, from the web\n"
        "where they came from there.\n\n"
        "exit status: 0 explained and all agrees, 1 explained but something is not as its manifest says,\n"
        "2 there is no such pixel, or a manifest of it is missing",
    )
    parser.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    parser.add_argument("--lon", type=float, metavar="DEGREES", help="longitude of the pixel, WGS 84")
    parser.add_argument("--lat", type=float, metavar="DEGREES", help="latitude of the pixel, WGS 84")
    parser.add_argument("--tile", metavar="ID", help="or its tile, such as 50N_E0660_N3540,")
    parser.add_argument("--row", type=int, metavar="N", help="its row")
    parser.add_argument("--col", type=int, metavar="N", help="and its column on the tile's 1 m grid")
    parser.add_argument("--year", type=int, required=True, metavar="YEAR", help="year of the map")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the pixel, its windows and its scenes")


def run(given: argparse.Namespace) -> int:
    place, cell = (given.lon, given.lat), (given.tile, given.row, given.col)
    by_place, by_cell = None not in place, None not in cell
    if by_place == by_cell or any(value is not None for value in (cell if by_place else place)):
        raise DataError("that is not one pixel: give --lon and --lat, or --tile, --row and --col")

    from jointseg.audit.explain.explainer import Explainer

    explainer = Explainer(given.results)
    told = explainer.at(*place, given.year) if by_place else explainer.pixel(*cell, given.year)
    if given.figure is not None:
        from jointseg.audit.explain.figure import draw

        draw(explainer, told, given.figure)
    if given.json:
        print(json.dumps(told.as_json(), indent=1, sort_keys=True))
    else:
        from jointseg.audit.explain.text import print_explanation

        print_explanation(told)
    return FINDINGS if told.disagreements else OK
