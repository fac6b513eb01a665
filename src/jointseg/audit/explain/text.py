"""The explanation of a pixel as text, a section for each thing that made it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jointseg.audit.explain.chips import Chip, Dataset, Reach
from jointseg.audit.explain.explainer import Explanation
from jointseg.audit.explain.jobs import Job
from jointseg.audit.explain.networks import Checkpoint
from jointseg.audit.explain.pixel import CompositePixel
from jointseg.run.console import text_console

HASH_DIGITS = 12
# Product names and paths stay in one piece, so that they can be searched for and copied.
TEXT_WIDTH = 500
# A rule with more jobs behind a pixel than this gets one line for all of them.
MANY_JOBS = 30


def print_explanation(told: Explanation, console: Console | None = None) -> None:
    """Prints an explanation for people."""
    console = console or text_console(TEXT_WIDTH)
    _pixel(console, told)
    _windows(console, told)
    _composite(console, told.composite)
    _checkpoints(console, told.checkpoints)
    for dataset in told.datasets:
        _chips(console, dataset)
    _labels(console, told)
    _software(console, told.jobs)
    _ancestry(console, told.jobs)
    _doubts(console, told)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold underline"))


def _rows(console: Console, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console.print(table)


def _facts(console: Console, facts: dict[str, object]) -> None:
    """Names and what they are, a line each; None is left out."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value is not None:
            console.print(Text(f"{name:<{width}}  {value}"))


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _pixel(console: Console, told: Explanation) -> None:
    pixel = told.pixel
    console.print(Text(f"{pixel.value}, {pixel.year}", style="bold"))
    because = f" because {pixel.nodata_reason}" if pixel.nodata_reason else ""
    _facts(
        console,
        {
            "value": f"{pixel.isa} ({pixel.value}){because}",
            "place": pixel.degrees,
            "UTM": f"zone {pixel.zone} (EPSG:{pixel.epsg}), {pixel.x:.1f} E, {pixel.y:.1f} N",
            "tile": pixel.tile,
            "1 m pixel": f"row {pixel.row}, col {pixel.col}",
            "10 m pixel": f"row {pixel.row_10m}, col {pixel.col_10m}",
            "reach": _names(pixel.reaches) + ("" if pixel.reaches else f" (its tile: {_names(pixel.tile_reaches)})"),
            "city": _names(pixel.cities) + ("" if pixel.cities else f" (its tile: {_names(pixel.tile_cities)})"),
            "map": told.map,
        },
    )


def _windows(console: Console, told: Explanation) -> None:
    _section(
        console, f"Windows that hold the pixel: {len(told.windows)}; impervious from a score of {told.threshold:g} on"
    )
    rows = []
    for window in told.windows:
        west, south, east, north = window.bounds
        rows.append(
            (f"{window.weight:.6f}", f"{west}-{east}", f"{south}-{north}", window.row, window.col, *window.tiles)
        )
    most = max((len(window.tiles) for window in told.windows), default=0)
    columns = ["weight", "easting, m", "northing, m", "row", "col", "composites read"]
    _rows(console, columns + [""] * (most - 1), [(*row, *[""] * (5 + most - len(row))) for row in rows])


def _composite(console: Console, made: CompositePixel) -> None:
    _section(console, f"Composite: {made.method} of {made.clear} clear of {len(made.observations)} scenes")
    again = {True: "the scenes, read again, give these values", False: "the scenes, read again, give OTHER values"}
    reference = made.reference
    _facts(
        console,
        {
            "values": _values(made.values),
            "file": made.path,
            "sha256": made.sha256,
            "clear is": f"no class of {made.scl_mask_classes} nor within {made.mask_dilation_m:g} m of one; at least {made.min_clear_observations}",
            "taken": made.selected,
            "checked": f"no: {made.read_error}" if made.reproduced is None else again[made.reproduced],
            "reference": reference and f"{reference.path} ({_values(reference.values)})",
        },
    )
    bands = list(made.values)
    rows = []
    for look in made.observations:
        mark = {True: "clear", False: "not clear", None: "?"}[look.clear] + (", taken" if look.selected else "")
        shift = f"{look.shift['x_m']:+.2f} {look.shift['y_m']:+.2f}" if look.shift and look.shift["usable"] else None
        values = [None if look.values is None else look.values[name] for name in bands]
        when = (look.datetime or "unknown").replace("T", " ").removesuffix("Z")
        rows.append((look.number, when, mark, look.detail, *values, shift, look.relative_orbit, look.baseline, look.id))
    console.print()
    _rows(console, ("", "time, UTC", "look", "why", *bands, "shift, m", "orbit", "baseline", "product"), rows)
    lines = [(look.number, look.lines) for look in made.observations if look.lines]
    if lines:
        console.print()
        console.print("lines that brought the scenes to the reference" if reference else "haze taken off the scenes")
        shown = [
            [f"{line['gain']:.4f} x {line['offset_dn']:+.1f} ({line['kind']})" for line in each] for _, each in lines
        ]
        _rows(console, ("", *bands), [(number, *each) for (number, _), each in zip(lines, shown)])


def _values(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _checkpoints(console: Console, checkpoints: Sequence[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        _section(console, f"Network: {checkpoint.name}")
        agrees = {True: "agrees", False: "DOES NOT AGREE any more", None: None}[checkpoint.agrees]
        _facts(
            console,
            {
                "file": checkpoint.path,
                "sha256": checkpoint.sha256,
                "made by": f"{checkpoint.producer} of {checkpoint.run}"
                if checkpoint.producer
                else "no job that is known here",
                "manifest": agrees,
                "header": checkpoint.trained,
            },
        )
        if checkpoint.trainings:
            console.print()
        _rows(
            console,
            ("training behind it", "steps", "seed", "threads", "device", "took", "finished"),
            [
                (each.job, each.steps, each.seed, each.threads, each.device, _took(each.seconds), each.finished)
                for each in checkpoint.trainings
            ],
        )


def _chips(console: Console, dataset: Dataset) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
    _section(console, f"Chips the networks were trained on: {counts}")
    covering = ", ".join(f"{chip.sample_id} ({chip.split})" for chip in dataset.covering)
    _facts(
        console,
        {
            "index": dataset.path,
            "sha256": dataset.sha256,
            "over the pixel": covering or "none",
            **{f"nearest {split}": _distances(chips) for split, chips in dataset.nearest.items()},
        },
    )


def _distances(chips: Sequence[Chip]) -> str:
    return ", ".join(f"{chip.sample_id} {_metres(chip.distance_m)}" for chip in chips) or "none"


def _metres(distance_m: float) -> str:
    if distance_m == 0:
        return "(holds it)"
    return f"{distance_m:,.0f} m" if distance_m < 100_000 else f"{distance_m / 1000:,.0f} km"


def _labels(console: Console, told: Explanation) -> None:
    if told.datasets and not told.reaches:
        _section(console, "Jilin-1 scenes and labels")
        console.print(f"none: the networks were trained in {_names(told.trained_in)}")
    for reach in told.reaches:
        _reach(console, reach)


def _reach(console: Console, reach: Reach) -> None:
    _section(console, f"Jilin-1 scenes and labels of {reach.reach}")
    statuses = ", ".join(f"{count} {status}" for status, count in reach.statuses.items())
    _facts(
        console,
        {
            "samples": statuses,
            "labels": ", ".join(f"{count} {kind}" for kind, count in reach.polygons.items()) or "none",
            "not paired": ", ".join(reach.skipped) or None,
        },
    )
    console.print()
    pairs = [
        (
            pair.sample_id,
            _metres(pair.distance_m),
            pair.date,
            f"{pair.registration_correlation:.3f}",
            f"{pair.shift_m[0]:+.2f} {pair.shift_m[1]:+.2f}",
            pair.scene,
        )
        for pair in reach.pairs
    ]
    _rows(console, ("nearest pair", "off", "time, UTC", "correlation", "shift, m", "Jilin-1 scene"), pairs)
    others = [scene for scene in reach.scenes if scene not in {pair.scene for pair in reach.pairs}]
    for scene in others:
        console.print(Text(f"also in the reach: {scene}"))
    console.print()
    sources = [(each.name, each.sha256[:HASH_DIGITS], f"{each.size:,}", each.path) for each in reach.sources]
    _rows(console, ("label source", "sha256", "bytes", "path"), sources)


def _software(console: Console, jobs: Sequence[Job]) -> None:
    mapped = jobs[0]
    _section(console, f"The job that mapped it: {mapped.name}")
    _facts(
        console,
        {
            "time": f"{mapped.started} to {mapped.finished}, {_took(mapped.seconds)}",
            "where": f"{mapped.user}@{mapped.host}",
            "device": f"{mapped.gpu or mapped.processor}, {mapped.cpus} CPUs, torch threads: {mapped.torch_threads}",
            "commit": _commit(mapped, whole=True),
            "code": mapped.code,
            "lock file": mapped.lock,
            "packages": ", ".join(f"{name} {version}" for name, version in mapped.versions.items()),
        },
    )


def _ancestry(console: Console, jobs: Sequence[Job]) -> None:
    _section(console, f"Jobs behind the pixel: {len(jobs)}, nearest first")
    several = len({job.run for job in jobs}) > 1
    count = Counter((job.run, job.rule) for job in jobs)
    rows, told = [], set()
    for job in jobs:
        key = (job.run, job.rule)
        if count[key] <= MANY_JOBS:
            rows.append(_line([job], job.name))
        elif key not in told:
            told.add(key)
            rows.append(
                _line([each for each in jobs if (each.run, each.rule) == key], f"{job.rule}: {count[key]} jobs")
            )
    columns = ("job", "finished", "took", "commit", "code", "lock", "device", "where", *(("run",) if several else ()))
    _rows(console, columns, [row if several else row[:-1] for row in rows])


def _line(jobs: Sequence[Job], name: str) -> tuple[str, ...]:
    """What a line of the ancestry tells of jobs of one rule."""
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    each = (
        {job.finished or "" for job in jobs},
        {_commit(job) for job in jobs},
        {job.code[:HASH_DIGITS] for job in jobs},
        {(job.lock or "")[:HASH_DIGITS] for job in jobs},
        {job.gpu or job.processor or "" for job in jobs},
        {f"{job.user}@{job.host}" for job in jobs},
    )
    finished, *others = (max(values) if number == 0 else "/".join(sorted(values)) for number, values in enumerate(each))
    return name, finished, _took(sum(seconds) if seconds else None), *others, jobs[0].run


def _commit(job: Job, whole: bool = False) -> str:
    if job.commit is None:
        return "unknown"
    return (job.commit if whole else job.commit[:HASH_DIGITS]) + (" and changes to it" if job.dirty else "")


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"


def _doubts(console: Console, told: Explanation) -> None:
    for note in told.notes:
        console.print()
        console.print(Text(f"note: {note}"))
    if not told.disagreements:
        console.print()
        console.print("every input is what its maker's manifest says, and every file read here is what was taken")
        return
    _section(console, f"Does not agree: {len(told.disagreements)}")
    _rows(console, ("job", "file", "how"), [(each.job, each.path, each.detail) for each in told.disagreements])
