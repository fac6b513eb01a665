"""The layers of the package from the bottom up; a package imports only from layers below its own."""

LAYERS: list[tuple[tuple[str, ...], str]] = [
    (("runtime",), "errors, progress, templates, process pools, object store, job status"),
    (("raster",), "windows, validity, block-aligned COGs, mosaics, resampling, rendering"),
    (("config", "models"), "validated configuration; networks and checkpoints in pure torch"),
    (("area",), "tile grid, 10 m and 1 m pixel lattices, study area, reaches, cities"),
    (
        ("sentinel2", "synthetic", "provenance"),
        "scenes and composites; the synthetic scene; manifests, digests, releases",
    ),
    (("dataset", "inference", "run"), "ISASeg; 1-m mapping; steps, locks, status, plan"),
    (("training", "textures", "accuracy"), "trainings; real textures with simulated Sentinel-2; estimators"),
    (("audit", "ablation", "report"), "verify, explain, outdated, diff, replay; ablation; HTML report"),
    (("viewer",), "map viewer"),
    (("cli",), "one module per command"),
]
