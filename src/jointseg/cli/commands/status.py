"""`jointseg status`: how a run stands, without touching it."""

import argparse
import json
import time
from pathlib import Path

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive, results_folder


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "status",
        run,
        "Tell how a run stands: what is done, what is running, what failed and why.",
        "examples:\n"
        "  jointseg status config.yaml                          the run of a config\n"
        "  jointseg status results/synthetic --watch 10         again every ten seconds, until it ends\n"
        "  jointseg status config.yaml --html status.html       a page, which a browser reads again every 30 s\n"
        "  jointseg status config.yaml --json\n\n"
        "It reads what the run leaves in its results folder, from any machine that sees it, and holds up nothing.\n\n"
        "exit status: 0 running, done, or never ran; 1 jobs failed, or it was stopped; 2 there is no such folder",
    )
    parser.add_argument("run", type=Path, help="config of the run, or its results folder")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--watch", type=positive, metavar="SECONDS", help="tell it again and again until the run ends")


def run(given: argparse.Namespace) -> int:
    from jointseg.run import status
    from jointseg.run.console import text_console

    results = results_folder(given.run)
    while True:
        told = status.read(results)
        if given.html:
            status.save_page(told, given.html)
        if given.json:
            print(json.dumps(told.as_json(), indent=1), flush=True)
        else:
            console = text_console()
            if given.watch and console.is_terminal:
                console.clear()
            for line in status.lines(told):
                console.print(line)
        if not given.watch or told.state != "running":
            return FINDINGS if told.state in ("failed", "stopped") else OK
        time.sleep(given.watch)
