"""`jointseg bench inference`: measure the throughput of inference on this machine."""

import argparse
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, add_subcommands, positive

PAGE = Path("benchmarks/inference.md")


def add(commands: Subparsers) -> None:
    benches = add_subcommands(add_command(commands, "bench", None, "Benchmark a part of the workflow on this machine."))
    parser = add_command(
        benches,
        "inference",
        run,
        "Measure the inference engine on one tile of a run, and the networks without the engine for comparison.",
        "examples:\n"
        "  jointseg bench inference examples/synthetic/config.yaml              the networks of the run\n"
        "  jointseg bench inference examples/synthetic/config.yaml --preset paper --of config.yaml --rounds 1\n"
        "  jointseg bench inference config.yaml --precision bf16 --threads 8\n\n"
        "The tile's composites must exist: run the config first, at least up to all_composites. The report has\n"
        "seconds and fractions of the stages, km2 per hour, hours for the whole study area, peak memory, the measured\n"
        "compute and memory rooflines of the device and the fraction of them that the engine reaches, and the effect\n"
        "of bf16 and of contracting logits before they are upsampled. It is written to a Markdown page and a JSON file\n"
        "beside it, which `jointseg plan` reads.\n\n"
        "exit status: 0 measured, 2 the config is invalid, or composites or checkpoints are missing",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--preset", metavar="NAME", help="random weights of this preset (default: the run's networks)")
    parser.add_argument("--of", type=Path, metavar="CONFIG", help="config with the preset (default: the same config)")
    parser.add_argument("--name", help="name of the networks on the page (default: the preset, or the run's title)")
    parser.add_argument("--tile", metavar="ID", help="tile of the map year (default: the first with a composite)")
    parser.add_argument("--threads", type=positive, default=2, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=positive, default=3, metavar="N", help="repetitions of each measurement (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="page to write (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    import tempfile
    from datetime import UTC, datetime

    from jointseg.config.load import read_config
    from jointseg.inference import benchmark, benchmark_page
    from jointseg.run.console import text_console

    config, console = read_config(args.config), text_console()
    benchmark_page.read_records(args.out.with_suffix(".json"))
    with tempfile.TemporaryDirectory(prefix="jointseg-bench-") as folder:
        presets = read_config(args.of) if args.of else config
        networks = benchmark.select_checkpoints(config, args.preset, presets, Path(folder))
        job = benchmark.tile_job(config, networks, args.tile, args.threads, args.precision)
        record = benchmark.measure(job, args.rounds, lambda line: console.print(line, style="dim"))
    record |= {"name": args.name or args.preset or config.title, "trained": networks.trained}
    record["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    benchmark_page.add_record(record, args.out)
    ratios = f"{min(record['ratio']):.3f} to {max(record['ratio']):.3f}"
    console.print(f"{record['km2_per_hour']:,.0f} km2 per hour; engine / networks {ratios}")
    console.print(f"written to {args.out} and {args.out.with_suffix('.json')}")
    return OK
