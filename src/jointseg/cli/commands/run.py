"""`jointseg run`: the flow of a config, with bars, from a copy of its code; one run at a time in a results folder."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jointseg.cli.commands import Subparsers, add_command
from jointseg.runtime.errors import DataError

POLL_SECONDS = 0.2
FORWARD_SECONDS = 1.0
NOTIFY_SECONDS = 60
SLURM_RUN = re.compile(r"^SLURM run ID: (\S+)")
# Options of Snakemake with which it makes nothing: it then speaks for itself, and needs no lock.
TALK_ONLY = {
    *("-n", "--dry-run", "--dryrun", "--lint", "--report", "--dag", "--rulegraph", "--filegraph", "--d3dag"),
    *("-l", "--list", "--list-rules", "--list-target-rules", "--list-changes", "-S", "--summary"),
    *("-D", "--detailed-summary", "--unlock", "--archive", "--generate-unit-tests"),
}


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "run",
        run,
        "Run the flow of a config, or resume it, with bars and one line for each failure.",
        "examples:\n"
        "  jointseg run config.yaml                      all of it, on all CPUs\n"
        "  jointseg run config.yaml --cores 8            on eight\n"
        "  jointseg run config.yaml -n                   what would run, and why\n"
        "  jointseg run config.yaml all_composites       up to the composites; all_maps: up to the maps\n"
        "  jointseg run config.yaml --profile slurm      on a cluster, as profiles/slurm says\n"
        "  jointseg run config.yaml --notify 'mail -s JointSeg team@example.org'   told when it ends\n\n"
        "Further arguments go to Snakemake. Code and config are copied when the run starts: editing them changes\n"
        "nothing of it. One run at a time works in a results folder. The exit status is Snakemake's, or 3 when another run holds the folder. Snakemake's output is kept in logs/snakemake.log\n"
        "of the results folder.",
    )
    parser.add_argument("config", type=Path, help="YAML config, such as examples/synthetic/config.yaml")
    parser.add_argument(
        "--cores", metavar="N", help=f"CPUs to use (default: what the profile says; all, {os.cpu_count()})"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        default="default",
        help="a folder of profiles/, or another with Snakemake's config.yaml (default: %(default)s)",
    )
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run this when the run ends, with the lines of `jointseg status` as its input and JOINTSEG_STATE (done, failed,"
        " stopped) in its environment",
    )
    parser.add_argument("--snakefile", type=Path, metavar="FILE", help="another Snakefile than the one in this folder")


def run(given: argparse.Namespace) -> int:
    results = _results(given)
    if TALK_ONLY & set(given.rest):
        return subprocess.call(_command(given, given.config, given.snakefile, Path()))

    from rich.console import Console

    from jointseg.run import lock
    from jointseg.run.console import Display
    from jointseg.run.snapshot import take_snapshot
    from jointseg.runtime import job_status

    folder = results / job_status.FOLDER
    log = results / "logs" / "snakemake.log"
    with lock.hold(results, ["jointseg", "run", str(given.config), *given.rest]) as held:
        lock.remove_stale_locks(held, results)
        job_status.reset(folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, job_status.ENV_VARIABLE: str(folder.absolute()), "PYTHONUNBUFFERED": "1"}
        if given.snakefile is None:
            frozen = take_snapshot(given.config, results)
            command = _command(given, frozen.config, frozen.snakefile, frozen.home)
            before = os.environ.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join([str(frozen.source.absolute()), *([before] if before else [])])
        else:
            command = _command(given, given.config, given.snakefile, Path())
        # A shell that starts a run in the background has it ignore SIGINT, and with it whatever it starts: TERM, which
        # becomes SIGINT here, would then stop nothing.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Into the file and not through a pipe: Snakemake then survives this process.
        with open(log, "ab") as out, open(log, encoding="utf-8", errors="replace") as heard:
            heard.seek(0, os.SEEK_END)
            flow = subprocess.Popen(command, stdin=held.descriptor, stdout=out, stderr=out, env=environment)
            with Display(Console(), folder) as display:
                _follow(flow, heard, display, held)
        held.broken = flow.returncode < 0
        display.conclude(flow.returncode, log)
    if given.notify:
        _notify(given.notify, results)
    return flow.returncode


def _command(given: argparse.Namespace, config: Path, snakefile: Path | None, home: Path) -> list[str]:
    """Snakemake's command line.

    Args:
        config: the config file.
        snakefile: None for the one of this folder.
        home: the folder that holds `profiles`.
    """
    command = [sys.executable, "-m", "snakemake", *(["--snakefile", str(snakefile)] if snakefile else [])]
    command += ["--configfile", str(config), "--rerun-incomplete"]
    profile = next(
        (path for path in (home / "profiles" / given.profile, Path(given.profile)) if _is_profile(path)), None
    )
    if profile is None and given.profile != "default":
        raise DataError(
            f"{given.profile} is neither a folder of profiles/ nor one with a config.yaml; correct --profile"
        )
    # Snakemake's --profile would be read beside profiles/default, not in its place.
    command += ["--workflow-profile", str(profile)] if profile else []
    cores = given.cores or (None if profile else "all")
    return [*command, *(["--cores", cores] if cores else []), *given.rest]


def _is_profile(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.yaml", "config.v9+.yaml"))


def _notify(command: str, results: Path) -> None:
    """Tells a command how the run ended; that it cannot be told is said, and ends nothing."""
    from jointseg.run import status

    told = status.read(results)
    text = "\n".join(status.lines(told)) + "\n"
    try:
        done = subprocess.run(
            command,
            shell=True,
            input=text,
            text=True,
            env={**os.environ, "JOINTSEG_STATE": told.state},
            timeout=NOTIFY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"jointseg: --notify {command!r} took more than {NOTIFY_SECONDS} s and was stopped", file=sys.stderr)
        return
    if done.returncode:
        print(f"jointseg: --notify {command!r} ended with status {done.returncode}", file=sys.stderr)


def _results(given: argparse.Namespace) -> Path:
    """The results folder of a run, `--config results=...` among Snakemake's arguments included."""
    import yaml

    try:
        config = yaml.safe_load(given.config.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{given.config} is not YAML: {' '.join(str(error).split())}") from error
    config |= _overrides(given.rest)
    if given.snakefile is None:
        from jointseg.config.load import load_config

        load_config(config)
    if not isinstance(config.get("results"), str):
        raise DataError(f"{given.config} has no key `results`; give the folder that the run is to make")
    return Path(config["results"])


def _overrides(rest: list[str]) -> dict[str, Any]:
    """What `--config KEY=VALUE ...` sets."""
    import yaml

    found: dict[str, Any] = {}
    inside = False
    for word in rest:
        if word.startswith("-"):
            inside = word in ("--config", "-C")
        elif inside and "=" in word:
            key, _, value = word.partition("=")
            found[key] = yaml.safe_load(value)
    return found


def _follow(flow: subprocess.Popen, heard: Any, display: Any, held: Any) -> None:
    """Shows what Snakemake says until it ends, and says that the run lives; Ctrl-C and TERM stop it in order."""
    from jointseg.run.lock import BEAT_SECONDS

    told = beat = 0.0
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    rest = ""
    while True:
        try:
            ended = flow.poll() is not None
            rest += heard.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                display.hear(line)
                if found := SLURM_RUN.match(line):
                    held.tell(slurm=found[1])
            if time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                held.beat()
            display.draw()
            if ended:
                return
            if told and time.monotonic() - told > FORWARD_SECONDS:
                # A terminal tells the whole foreground group; a signal sent to this process alone is passed on.
                if not display.flow.stopping:
                    _interrupt(flow.pid)
                told = 0.0
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            told = told or time.monotonic()


def _interrupt(pid: int) -> None:
    """SIGINT to a process and everything it started."""
    family, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        family.append(each)
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            waiting += map(int, children.read_text().split())
    for each in reversed(family):
        try:
            os.kill(each, signal.SIGINT)
        except ProcessLookupError:
            continue
