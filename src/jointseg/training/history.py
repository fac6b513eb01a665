"""Training history: losses and validation metrics by step."""

import csv
from pathlib import Path

from jointseg.runtime.files import atomic_write


class History:
    """Metrics by step, written as CSV with one column per metric (empty where a step has no value)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, step: int, **metrics: float) -> None:
        self.rows.append({"step": step, **{name: float(value) for name, value in metrics.items()}})

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Return (steps, values) of one metric."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row if name != "step"))

    def write(self, path: Path) -> None:
        with atomic_write(path) as part, part.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *self.names])
            for row in self.rows:
                values = (f"{row[name]:.6g}" if name in row else "" for name in self.names)
                writer.writerow([int(row["step"]), *values])
