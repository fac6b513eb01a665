"""`jointseg bench inference`: what mapping takes on this machine."""

import argparse
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, add_subcommands, positive

PAGE = Path("benchmarks/inference.md")


def add(verbs: Subparsers) -> None:
    benches = add_subcommands(add_command(verbs, "bench", None, "Measure a part of the flow on this machine.", ""))
    parser = add_command(
        benches,
        "inference",
        run,
        "Measure the inference engine on a tile of a run, beside the networks alone.",
        "examples:\n"
        "  jointseg bench inference examples/synthetic/config.yaml              the networks that map\n"
        "  jointseg bench inference examples/synthetic/config.yaml --preset paper --of config.yaml --rounds 1\n"
        "  jointseg bench inference config.yaml --precision bf16 --threads 8\n\n"
        "The tile's composites must be there: run the config first, at least all_composites. Told are seconds\n"
        "and shares of the stages, km2 an hour, hours for the belt, peak memory, the device's measured roofs and\n"
        "how near the engine comes to them, and what bf16 and logits contracted before they are upsampled change.\n"
        "The numbers go into a page of Markdown and a JSON file beside it, which `jointseg plan` reads.\n\n"
        "exit status: 0 measured, 2 the config is not valid, or composites or checkpoints are missing",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--preset", metavar="NAME", help="random weights of this preset (default: what maps)")
    parser.add_argument("--of", type=Path, metavar="CONFIG", help="config that has the preset (default: the same)")
    parser.add_argument("--name", help="what the page calls the networks (default: the preset, or the run's title)")
    parser.add_argument("--tile", metavar="ID", help="tile of the map year (default: the first with a composite)")
    parser.add_argument("--threads", type=positive, default=2, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=positive, default=3, metavar="N", help="turns of engine and networks (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="page to write (default: %(default)s)")


def run(given: argparse.Namespace) -> int:
    import tempfile
    from datetime import UTC, datetime

    from jointseg.config.load import read_config
    from jointseg.inference import benchmark, benchmark_page
    from jointseg.run.console import text_console

    config, console = read_config(given.config), text_console()
    benchmark_page.read(given.out.with_suffix(".json"))
    with tempfile.TemporaryDirectory(prefix="jointseg-bench-") as folder:
        presets = read_config(given.of) if given.of else config
        found = benchmark.networks(config, given.preset, presets, Path(folder))
        work = benchmark.job(config, found, given.tile, given.threads, given.precision)
        record = benchmark.measure(work, given.rounds, lambda line: console.print(line, style="dim"))
    record |= {"name": given.name or given.preset or config.title, "trained": found.trained}
    record["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    benchmark_page.keep(record, given.out)
    console.print(
        f"{record['km2_per_hour']:,.0f} km2 an hour; engine / networks {min(record['ratio']):.3f} to {max(record['ratio']):.3f}"
    )
    console.print(f"written to {given.out} and {given.out.with_suffix('.json')}")
    return OK
