"""`jointseg status`: completed, running and failed jobs of a run."""

import argparse
import json
import time
from pathlib import Path

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive, results_folder


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "status",
        run,
        "Show completed, running and failed jobs, with the reason of each failure.",
        "examples:\n"
        "  jointseg status config.yaml                          the run of a config\n"
        "  jointseg status results/synthetic --watch 10         every ten seconds until the run ends\n"
        "  jointseg status config.yaml --html status.html       a page that the browser reloads every 30 s\n"
        "  jointseg status config.yaml --json\n\n"
        "Works on any machine that has access to the results folder, and does not affect the run.\n\n"
        "exit status: 0 running, done, or never ran; 1 jobs failed, or the run was stopped; 2 no such folder",
    )
    parser.add_argument("run", type=Path, help="config of the run, or its results folder")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--watch", type=positive, metavar="SECONDS", help="repeat until the run ends")


def run(args: argparse.Namespace) -> int:
    from jointseg.run import status
    from jointseg.run.console import text_console

    results = results_folder(args.run)
    while True:
        current = status.read(results)
        if args.html:
            status.write_page(current, args.html)
        if args.json:
            print(json.dumps(current.as_json(), indent=1), flush=True)
        else:
            console = text_console()
            if args.watch and console.is_terminal:
                console.clear()
            for line in status.lines(current):
                console.print(line)
        if not args.watch or current.state != "running":
            return FINDINGS if current.state in ("failed", "stopped") else OK
        time.sleep(args.watch)
