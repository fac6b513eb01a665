"""`jointseg view`: look at the maps of a run in a browser, and ask what made a pixel."""

import argparse
import sys
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, results_folder


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "view",
        run,
        "Show composites, maps and products of a run in a browser: lay two over each other, click a pixel to explain it.",
        "examples:\n"
        "  jointseg view results/synthetic                     then open the address that it prints\n"
        "  jointseg view config.yaml --port 8080\n"
        "  ssh -L 8000:127.0.0.1:8000 machine                  to look at another machine's, from yours\n\n"
        "Run it in the folder that the run was started in, as `jointseg audit explain`. It answers this machine alone\n"
        "unless --host says otherwise; whoever reaches that address may then see the maps. The address in the browser\n"
        "holds the place and the layers: keep it or send it on. Ctrl-C ends it.\n\n"
        "exit status: 0 ended, 2 there is nothing to show or the port is taken",
    )
    parser.add_argument("run", type=Path, help="config of the run, or its results folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to answer at (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0: any that is free (default: %(default)s)"
    )


def run(given: argparse.Namespace) -> int:
    from jointseg.viewer.server import LOOPBACK, create_server

    results = results_folder(given.run)
    server = create_server(results, given.host, given.port)
    if given.host not in LOOPBACK:
        print(f"jointseg: everybody who reaches {given.host} can see the maps of {results}", file=sys.stderr)
    print(f"http://{given.host}:{server.server_address[1]}/   Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return OK
