"""Small inputs of the report."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from matplotlib.figure import Figure
from shapely.geometry import box
from support import accuracy_sample as sample_data

from jointseg.accuracy.assess import assess


def manifest(rule: str, step: str, inputs: dict[str, str], outputs: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a manifest with files as path -> checksum."""
    return {
        "rule": rule,
        "wildcards": {},
        "step": f"jointseg.{step}:{rule}",
        "inputs": [{"name": "source", "path": path, "sha256": sha, "size": 1} for path, sha in inputs.items()],
        "outputs": [{"name": "output", "path": path, "sha256": sha, "size": 1000} for path, sha in outputs.items()],
        "code": "c0de" * 16,
        "commit": "abc" * 13,
        "dirty": False,
        "versions": {"torch": "2.13.0", "python": "3.11.7", "other": "1"},
        "device": {"processor": "A processor"},
        "started": "2026-01-01T00:00:00Z",
        **more,
    }


SAMPLES_FACTS = {
    "gap_m": 3010,
    "window_m": 40,
    "pitch_m": 3040,
    "strata": [
        {
            "stratum": "upstream/2",
            "reach": "upstream",
            "area_km2": 12345.6,
            "candidates": 123,
            "wanted": 60,
            "allocated": 50,
            "replacements": 25,
            "replacements_wanted": 30,
            "inclusion_probability": 0.0180123,
        }
    ],
}
HISTORIES = {
    "superres/stage1.csv": ["step,l1_2.5m,psnr_2.5m,bilinear_2.5m", "10,0.4,30,30.5", "20,0.3,31,30.5"],
    "superres/stage2.csv": [
        "step,l1_1m,l1_2.5m,psnr_2.5m,bilinear_2.5m,psnr_1m,bilinear_1m",
        "10,,0.4,30,30,28,27",
        "20,0.3,0.3,31,30,29,27",
    ],
    "segmentation/bilinear.csv": [
        "step,loss,rate,validation_f1,validation_iou",
        "10,40,0.1,0.5,0.4",
        "20,30,0.1,0.6,0.5",
    ],
}
RECORDS = [
    manifest("samples", "dataset.sampling", {"area.gpkg": "a"}, {"r/samples": "b"}, facts=SAMPLES_FACTS),
    manifest("chips", "dataset.chips", {"r/samples": "b"}, {"r/chips": "d"}),
    manifest("superres_stage1", "training.superres", {"r/chips": "d"}, {"r/s1.safetensors": "e"}, facts={"loss": 0.5}),
    manifest("predict", "inference.predict", {"r/s1.safetensors": "e", "w/seg.safetensors": "f"}, {"r/isa": "g"}),
]
# Outputs of step `growth`: city A has points, B has none.
GROWTH = {
    "growth": [
        "city,reach,year,isa_km2,non_isa_km2,nodata_km2,percent_per_year,growth,growth_confidence,drift,estimated_km2,"
        "estimated_km2_lower,estimated_km2_upper,points,users,users_lower,users_upper,producers,producers_lower,producers_upper",
        "A,up,2019,1,2,0,,rapid,0.93,0.004,1.2,1.1,1.3,300,0.9,0.8,1.02,0.7,0.6,0.8",
        "A,up,2021,2,1,0,40,rapid,0.93,,2.2,2.1,2.3,300,0.9,0.8,1,0.7,0.6,0.8",
        "B,up,2019,1,2,0.5,,moderate,,,,,,,,,,,,",
        "B,up,2021,1,2,0,0,moderate,,,,,,,,,,,,",
    ],
    "changes": [
        "city,first,last,mapped_gain_km2,mapped_loss_km2,gain_km2,gain_km2_lower,gain_km2_upper,loss_km2,loss_km2_lower,"
        "loss_km2_upper,growth_km2,growth_km2_lower,growth_km2_upper,yearly_percent,yearly_percent_lower,yearly_percent_upper,"
        "gain_users,gain_users_lower,gain_users_upper,gain_producers,gain_producers_lower,gain_producers_upper,points",
        "A,2019,2021,1.1,0.1,1,0.9,1.1,0,0,0,1,0.9,1.1,35.4,30,41,0.5,0.4,0.6,,,,300",
        "B,2019,2021,0.2,0.2,,,,,,,,,,,,,,,,,,,",
    ],
    "zones": [
        "zone,name,first,last,valid_km2,isa_km2,gain_km2,loss_km2,city",
        "ring,0-2 km,2019,2021,2,0.5,0.25,0,A",
        "district,North,2019,2021,4,0.5,0.25,0.1,A",
    ],
}
# Output of step `compare_products`: the truth has no product pixels and is not assessed at points.
COMPARISON = [
    "city,reach,year,name,product_year,both_km2,map_only_km2,product_only_km2,neither_km2,product_nodata_km2,agreement_f1,pixels,"
    "fraction_mae,fraction_bias,fraction_r,pixel_f1,points,users,users_lower,users_upper,producers,producers_lower,producers_upper,f1,"
    "f1_lower,f1_upper,f1_difference,f1_difference_lower,f1_difference_upper",
    "Town,up,2021,cover,2020,1,0.5,0.25,3,0.1,0.7,900,0.1,-0.02,0.8,0.9,300,0.9,0.8,1,0.7,0.6,0.8,0.8,0.7,0.9,0.12,0.08,0.16",
    "Town,up,2021,truth,2021,1,0.5,0.25,3,0,0.7,,,,,,,,,,,,,,,,,,",
]
# Outputs of step `composite_quality`: the map year has no drift.
QUALITY_COLUMNS = (
    "tile,level,pixels,valid_fraction,padded_fraction,clear_p10,clear_median,clear_max,nodata_areas,largest_nodata_km2,"
    "scenes,registered,unregistered,unregistered_scenes,shift_median_m,shift_max_m,compared_pixels,residual_B04,residual_B03,"
    "drift_B04,drift_B03,spread_B04,spread_B03"
)
QUALITY = {
    2019: [
        "50N_E0660_N3540,L1C,900,0.9876,0.025,3,7,12,2,0.42,9,7,2,S2A_x S2B_y,4.25,11.5,880,0.004,0.003,-0.0012,0,0.002,0.001",
        "50N_E0690_N3540,L1C,900,1.0,,4,9,12,0,,8,8,0,,1.0,2.0,880,0.004,0.003,-0.0012,0,0.002,0.001",
        "all,L1C,1800,0.9938,0.0125,3,8,12,2,0.42,17,15,2,S2A_x S2B_y,3.25,11.5,1760,0.004,0.003,-0.0012,0,0.002,0.001",
    ],
    2021: [
        "50N_E0660_N3540,L2A,900,1.0,,6,10,12,0,,14,,,,,,,,,,,,",
        "all,L2A,900,1.0,,6,10,12,0,,14,,,,,,,,,,,,",
    ],
}


def _write_maps(folder: Path) -> None:
    plane = np.zeros((400, 400), dtype=np.uint8)
    plane[:200, :100], plane[300:] = 1, 255
    rgb = np.random.default_rng(1).integers(300, 3000, (3, 40, 40), dtype=np.uint16)
    north = sample_data.SOUTH + 400
    for i, tile in enumerate(("a", "b")):
        west = sample_data.WEST + 400 * i
        sample_data.write(folder / "composites" / "2021" / f"{tile}.tif", rgb, west, north, 10)
        sample_data.write(folder / "isa" / "2021" / f"{tile}.tif", plane, west, north, nodata=255)


def _write_sample(folder: Path, index: Path) -> None:
    centres = gpd.read_parquet(index).assign(replacement=[False] * 6 + [True] * 2)
    centres.set_geometry(centres.geometry.representative_point()).to_parquet(folder / "samples.parquet")
    reach = gpd.GeoDataFrame({"name": ["upstream"]}, geometry=[box(118.6, 31.9, 118.8, 32.1)], crs=4326)
    reach.to_file(folder / "area.gpkg", layer="reaches")


def _write_tables_and_pictures(folder: Path) -> None:
    Figure((1, 1)).savefig(folder / "panel.png")
    (folder / "scene.png").write_bytes((folder / "panel.png").read_bytes())
    for name, lines in HISTORIES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n")
    for name, lines in {**GROWTH, "Town": COMPARISON}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "Town").mkdir()
    for name in ("cover", "truth"):
        (folder / "Town" / f"2021_{name}.png").write_bytes((folder / "panel.png").read_bytes())
    (folder / "upstream.csv").write_text(
        "sample_id,osm_m2,footprints_m2,both_m2,open_m2,road_on_building_m2,added_m2,removed_m2,unlabelled_m2,iou\n"
        "all,20000,25000.4,15000,12345,60,700,0,0,0.5\nupstream-0001,20000,25000.4,15000,12345,60,700,0,0,0.5\n"
    )
    for year, lines in QUALITY.items():
        (folder / "quality").mkdir(exist_ok=True)
        (folder / "quality" / f"{year}.csv").write_text("\n".join([QUALITY_COLUMNS, *lines]) + "\n")
        (folder / "quality" / f"{year}.png").write_bytes((folder / "panel.png").read_bytes())


def write_inputs(folder: Path) -> dict[str, Any]:
    """Write small inputs of every section of the report; return the arguments of step `report` without its outputs."""
    sample = sample_data.make_with_product(folder)
    shared = {
        "index": sample["index"],
        "chips": [sample["chips"] / "upstream", sample["chips"] / "downstream"],
        "predictions": [folder / "predictions" / name for name in ("superres", "bilinear")],
        "products": [folder / "cover"],
        "methods": ["superres", "bilinear"],
        "product_table": {"cover": sample_data.ENTRY},
        "paired": folder / "paired.csv",
        "domains": folder / "domains.csv",
    }
    assess(
        **shared,
        table=folder / "table.csv",
        study_area=sample["study_area"],
        confusion=folder / "confusion.csv",
        year=2021,
    )
    _write_maps(folder)
    _write_sample(folder, sample["index"])
    _write_tables_and_pictures(folder)
    tables = {str(folder / "table.csv"): "table", str(shared["paired"]): "paired"}
    records = [*RECORDS, manifest("assess", "accuracy.assess", {"r/chips": "d"}, tables)]
    for i, record in enumerate(records):
        (folder / f"{i}.json").write_text(json.dumps(record))
    return {
        **shared,
        "accuracy": folder / "table.csv",
        "samples": folder / "samples.parquet",
        "study_area": folder / "area.gpkg",
        "agreements": [folder / "upstream.csv"],
        "title": "A <valley>",
        "year": 2021,
        "notes": "Synthetic.",
        "images": [folder / "images" / name for name in ("superres", "bilinear")],
        "composites": sorted((folder / "composites" / "2021").glob("*.tif")),
        "isa": sorted((folder / "isa" / "2021").glob("*.tif")),
        "panels": [folder / "panel.png"],
        "histories": [folder / name for name in HISTORIES],
        "examples": [folder / "scene.png"],
        "captions": {(folder / "scene.png").as_posix(): "A real scene. weights of the valley"},
        "quality_tables": sorted((folder / "quality").glob("*.csv"), reverse=True),
        "quality_figures": sorted((folder / "quality").glob("*.png"), reverse=True),
        **{name: folder / f"{name}.csv" for name in GROWTH},
        "growth_figure": folder / "panel.png",
        **{"product_comparisons": [folder / "Town.csv"], "comparison_pictures": [folder / "Town"]},
        "manifests": [folder / f"{i}.json" for i in range(len(records))],
    }
