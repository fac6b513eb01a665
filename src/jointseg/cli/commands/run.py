"""`jointseg run`: run or resume the workflow of a config, from a snapshot of its code."""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from jointseg.cli.commands import Subparsers, add_command, read_yaml
from jointseg.runtime.errors import DataError

POLL_SECONDS = 0.2
FORWARD_SECONDS = 1.0
NOTIFY_SECONDS = 60
# Options of Snakemake that run no job: its output goes to the terminal, and the results folder is not locked.
NO_JOBS = {
    *("-n", "--dry-run", "--dryrun", "--lint", "--report", "--dag", "--rulegraph", "--filegraph", "--d3dag"),
    *("-l", "--list", "--list-rules", "--list-target-rules", "--list-changes", "-S", "--summary"),
    *("-D", "--detailed-summary", "--unlock", "--archive", "--generate-unit-tests"),
}


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "run",
        run,
        "Run the workflow of a config, or resume it, with progress bars and one line per failure.",
        "examples:\n"
        "  jointseg run config.yaml                      everything, on all CPUs\n"
        "  jointseg run config.yaml --cores 8            on eight CPUs\n"
        "  jointseg run config.yaml -n                   list the jobs that would run, and why\n"
        "  jointseg run config.yaml all_composites       only the composites; all_maps: only the maps\n"
        "  jointseg run config.yaml --profile slurm      on a cluster, with profiles/slurm\n"
        "  jointseg run config.yaml --notify 'mail -s JointSeg team@example.org'\n\n"
        "Further arguments are passed to Snakemake. Code and config are copied when the run starts, so edits do not\n"
        "affect it. Only one run at a time can use a results folder. Snakemake's output is in logs/snakemake.log of\n"
        "the results folder.\n\n"
        "exit status: that of Snakemake, or 3 if another run is using the results folder",
    )
    parser.add_argument("config", type=Path, help="YAML config, such as examples/synthetic/config.yaml")
    cores = f"CPUs to use (default: as in the profile, or all {os.cpu_count()} without a profile)"
    parser.add_argument("--cores", metavar="N", help=cores)
    parser.add_argument(
        "--profile",
        metavar="NAME",
        default="default",
        help="a folder of profiles/, or another one with a config.yaml of Snakemake (default: %(default)s)",
    )
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run this command when the run ends, with the lines of `jointseg status` on standard input and "
        "JOINTSEG_STATE (done, failed, stopped) in the environment",
    )
    parser.add_argument("--snakefile", type=Path, metavar="FILE", help="another Snakefile (default: ./Snakefile)")


def run(args: argparse.Namespace) -> int:
    results = _results(args)
    if NO_JOBS & set(args.rest):
        return subprocess.call(_command(args, args.config, args.snakefile, Path()))

    from rich.console import Console

    from jointseg.run import events, lock
    from jointseg.run.console import Display
    from jointseg.runtime import job_status

    folder = results / job_status.FOLDER
    log = results / "logs" / "snakemake.log"
    event_file = results / events.FILE
    with lock.hold(results, ["jointseg", "run", str(args.config), *args.rest]) as held:
        lock.remove_stale_locks(held, results)
        job_status.reset(folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        command, environment = _prepare(args, results)
        event_file.write_text("")
        environment |= {job_status.ENV_VARIABLE: str(folder.absolute()), "PYTHONUNBUFFERED": "1"}
        command[3:3] = ["--logger", "jointseg", "--logger-jointseg-path", str(event_file.absolute())]
        # A shell starts background processes with SIGINT ignored, and their children inherit it: TERM, which becomes
        # SIGINT here, would have no effect.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Output goes to a file, not to a pipe, so that Snakemake survives this process.
        with open(log, "ab") as output:
            snakemake = subprocess.Popen(command, stdin=held.descriptor, stdout=output, stderr=output, env=environment)
        with Display(Console(), folder) as display:
            _follow(snakemake, events.EventReader(event_file), display, held)
        held.killed = snakemake.returncode < 0
        display.conclude(snakemake.returncode, log)
    if args.notify:
        _notify(args.notify, results)
    return snakemake.returncode


def _prepare(args: argparse.Namespace, results: Path) -> tuple[list[str], dict[str, str]]:
    """Return Snakemake's command line and environment; without --snakefile the code is a new snapshot."""
    if args.snakefile is not None:
        return _command(args, args.config, args.snakefile, Path()), dict(os.environ)

    from jointseg.run.snapshot import take_snapshot

    snapshot = take_snapshot(args.config, results)
    search_path = [str(snapshot.source.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = _command(args, snapshot.config, snapshot.snakefile, snapshot.home)
    return command, os.environ | {"PYTHONPATH": os.pathsep.join(search_path)}


def _command(args: argparse.Namespace, config: Path, snakefile: Path | None, home: Path) -> list[str]:
    """Return Snakemake's command line; without `snakefile` for ./Snakefile. Profiles are in `home`/profiles."""
    command = [sys.executable, "-m", "snakemake", *(["--snakefile", str(snakefile)] if snakefile else [])]
    command += ["--configfile", str(config), "--rerun-incomplete"]
    folders = (home / "profiles" / args.profile, Path(args.profile))
    names = ("config.yaml", "config.v9+.yaml")
    profile = next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)
    if profile is None and args.profile != "default":
        raise DataError(
            f"profile {args.profile} does not exist; pass the name of a folder of profiles/, or a folder with a config.yaml"
        )
    # Snakemake applies --profile in addition to profiles/default; --workflow-profile replaces it.
    command += ["--workflow-profile", str(profile)] if profile else []
    cores = args.cores or (None if profile else "all")
    return [*command, *(["--cores", cores] if cores else []), *args.rest]


def _notify(command: str, results: Path) -> None:
    """Run the --notify command; a failure of it is only printed."""
    from jointseg.run import status

    current = status.read(results)
    try:
        done = subprocess.run(
            command,
            shell=True,
            input="\n".join(status.lines(current)) + "\n",
            text=True,
            env={**os.environ, "JOINTSEG_STATE": current.state},
            timeout=NOTIFY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"jointseg: --notify {command!r} took more than {NOTIFY_SECONDS} s and was stopped", file=sys.stderr)
        return
    if done.returncode:
        print(f"jointseg: --notify {command!r} failed with status {done.returncode}", file=sys.stderr)


def _results(args: argparse.Namespace) -> Path:
    """Return the results folder of a run; `--config results=...` among Snakemake's arguments has priority."""
    config = read_yaml(args.config) | _overrides(args.rest)
    if args.snakefile is None:
        from jointseg.config.load import load_config

        load_config(config)
    if not isinstance(config.get("results"), str):
        raise DataError(f"{args.config} has no key `results`; set it to the folder for the results")
    return Path(config["results"])


def _overrides(rest: list[str]) -> dict[str, Any]:
    """Return the config keys that `--config KEY=VALUE ...` sets."""
    import yaml

    overrides: dict[str, Any] = {}
    inside = False
    for word in rest:
        if word.startswith("-"):
            inside = word in ("--config", "-C")
        elif inside and "=" in word:
            key, _, value = word.partition("=")
            overrides[key] = yaml.safe_load(value)
    return overrides


def _follow(snakemake: subprocess.Popen, events: Any, display: Any, held: Any) -> None:
    """Show Snakemake's events until it ends, and keep the lock alive. Ctrl-C and TERM stop the jobs in order."""
    from jointseg.run.lock import HEARTBEAT_SECONDS

    interrupted = heartbeat = 0.0
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    while True:
        try:
            ended = snakemake.poll() is not None
            for event in events.read():
                display.update(event)
                if event["event"] == "slurm_run":
                    held.record(slurm=event["id"])
            if time.monotonic() - heartbeat > HEARTBEAT_SECONDS:
                heartbeat = time.monotonic()
                held.send_heartbeat()
            display.draw()
            if ended:
                return
            if interrupted and time.monotonic() - interrupted > FORWARD_SECONDS:
                # A terminal signals the whole foreground group; a signal to this process only must be forwarded.
                if not display.state.stopping:
                    _interrupt(snakemake.pid)
                interrupted = 0.0
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            interrupted = interrupted or time.monotonic()


def _interrupt(pid: int) -> None:
    """Send SIGINT to a process and all its descendants, the descendants first."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for descendant in reversed(process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                descendant.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
