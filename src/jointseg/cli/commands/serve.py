"""`jointseg serve`: serve the maps of a run to a browser."""

import argparse
import sys
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, results_folder


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "serve",
        run,
        "Serve composites, maps and products of a run to a browser: compare two layers, click a pixel to explain it.",
        "examples:\n"
        "  jointseg serve results/synthetic                    then open the address that it prints\n"
        "  jointseg serve config.yaml --port 8080\n"
        "  ssh -L 8000:127.0.0.1:8000 HOST                     for a run on another machine\n\n"
        "Start the command in the working directory of the run, as for `jointseg audit explain`. Only this machine can\n"
        "connect, unless --host is another address; anyone who can reach it can see the maps. The address in the\n"
        "browser holds location and layers, so you can bookmark or share it. Ctrl-C stops the server.\n\n"
        "exit status: 0 stopped, 2 there is no layer or the port is in use",
    )
    parser.add_argument("run", type=Path, help="config of the run, or its results folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0 selects a free port (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from jointseg.viewer.server import LOOPBACK, create_server

    results = results_folder(args.run)
    server = create_server(results, args.host, args.port)
    if args.host not in LOOPBACK:
        print(f"jointseg: anyone who can reach {args.host} can see the maps of {results}", file=sys.stderr)
    print(f"http://{args.host}:{server.server_address[1]}/   (Ctrl-C to stop)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return OK
