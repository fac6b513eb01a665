"""Accuracy by window size of inference, on validation chips, so that the choice does not depend on the test chips.

    python benchmarks/window_size.py results/synthetic > benchmarks/window_size.md

Every window size predicts the same validation chips with the same checkpoints. The difference from the first size is
paired by chip; its interval uses the estimators of `jointseg.accuracy`. Times are of one CPU thread.
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
    arguments = parser.parse_args()
    index = gpd.read_parquet(arguments.results / "dataset/index.parquet")
    index = index[index["split"] == "validation"]
    print(f"# Window size of inference\n\n{__doc__.split(chr(10))[0]}\n")
    print(f"`{arguments.results}`: {len(index)} validation chips; {processor()}, ", end="")
    print(f"torch {version('torch')}, Python {platform.python_version()}.\n")
    print(
        "| window/stride, m | F1, % | 95 % CI | difference (pp) | 95 % CI | s per chip |\n| ---: | ---: | --- | ---: | --- | ---: |"
    )
    first = None
    for window in arguments.windows:
        started = time.process_time()
        cells = count(arguments.results, index, *map(int, window.split("/")))
        seconds = (time.process_time() - started) / len(index)
        first = cells if first is None else first
        score = estimate(cells, index, cluster_estimators.f1)
        difference = estimate(
            np.hstack([cells, first]), index, cluster_estimators.metric_difference(cluster_estimators.f1)
        )
        print(
            f"| {window} | {100 * score.value:.2f} | {100 * score.lower:.2f} to {100 * score.upper:.2f} "
            f"| {100 * difference.value:+.2f} | {100 * difference.lower:+.2f} to {100 * difference.upper:+.2f} | {seconds:.2f} |",
            flush=True,
        )


def count(results: Path, index: gpd.GeoDataFrame, window_m: int, stride_m: int) -> np.ndarray:
    """Return the confusion matrix of every chip, int64 [chips, 4]."""
    with tempfile.TemporaryDirectory() as folder:
        # The step predicts only the chips of split "test".
        copy, predictions = Path(folder, "index.parquet"), Path(folder, "predictions")
        index.assign(split="test").to_parquet(copy)
        predict_chips(
            index=copy,
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
