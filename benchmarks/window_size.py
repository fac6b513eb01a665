"""Window size of inference against accuracy on *validation* chips, so that test chips stay untouched by the choice.

    python benchmarks/window_size.py results/synthetic > benchmarks/window_size.md

Every window size maps the same validation chips with the same checkpoints; the difference to the first size is
paired by chip, with its interval by the estimators of the accuracy chapter. Seconds are of one CPU thread.
"""

import argparse
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import numpy as np

from jointseg.accuracy import cluster_estimators
from jointseg.inference.predict_chips import predict_chips
from jointseg.provenance.machine import processor
from jointseg.raster import io as raster_io

WINDOWS = ["320/280", "320/300", "480/440", "640/560", "640/600", "960/840"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results folder of a run with dataset and checkpoints")
    parser.add_argument("--windows", nargs="+", default=WINDOWS, metavar="SIDE/STRIDE", help="m (default: %(default)s)")
    given = parser.parse_args()
    index = gpd.read_parquet(given.results / "dataset/index.parquet")
    index = index[index["split"] == "validation"]
    print(f"# Window size of inference\n\n{__doc__.split(chr(10))[0]}\n")
    print(f"`{given.results}`: {len(index)} validation chips; {processor()}, ", end="")
    print(f"torch {version('torch')}, Python {platform.python_version()}.\n")
    print(
        "| window/stride, m | F1, % | 95 % | minus first | 95 % | s a chip |\n| ---: | ---: | --- | ---: | --- | ---: |"
    )
    first = None
    for window in given.windows:
        started = time.process_time()
        cells = counted(given.results, index, *map(int, window.split("/")))
        seconds = (time.process_time() - started) / len(index)
        first = cells if first is None else first
        own = estimate(cells, index, cluster_estimators.f1)
        gap = estimate(np.hstack([cells, first]), index, cluster_estimators.metric_difference(cluster_estimators.f1))
        print(
            f"| {window} | {100 * own.value:.2f} | {100 * own.lower:.2f} to {100 * own.upper:.2f} "
            f"| {100 * gap.value:+.2f} | {100 * gap.lower:+.2f} to {100 * gap.upper:+.2f} | {seconds:.2f} |",
            flush=True,
        )


def counted(results: Path, index: gpd.GeoDataFrame, window_m: int, stride_m: int) -> np.ndarray:
    """Cells of the confusion matrix of every chip, float [chips, 4]."""
    with tempfile.TemporaryDirectory() as folder:
        # The step maps the chips that the index calls test.
        listed, predictions = Path(folder, "index.parquet"), Path(folder, "predictions")
        index.assign(split="test").to_parquet(listed)
        predict_chips(
            index=listed,
            composites=sorted((results / "sentinel2/composites/2021").glob("*.tif")),
            segmentation=results / "segmentation/superres.safetensors",
            superres=results / "superres/adversarial.safetensors",
            predictions=predictions,
            method="superres",
            window_m=window_m,
            stride_m=stride_m,
            batch=2,
            threads=1,
        )
        return np.array(
            [
                cluster_estimators.confusion_counts(
                    raster_io.read(predictions / f"{chip.sample_id}.tif")[0][0],
                    raster_io.read(results / "dataset/chips" / chip.label)[0][0],
                )[:4]
                for chip in index.itertuples()
            ]
        )


def estimate(
    counts: np.ndarray, index: gpd.GeoDataFrame, metric: cluster_estimators.Metric
) -> cluster_estimators.Estimate:
    weights = 1 / index["inclusion_probability"].to_numpy()
    return cluster_estimators.linearised_estimate(counts, weights, index["reach"].to_numpy(), metric)


if __name__ == "__main__":
    main()
