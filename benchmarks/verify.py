"""How fast `jointseg audit verify` hashes, against `cat` of the same files, and how fast 20,000 manifests are read.

    python benchmarks/verify.py results/synthetic > benchmarks/verify.md

Makes 10 GB of files with manifests in a temporary folder and removes them. Everything that is compared is measured
in turn, several times, in one run, so that other work on the machine falls on all alike.
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
ROOF_BYTES = 6_000_000_000
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
    parser.add_argument("results", type=Path, help="results folder of a run: the pattern of the manifests")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind (default: %(default)s)")
    parser.add_argument(
        "--blake3", metavar="PYTHON", help="an interpreter that has the package blake3, to compare with"
    )
    parser.add_argument("--folder", type=Path, help="where to make the files (default: the folder for temporary files)")
    given = parser.parse_args()
    pattern = json.loads(sorted(given.results.glob("manifests/predict/*/*.json"))[0].read_text())
    pattern.pop("seal", None)
    print(f"# Speed of an audit\n\n{__doc__.split(chr(10))[0]}\n")
    print(f"{processor()}, {CORES} cores, {platform.system()} {platform.release()}; ", end="")
    print(f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, ", end="")
    print(
        f"{subprocess.check_output(['cat', '--version'], text=True).splitlines()[0]}; load at the start {os.getloadavg()[0]:.1f}.\n"
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        hashing(Path(folder, "results"), pattern, given.rounds, given.blake3)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        manifests(Path(folder, "results"), pattern, given.rounds)


def hashing(results: Path, pattern: dict, rounds: int, blake3: str | None) -> None:
    """Measures and prints GB/s."""
    sizes = make_files(results)
    hashed = hash_all(results, sizes)
    write_manifests(results, pattern, {path: (sizes[path], each.sha256) for path, each in hashed.items()})
    total = sum(sizes.values())
    paths = [results / path for path in sizes]
    kinds: dict[str, Callable[[], float]] = {
        "`cat`": lambda: total / seconds(lambda: cat(paths)),
        "sha256 of bytes in memory: the roof": lambda: ROOF_BYTES / seconds(roof),
        "`jointseg audit verify`, all of it": lambda: total / seconds(lambda: verified(results)),
    }
    if blake3:
        version = subprocess.check_output([blake3, "-c", "import blake3; print(blake3.__version__)"], text=True).strip()
        kinds[f"BLAKE3 (package blake3 {version}), mapped files"] = lambda: total / blake3_seconds(blake3, paths)
    print(f"## From the page cache\n\n{total / 1e9:.1f} GB: {LARGE} files of {LARGE_BYTES / 1e6:.0f} MB and", end=" ")
    print(f"{SMALL} of {SMALL_BYTES / 1e3:.0f} kB; {CORES} threads or processes; {rounds} rounds, each of all.\n")
    found = measured(kinds, rounds)
    show(found)
    bases, tops, owns, *others = found.values()
    wanted = 0.8 * statistics.median(bases) / 1e9
    # A core that reads a block as `cat` does and then hashes it.
    both = [1 / (1 / base + 1 / top) for base, top in zip(bases, tops)]
    print(f"\nThe audit runs at {100 * ratio(owns, tops):.0f} % of what sha256 does on these cores, and at", end=" ")
    print(f"{100 * ratio(owns, both):.0f} % of what `cat` and then sha256 would. 80 % of `cat` would be", end=" ")
    print(f"{wanted:.1f} GB/s, sha256 alone does {statistics.median(tops) / 1e9:.1f}", end="")
    print(f" and BLAKE3 {statistics.median(others[0]) / 1e9:.1f}." if others else ".")
    cold = {path: size for path, size in sizes.items() if size == LARGE_BYTES}
    cold = dict(list(cold.items())[:COLD])
    if not drop_caches():
        print("\nCold reads were not measured: the page cache cannot be emptied here.")
        return
    amount = sum(cold.values())
    kinds = {
        "`cat`": lambda: amount / cold_seconds(lambda: cat([results / path for path in cold])),
        "hashing": lambda: amount / cold_seconds(lambda: hash_all(results, cold)),
    }
    print(f"\n## From disk\n\n{amount / 1e9:.1f} GB in {COLD} files, the page cache emptied before each measurement.\n")
    show(measured(kinds, rounds))


def manifests(results: Path, pattern: dict, rounds: int) -> None:
    """Measures and prints how long many manifests take."""
    made = {}
    for number in range(MANIFESTS):
        path, content = f"2021/{number:05d}.tif", str(number).encode()
        made[path] = (len(content), sha256(content).hexdigest())
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_bytes(content)
    write_manifests(results, pattern, made)
    size = next(results.glob("manifests/predict/2021/*.json")).stat().st_size
    kinds: dict[str, Callable[[], float]] = {
        "`audit.lineage.Lineage`": lambda: seconds(lambda: Lineage(results)),
        "`audit.verify.read_manifests`: hash, seal, content": lambda: seconds(
            lambda: read_manifests(results, Report(""))
        ),
        f"`jointseg audit verify`, with {MANIFESTS:,} small files": lambda: seconds(lambda: verified(results)),
    }
    print(f"\n## {MANIFESTS:,} manifests of {size} bytes\n\n| | median, s | all, s |\n| --- | ---: | --- |")
    for kind, found in measured(kinds, rounds).items():
        print(f"| {kind} | {statistics.median(found):.1f} | {', '.join(f'{each:.2f}' for each in found)} |")


def make_files(results: Path) -> dict[str, int]:
    """Files of bytes that differ, in the page cache and on the disk; sizes by path."""
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


def write_manifests(results: Path, pattern: dict, made: dict[str, tuple[int, str]]) -> None:
    """A manifest for every file, of the size of the pattern."""
    for path, (size, digest) in made.items():
        place = Path(path).with_suffix("")
        file = results / "manifests/isa" / f"{place}.json"
        output = {**pattern["outputs"][0], "path": f"made/{path}", "size": size, "sha256": digest}
        wildcards = dict(zip(("year", "tile"), place.parts))
        written = {**pattern, "results": "made", "wildcards": wildcards, "outputs": [output]}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sealed(written))


def verified(results: Path) -> None:
    findings = verify_results(results).findings
    assert not findings, findings[:3]


def hash_all(results: Path, sizes: dict[str, int]) -> dict[str, HashedFile]:
    done = HashingPass(results / PASS)
    hashed = hash_files(results, sizes, done)
    done.end()
    return hashed


def cat(paths: list[Path]) -> None:
    """`cat FILES > /dev/null`, one process a core, each with every n-th file."""
    shares = [paths[core::CORES] for core in range(CORES)]
    names = [str(path) for share in shares for path in share]
    command = f"xargs -0 -P {CORES} -n {len(shares[0])} cat > /dev/null"
    subprocess.run(["sh", "-c", command], input="\0".join(names).encode(), check=True)


def roof() -> None:
    """sha256 on all cores of bytes that are in memory already."""
    block = bytes(64_000_000)
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: sha256(block, usedforsecurity=False), range(ROOF_BYTES // len(block))))


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


def measured(kinds: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures every kind in turn, round after round."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, measure in kinds.items():
            found[kind].append(measure())
    return found


def show(found: dict[str, list[float]]) -> None:
    """A table of bytes per second, and of the ratio to `cat` round by round."""
    print("| | median, GB/s | all, GB/s | median of the ratio to `cat` |\n| --- | ---: | --- | ---: |")
    for kind, rates in found.items():
        told = ", ".join(f"{rate / 1e9:.2f}" for rate in rates)
        part = 100 * ratio(rates, found["`cat`"])
        print(f"| {kind} | {statistics.median(rates) / 1e9:.2f} | {told} | {part:.0f} % |", flush=True)


def ratio(rates: list[float], bases: list[float]) -> float:
    """Median of the ratios of measurements of the same round."""
    return statistics.median(own / base for own, base in zip(rates, bases))


if __name__ == "__main__":
    main()
