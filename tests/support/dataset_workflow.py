"""A small synthetic scene of one tile with its deliveries and vectors, and calls of the dataset's steps."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from support import geotiff

from jointseg.config.dataset import Dataset
from jointseg.dataset.chips import chips
from jointseg.dataset.collection import dataset
from jointseg.dataset.deliveries import deliveries
from jointseg.dataset.labels import labels
from jointseg.dataset.pairing import pairing

WEST, NORTH, SIDE = 660_000, 3_542_000, 1200
SHIFT = (6.4, -4.2)  # registration shift of the scenes, m
CHIP = 160
SCENE = "JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH"
CLOUDY_SCENE = SCENE.replace("0018", "0017")
HOUSES = [(20 + 90 * i, 30 + 75 * j, 20 + 90 * i + 30, 30 + 75 * j + 22) for i in range(13) for j in range(15)]
BANDS = ["B04", "B03", "B02"]


def reflectance_and_isa() -> tuple[np.ndarray, np.ndarray]:
    """Return reflectance [3, SIDE, SIDE] and the ISA of houses and a road [SIDE, SIDE] at 1 m."""
    rng = np.random.default_rng(5)
    base = 0.06 + 0.05 * zoom(rng.random((25, 25)), SIDE / 25, order=0)
    image = np.stack([base * 0.9, base, base * 0.7])
    polygons = [shapely.box(WEST + a, NORTH - d, WEST + c, NORTH - b) for a, b, c, d in HOUSES]
    road = shapely.box(WEST, NORTH - 604, WEST + SIDE, NORTH - 596)
    isa = rasterize(
        [(shape, 1) for shape in [*polygons, road]], (SIDE, SIDE), transform=Affine(1, 0, WEST, 0, -1, NORTH)
    )
    for band, value in zip(image, (0.27, 0.25, 0.24)):
        band[isa == 1] = value
    return image + rng.normal(0, 0.01, image.shape), isa


def write(path: Path, array: np.ndarray, west: float, north: float, pixel: float, **more: object) -> None:
    geotiff.write(path, array, Affine(pixel, 0, west, 0, -pixel, north), **more)


def jilin1_scene(image: np.ndarray, cloudy: bool) -> np.ndarray:
    """Return blue, green, red digital numbers at 0.75 m whose coordinates are off by SHIFT."""
    rows = (np.arange(int(SIDE / 0.75)) + 0.5) * 0.75 - 0.5
    points = np.meshgrid(rows - SHIFT[1], rows + SHIFT[0], indexing="ij")
    soft = [gaussian_filter(band, 0.4) for band in image[::-1]]
    out = np.stack([map_coordinates(band, points, order=1, mode="nearest") for band in soft])
    if cloudy:
        field = gaussian_filter(np.random.default_rng(1).standard_normal(out.shape[1:]), 60)
        opacity = np.clip(field / field.std() + 0.5, 0, 1)
        out = out * (1 - opacity) + 0.5 * opacity
    return np.rint(out * 6000 + 400).astype(np.uint16)


def write_inputs(folder: Path) -> None:
    """Write the inputs of the steps, and the samples: 12 chips of one reach."""
    image, isa = reflectance_and_isa()
    np.save(folder / "isa.npy", isa)
    blurred = np.stack([gaussian_filter(band, 5.3) for band in image])
    quad = (blurred[:, :-1, :-1] + blurred[:, 1:, :-1] + blurred[:, :-1, 1:] + blurred[:, 1:, 1:]) / 4
    at = 4 + 10 * np.arange(SIDE // 10)
    dn = np.rint(quad[:, at[:, None], at] * 1e4).astype(np.uint16)
    clear = np.full((1, *dn.shape[1:]), 3, dtype=np.uint16)
    dn[:, 30:33, 20:24], clear[:, 30:33, 20:24] = 0, 0
    write(
        folder / "composites/2021/t.tif", np.concatenate([dn, clear]), WEST, NORTH, 10, descriptions=[*BANDS, "clear"]
    )
    plain = {"nodata": 0, "photometric": "minisblack"}
    for name, cloudy in ((SCENE, False), (CLOUDY_SCENE, True)):
        write(folder / f"jilin1/{name}/{name}.tif", jilin1_scene(image, cloudy), WEST, NORTH, 0.75, **plain)
        cloud = 1 if cloudy else 4  # so that the cloudy scene is tried first
        (folder / f"jilin1/{name}/{name}_meta.xml").write_text(f"<a><CloudPercent>{cloud}</CloudPercent></a>")
    corners = [(WEST + 100 + 250 * i, NORTH - 1100 + 250 * j) for i in range(4) for j in (1, 2, 3)]
    rows = len(corners)
    frame = gpd.GeoDataFrame(
        {
            "sample_id": [f"up-{i:04d}" for i in range(1, rows + 1)],
            "reach": "up",
            "stratum": "up",
            "rank": np.arange(1, rows + 1, dtype=np.int32),
            "replacement": False,
            "inclusion_probability": 0.2,
            "split": (["train"] * 2 + ["validation", "test"]) * 3,
            "block": "b",
            "tile": "50N_E0660_N3540",
            "epsg": np.full(rows, 32650, dtype=np.int32),
            "minx": [float(x) for x, _ in corners],
            "miny": [float(y) for _, y in corners],
        },
        geometry=gpd.points_from_xy(*np.array(corners).T + CHIP / 2, crs=32650).to_crs(4326),
    )
    frame.to_parquet(folder / "samples.parquet")
    write_vectors(folder)
    index_deliveries(folder / "jilin1", folder / "deliveries.parquet")


def index_deliveries(folder: Path, to: Path) -> None:
    config = Dataset(jilin1="", osm="", footprints="", corrections="")
    entries = {name: entry.model_dump() for name, entry in config.providers.items()}
    deliveries(jilin1=folder, deliveries=to, providers=entries, metadata_elements=config.metadata_elements)


def write_vectors(folder: Path) -> None:
    """Write OpenStreetMap in GDAL's layers with the road and half of the houses, footprints with the rest, corrections."""
    polygons = [shapely.box(WEST + a, NORTH - d, WEST + c, NORTH - b) for a, b, c, d in HOUSES]
    utm = {"crs": 32650}
    lines = gpd.GeoDataFrame(
        {"highway": ["residential", "footway"], "other_tags": ['"width"=>"8"', None]},
        geometry=[shapely.LineString([(WEST, NORTH - 600 - o), (WEST + SIDE, NORTH - 600 - o)]) for o in (0, 300)],
        **utm,
    )
    areas = gpd.GeoDataFrame({"building": ["yes"] * len(polygons[::2])}, geometry=polygons[::2], **utm)
    lines.to_crs(4326).to_file(folder / "osm.gpkg", layer="lines")
    areas.to_crs(4326).to_file(folder / "osm.gpkg", layer="multipolygons")
    gpd.GeoDataFrame(geometry=polygons[1::2], **utm).to_crs(4326).to_file(folder / "footprints.gpkg")
    (folder / "corrections").mkdir()

    def pixels(box: tuple[float, float, float, float]) -> list[list[float]]:
        """Convert a box in metres from the true upper left corner to pixels of the scene, which is off by SHIFT."""
        (a, b, c, d), (east, north) = box, SHIFT
        return [[(x - east) / 0.75, (y + north) / 0.75] for x, y in ((a, b), (c, b), (c, d), (a, d))]

    shapes = [
        {"label": "not_isa", "shape_type": "polygon", "points": pixels((500, 0, 520, SIDE))},
        {"label": "ISA", "shape_type": "polygon", "points": pixels((400, 110, 420, 250))},
        {"label": "unknown", "shape_type": "polygon", "points": pixels((760, 0, 770, SIDE))},
    ]
    annotation = {"imagePath": f"..\\{SCENE}.tif", "imageWidth": 1600, "imageHeight": 1600, "shapes": shapes}
    (folder / "corrections/one.json").write_text(json.dumps(annotation))


def run_pairing(inputs_folder: Path, to: Path, **changes: object) -> pd.DataFrame:
    params = {
        "reach": "up",
        "chip_m": CHIP,
        "year": 2021,
        "season": ("04-01", "10-31"),
        "max_shift_m": 10,
        "min_correlation": 0.5,
        "max_cloud_percent": 20,
    }
    inputs = {
        "samples": inputs_folder / "samples.parquet",
        "composites": [inputs_folder / "composites/2021/t.tif"],
        "jilin1": inputs_folder / "jilin1",
        "deliveries": inputs_folder / "deliveries.parquet",
    }
    pairing(pairs=to, **(inputs | params | changes))
    return pd.read_parquet(to)


def run_labels(inputs_folder: Path, to: Path, **changes: object) -> None:
    params = {
        "reach": "up",
        "chip_m": CHIP,
        "road_widths_m": {"residential": 6},
        "lane_width_m": 3.5,
        "isa_tags": {"building": {"building": ["*"]}},
        "not_isa_tags": {},
        "unpaved_surfaces": [],
        "soft_tags": {},
        "industrial_yard_m": 30,
        "osm": inputs_folder / "osm.gpkg",
        "footprints": inputs_folder / "footprints.gpkg",
        "corrections": inputs_folder / "corrections",
    }
    inputs = {
        "samples": inputs_folder / "samples.parquet",
        "pairs": to / "pairs.parquet",
        "jilin1": inputs_folder / "jilin1",
    }
    labels(**inputs, labels=to / "labels.parquet", **(params | changes))


def run_chips(inputs_folder: Path, to: Path, **changes: object) -> dict:
    return chips(
        **{
            "samples": inputs_folder / "samples.parquet",
            "pairs": to / "pairs.parquet",
            "labels": to / "labels.parquet",
            "composites": [inputs_folder / "composites/2021/t.tif"],
            "jilin1": inputs_folder / "jilin1",
            "deliveries": inputs_folder / "deliveries.parquet",
            "chips": to / "chips/up",
            "index": to / "index/up.parquet",
            "reach": "up",
            "chip_m": CHIP,
            "bands": BANDS,
        }
        | changes
    )


def altered_scene(
    inputs_folder: Path, to: Path, moved_m: tuple[float, float] = (0, 0), paint: object = None
) -> dict[str, Path]:
    """Copy only the clear scene, moved by (x, y) and with its pixels changed by `paint`; return inputs of `run_pairing`."""
    path = to / f"jilin1/{SCENE}/{SCENE}.tif"
    path.parent.mkdir(parents=True)
    shutil.copy(inputs_folder / f"jilin1/{SCENE}/{SCENE}.tif", path)
    with rasterio.open(path, "r+") as file:
        file.transform = Affine.translation(*moved_m) @ file.transform
        if paint is not None:
            file.write(paint(file.read(), file.transform))
    index_deliveries(to / "jilin1", to / "deliveries.parquet")
    return {"jilin1": to / "jilin1", "deliveries": to / "deliveries.parquet"}


def run_dataset(to: Path, pairs: Path, labels: Path) -> None:
    dataset(
        indexes=[to / "index/up.parquet"],
        chips=[to / "chips/up"],
        samples=to / "samples.parquet",
        pairs=[pairs],
        labels=[labels],
        manifests=[],
        index=to / "index.parquet",
        statistics=to / "statistics.json",
        card=to / "card.md",
        sources=to / "sources.json",
        collection=to / "collection.json",
        stac_items=to / "items",
        checksums=to / "checksums.sha256",
        version="1.0.0",
        chip_m=CHIP,
        spacing_m=CHIP,
    )
