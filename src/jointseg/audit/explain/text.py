"""An explanation of a pixel as text, with one section per kind of information."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from jointseg.audit.explain.chips import Dataset, Reach
from jointseg.audit.explain.explainer import Explanation
from jointseg.audit.explain.jobs import Job
from jointseg.audit.explain.networks import Checkpoint
from jointseg.audit.explain.pixel import CompositePixel
from jointseg.run.console import text_console, text_table

HASH_DIGITS = 12
TEXT_WIDTH = 500  # product names and paths are not wrapped
MAX_JOBS_PER_RULE = 30  # more jobs of a rule are summarised in one line


def print_explanation(explanation: Explanation, console: Console | None = None) -> None:
    """Print an explanation as text."""
    console = console or text_console(TEXT_WIDTH)
    _pixel(console, explanation)
    _windows(console, explanation)
    _composite(console, explanation.composite)
    for checkpoint in explanation.checkpoints:
        _checkpoint(console, checkpoint)
    for dataset in explanation.datasets:
        _chips(console, dataset)
    _labels(console, explanation)
    _map_job(console, explanation.jobs[0])
    _ancestors(console, explanation.jobs)
    _disagreements(console, explanation)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold underline"))


def _table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = text_table(*columns)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console.print(table)


def _properties(console: Console, properties: Mapping[str, object]) -> None:
    """Print one line per property, without those that are None."""
    width = max(len(name) for name in properties)
    for name, value in properties.items():
        if value is not None:
            console.print(Text(f"{name:<{width}}  {value}"))


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _pixel(console: Console, explanation: Explanation) -> None:
    pixel = explanation.pixel
    console.print(Text(f"{pixel.value}, {pixel.year}", style="bold"))
    reason = f": {pixel.nodata_reason}" if pixel.nodata_reason else ""
    reaches, cities = (
        _joined(own) if own else f"none (in the tile: {_joined(of_tile)})"
        for own, of_tile in ((pixel.reaches, pixel.tile_reaches), (pixel.cities, pixel.tile_cities))
    )
    properties = {
        "value": f"{pixel.isa} ({pixel.value}){reason}",
        "location": pixel.degrees,
        "UTM": f"zone {pixel.zone} (EPSG:{pixel.epsg}), {pixel.x:.1f} E, {pixel.y:.1f} N",
        "tile": pixel.tile,
        "1 m pixel": f"row {pixel.row}, col {pixel.col}",
        "10 m pixel": f"row {pixel.row_10m}, col {pixel.col_10m}",
        "reach": reaches,
        "city": cities,
        "map": explanation.map,
    }
    _properties(console, properties)


def _windows(console: Console, explanation: Explanation) -> None:
    title = f"Inference windows: {len(explanation.windows)}; impervious if the score is at least"
    _section(console, f"{title} {explanation.threshold:g}")
    rows = []
    for window in explanation.windows:
        west, south, east, north = window.bounds
        position = (f"{west}-{east}", f"{south}-{north}", window.row, window.col)
        rows.append((f"{window.weight:.6f}", *position, ", ".join(window.tiles)))
    _table(console, ("weight", "easting, m", "northing, m", "row", "col", "composites of tiles"), rows)


def _composite(console: Console, pixel: CompositePixel) -> None:
    _section(console, f"Composite: {pixel.method}, {pixel.clear} of {len(pixel.observations)} observations clear")
    checked = {True: "the scenes give the same values", False: "the scenes give DIFFERENT values"}
    reference = pixel.reference
    properties = {
        "values": _values(pixel.values),
        "file": pixel.path,
        "sha256": pixel.sha256,
        "cloud mask": f"classes {pixel.scl_mask_classes}, dilated by {pixel.mask_dilation_m:g} m; "
        f"at least {pixel.min_clear_observations} clear observations",
        "selected": pixel.selected,
        "checked": f"no: {pixel.read_error}" if pixel.reproduced is None else checked[pixel.reproduced],
        "reference": reference and f"{reference.path} ({_values(reference.values)})",
    }
    _properties(console, properties)
    console.print()
    _observations(console, pixel)
    lines = [(each.number, each.lines) for each in pixel.observations if each.lines]
    if lines:
        console.print("\nnormalisation to the reference" if reference else "\ndark object subtraction")
        rows = [
            (number, *(f"{line['gain']:.4f} x {line['offset_dn']:+.1f} ({line['kind']})" for line in of_scene))
            for number, of_scene in lines
        ]
        _table(console, ("", *pixel.values), rows)


def _observations(console: Console, pixel: CompositePixel) -> None:
    rows = []
    for each in pixel.observations:
        status = {True: "clear", False: "not clear", None: "?"}[each.clear] + (", selected" if each.selected else "")
        shift = f"{each.shift['x_m']:+.2f} {each.shift['y_m']:+.2f}" if each.shift and each.shift["usable"] else None
        values = [None if each.values is None else each.values[band] for band in pixel.values]
        time = (each.datetime or "unknown").replace("T", " ").removesuffix("Z")
        acquisition = (shift, each.relative_orbit, each.baseline, each.id)
        rows.append((each.number, time, status, each.detail, *values, *acquisition))
    columns = ("", "time, UTC", "status", "detail", *pixel.values, "shift, m", "orbit", "baseline", "product")
    _table(console, columns, rows)


def _values(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _checkpoint(console: Console, checkpoint: Checkpoint) -> None:
    _section(console, f"Network: {checkpoint.name}")
    matches = {True: "checksum matches", False: "checksum does NOT match", None: None}[checkpoint.matches]
    properties = {
        "file": checkpoint.path,
        "sha256": checkpoint.sha256,
        "produced by": f"{checkpoint.producer} of {checkpoint.run}" if checkpoint.producer else "external",
        "manifest": matches,
        "header": checkpoint.trained,
    }
    _properties(console, properties)
    if checkpoint.trainings:
        console.print()
    rows = [
        (each.job, each.steps, each.seed, each.threads, each.device, _duration(each.seconds), each.finished)
        for each in checkpoint.trainings
    ]
    _table(console, ("training job", "steps", "seed", "threads", "device", "duration", "finished"), rows)


def _chips(console: Console, dataset: Dataset) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
    _section(console, f"Training chips: {counts}")
    properties = {
        "index": dataset.path,
        "sha256": dataset.sha256,
        "at the pixel": _joined(f"{chip.sample_id} ({chip.split})" for chip in dataset.covering),
        **{
            f"nearest {split}": _joined(f"{chip.sample_id} {_distance(chip.distance_m)}" for chip in chips)
            for split, chips in dataset.nearest.items()
        },
    }
    _properties(console, properties)


def _distance(distance_m: float) -> str:
    if distance_m == 0:
        return "(contains it)"
    return f"{distance_m:,.0f} m" if distance_m < 100_000 else f"{distance_m / 1000:,.0f} km"


def _labels(console: Console, explanation: Explanation) -> None:
    if explanation.datasets and not explanation.reaches:
        _section(console, "Jilin-1 scenes and labels")
        console.print(f"none: the networks were trained in {_joined(explanation.trained_in)}")
    for reach in explanation.reaches:
        _reach(console, reach)


def _reach(console: Console, reach: Reach) -> None:
    _section(console, f"Jilin-1 scenes and labels of {reach.reach}")
    properties = {
        "samples": ", ".join(f"{count} {status}" for status, count in reach.statuses.items()),
        "labels": _joined(f"{count} {kind}" for kind, count in reach.polygons.items()),
        "not paired": ", ".join(reach.skipped) or None,
    }
    _properties(console, properties)
    console.print()
    pairs = []
    for pair in reach.pairs:
        quality = f"{pair.registration_correlation:.3f}", f"{pair.shift_m[0]:+.2f} {pair.shift_m[1]:+.2f}"
        pairs.append((pair.sample_id, _distance(pair.distance_m), pair.date, *quality, pair.scene))
    _table(console, ("nearest pair", "distance", "time, UTC", "correlation", "shift, m", "Jilin-1 scene"), pairs)
    paired = {pair.scene for pair in reach.pairs}
    for scene in (scene for scene in reach.scenes if scene not in paired):
        console.print(Text(f"other scene of the reach: {scene}"))
    console.print()
    sources = [(each.name, each.sha256[:HASH_DIGITS], f"{each.size:,}", each.path) for each in reach.sources]
    _table(console, ("label source", "sha256", "bytes", "path"), sources)


def _map_job(console: Console, job: Job) -> None:
    _section(console, f"Job of the map: {job.name}")
    properties = {
        "time": f"{job.started} to {job.finished}, {_duration(job.seconds)}",
        "host": f"{job.user}@{job.host}",
        "device": f"{job.gpu or job.processor}, {job.cpus} CPUs, torch threads: {job.torch_threads}",
        "commit": _commit(job),
        "code": job.code,
        "lock file": job.lock,
        "packages": ", ".join(f"{name} {version}" for name, version in job.versions.items()),
    }
    _properties(console, properties)


def _ancestors(console: Console, jobs: Sequence[Job]) -> None:
    _section(console, f"Jobs that the pixel depends on: {len(jobs)}, nearest first")
    counts = Counter((job.run, job.rule) for job in jobs)
    rows, summarised = [], set()
    for job in jobs:
        key = (job.run, job.rule)
        if counts[key] <= MAX_JOBS_PER_RULE:
            rows.append(_job_row([job], job.name))
        elif key not in summarised:
            summarised.add(key)
            of_rule = [each for each in jobs if (each.run, each.rule) == key]
            rows.append(_job_row(of_rule, f"{job.rule}: {counts[key]} jobs"))
    columns = ("job", "finished", "duration", "commit", "code", "lock", "device", "host", "run")
    shown = len(columns) if len({job.run for job in jobs}) > 1 else len(columns) - 1
    _table(console, columns[:shown], [row[:shown] for row in rows])


def _job_row(jobs: Sequence[Job], name: str) -> tuple[str, ...]:
    """A table row for jobs of one rule."""
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    distinct = (
        {_commit(job, HASH_DIGITS) for job in jobs},
        {job.code[:HASH_DIGITS] for job in jobs},
        {(job.lock or "")[:HASH_DIGITS] for job in jobs},
        {job.gpu or job.processor or "" for job in jobs},
        {f"{job.user}@{job.host}" for job in jobs},
    )
    finished = max(job.finished or "" for job in jobs)
    duration = _duration(sum(seconds) if seconds else None)
    return name, finished, duration, *("/".join(sorted(values)) for values in distinct), jobs[0].run


def _commit(job: Job, digits: int = 40) -> str:
    if job.commit is None:
        return "unknown"
    return job.commit[:digits] + (" with changes" if job.dirty else "")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"


def _disagreements(console: Console, explanation: Explanation) -> None:
    for note in explanation.notes:
        console.print(Text(f"\nnote: {note}"))
    console.print()
    if not explanation.disagreements:
        console.print("all inputs match the manifests of their producers, and all files match their checksums")
        return
    console.print(Text(f"Disagreements: {len(explanation.disagreements)}", style="bold underline"))
    rows = [(each.job, each.path, each.detail) for each in explanation.disagreements]
    _table(console, ("job", "file", "detail"), rows)
