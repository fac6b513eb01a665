"""Throughput of `jointseg audit verify` compared with `cat`, and time to read 20,000 manifests.

    python benchmarks/verify.py results/synthetic > benchmarks/verify.md

Writes 10 GB of files with manifests to a temporary folder and deletes them. All variants are measured alternately and several
times, so that other load on the machine affects all of them equally.
"""

import argparse
import json
import os
import platform
import random
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from jointseg.audit.hashing import HashedFile, HashingPass, hash_files
from jointseg.audit.lineage import Lineage
from jointseg.audit.verify import PASS, Report, read_manifests, verify_results
from jointseg.provenance.machine import processor
from jointseg.provenance.manifest import sealed

CORES = len(os.sched_getaffinity(0))
LARGE, LARGE_BYTES = 40, 250_000_000
SMALL, SMALL_BYTES = 2000, 100_000
COLD = 8  # large files that are read from disk
MEMORY_BYTES = 6_000_000_000
MANIFESTS = 20_000
DROP = Path("/proc/sys/vm/drop_caches")
BLAKE3 = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from blake3 import blake3
paths = sys.stdin.read().split("\\0")
started = time.perf_counter()
with ThreadPoolExecutor(int(sys.argv[1])) as pool:
    list(pool.map(lambda path: blake3(max_threads=1).update_mmap(path).digest(), paths))
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results folder of a run, for a manifest to copy")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each variant (default: %(default)s)")
    parser.add_argument("--blake3", metavar="PYTHON", help="Python interpreter with the package blake3, for comparison")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: folder for temporary files)")
    arguments = parser.parse_args()
    pattern = json.loads(sorted(arguments.results.glob("manifests/predict/*/*.json"))[0].read_text())
    pattern.pop("seal", None)
    print(f"# Verification speed\n\n{__doc__.split(chr(10))[0]}\n")
    print(f"{processor()}, {CORES} cores, {platform.system()} {platform.release()}; ", end="")
    print(f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, ", end="")
    cat_version = subprocess.check_output(["cat", "--version"], text=True).splitlines()[0]
    print(f"{cat_version}; load at start {os.getloadavg()[0]:.1f}.\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure_hashing(Path(folder, "results"), pattern, arguments.rounds, arguments.blake3)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure_manifests(Path(folder, "results"), pattern, arguments.rounds)


def measure_hashing(results: Path, pattern: dict, rounds: int, blake3: str | None) -> None:
    """Measure and print the throughput in GB/s."""
    sizes = make_files(results)
    hashed = hash_all(results, sizes)
    write_manifests(results, pattern, {path: (sizes[path], each.sha256) for path, each in hashed.items()})
    total = sum(sizes.values())
    paths = [results / path for path in sizes]
    variants: dict[str, Callable[[], float]] = {
        "`cat`": lambda: total / seconds(lambda: cat(paths)),
        "sha256 of data in memory (upper limit)": lambda: MEMORY_BYTES / seconds(hash_memory),
        "`jointseg audit verify`": lambda: total / seconds(lambda: verify(results)),
    }
    if blake3:
        version = subprocess.check_output([blake3, "-c", "import blake3; print(blake3.__version__)"], text=True).strip()
        variants[f"BLAKE3 (package blake3 {version}), memory-mapped files"] = lambda: (
            total / blake3_seconds(blake3, paths)
        )
    print(f"## From the page cache\n\n{total / 1e9:.1f} GB: {LARGE} files of {LARGE_BYTES / 1e6:.0f} MB and", end=" ")
    print(f"{SMALL} of {SMALL_BYTES / 1e3:.0f} kB; {CORES} threads or processes; {rounds} rounds.\n")
    rates = measure_rounds(variants, rounds)
    print_table(rates)
    cat_rates, sha256_rates, verify_rates, *others = rates.values()
    target = 0.8 * statistics.median(cat_rates) / 1e9
    # Each core reads a block as `cat` does and then hashes it.
    sequential = [1 / (1 / read + 1 / hashed) for read, hashed in zip(cat_rates, sha256_rates)]
    print(
        f"\nVerification reaches {100 * ratio(verify_rates, sha256_rates):.0f} % of the sha256 throughput and", end=" "
    )
    print(f"{100 * ratio(verify_rates, sequential):.0f} % of `cat` followed by sha256. 80 % of `cat` is", end=" ")
    print(f"{target:.1f} GB/s, sha256 reaches {statistics.median(sha256_rates) / 1e9:.1f}", end="")
    print(f" and BLAKE3 {statistics.median(others[0]) / 1e9:.1f}." if others else ".")
    cold = {path: size for path, size in sizes.items() if size == LARGE_BYTES}
    cold = dict(list(cold.items())[:COLD])
    if not drop_caches():
        print("\nReads from disk were not measured: no permission to empty the page cache.")
        return
    amount = sum(cold.values())
    variants = {
        "`cat`": lambda: amount / cold_seconds(lambda: cat([results / path for path in cold])),
        "hashing": lambda: amount / cold_seconds(lambda: hash_all(results, cold)),
    }
    print(
        f"\n## From disk\n\n{amount / 1e9:.1f} GB in {COLD} files, with an empty page cache before each measurement.\n"
    )
    print_table(measure_rounds(variants, rounds))


def measure_manifests(results: Path, pattern: dict, rounds: int) -> None:
    """Measure and print the time to read many manifests."""
    files = {}
    for number in range(MANIFESTS):
        path, content = f"2021/{number:05d}.tif", str(number).encode()
        files[path] = (len(content), sha256(content).hexdigest())
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_bytes(content)
    write_manifests(results, pattern, files)
    size = next(results.glob("manifests/predict/2021/*.json")).stat().st_size
    variants: dict[str, Callable[[], float]] = {
        "`audit.lineage.Lineage`": lambda: seconds(lambda: Lineage(results)),
        "`audit.verify.read_manifests`: hash, seal, content": lambda: seconds(
            lambda: read_manifests(results, Report(""))
        ),
        f"`jointseg audit verify`, with {MANIFESTS:,} small files": lambda: seconds(lambda: verify(results)),
    }
    print(f"\n## {MANIFESTS:,} manifests of {size} bytes\n\n| | median, s | all, s |\n| --- | ---: | --- |")
    for variant, times in measure_rounds(variants, rounds).items():
        print(f"| {variant} | {statistics.median(times):.1f} | {', '.join(f'{time:.2f}' for time in times)} |")


def make_files(results: Path) -> dict[str, int]:
    """Write files with different content; return their sizes by path."""
    block = random.Random(1).randbytes(LARGE_BYTES)
    sizes = {f"large/{number}": LARGE_BYTES for number in range(LARGE)}
    sizes |= {f"small/{number}": SMALL_BYTES for number in range(SMALL)}
    for number, (path, size) in enumerate(sizes.items()):
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        with open(results / path, "wb") as file:
            file.write(number.to_bytes(8, "big"))
            file.write(memoryview(block)[: size - 8])
    os.sync()
    return sizes


def write_manifests(results: Path, pattern: dict, files: dict[str, tuple[int, str]]) -> None:
    """Write a manifest for every file, with the other entries from the pattern; its inputs become external."""
    for path, (size, digest) in files.items():
        name = Path(path).with_suffix("")
        manifest = results / "manifests" / pattern["rule"] / f"{name}.json"
        output = {**pattern["outputs"][0], "path": f"benchmark/{path}", "size": size, "sha256": digest}
        wildcards = dict(zip(("year", "tile"), name.parts))
        record = {**pattern, "results": "benchmark", "wildcards": wildcards, "outputs": [output]}
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(sealed(record))


def verify(results: Path) -> None:
    findings = verify_results(results).findings
    assert not findings, findings[:3]


def hash_all(results: Path, sizes: dict[str, int]) -> dict[str, HashedFile]:
    state = HashingPass(results / PASS)
    hashed = hash_files(results, sizes, state)
    state.finish()
    return hashed


def cat(paths: list[Path]) -> None:
    """Run `cat FILES > /dev/null` with one process per core, each with every n-th file."""
    parts = [paths[core::CORES] for core in range(CORES)]
    names = [str(path) for part in parts for path in part]
    command = f"xargs -0 -P {CORES} -n {len(parts[0])} cat > /dev/null"
    subprocess.run(["sh", "-c", command], input="\0".join(names).encode(), check=True)


def hash_memory() -> None:
    """Hash data in memory with sha256 on all cores."""
    block = bytes(64_000_000)
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: sha256(block, usedforsecurity=False), range(MEMORY_BYTES // len(block))))


def blake3_seconds(python: str, paths: list[Path]) -> float:
    command = [python, "-c", BLAKE3, str(CORES)]
    return float(subprocess.check_output(command, input="\0".join(map(str, paths)), text=True))


def drop_caches() -> bool:
    os.sync()
    try:
        DROP.write_text("3\n")
    except OSError:
        return False
    return True


def cold_seconds(work: Callable[[], object]) -> float:
    drop_caches()
    return seconds(work)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_rounds(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure all variants alternately, in several rounds."""
    values: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            values[name].append(measure())
    return values


def print_table(rates: dict[str, list[float]]) -> None:
    """Print a table of bytes per second and of the ratio to `cat` by round."""
    print("| | median, GB/s | all, GB/s | median of the ratio to `cat` |\n| --- | ---: | --- | ---: |")
    for name, values in rates.items():
        listed = ", ".join(f"{value / 1e9:.2f}" for value in values)
        percent = 100 * ratio(values, rates["`cat`"])
        print(f"| {name} | {statistics.median(values) / 1e9:.2f} | {listed} | {percent:.0f} % |", flush=True)


def ratio(rates: list[float], bases: list[float]) -> float:
    """Median ratio of two series of measurements, round by round."""
    return statistics.median(own / base for own, base in zip(rates, bases))


if __name__ == "__main__":
    main()
