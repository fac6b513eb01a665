"""Small study areas, tiles and prior density as inputs of the sampling."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from jointseg.area.tiles import grid as tiling
from jointseg.dataset.prior_density import PriorDensity
from jointseg.dataset.sampling import samples
from jointseg.dataset.sampling_area import SamplingArea
from jointseg.dataset.two_phase_sampling import Design
from jointseg.raster import cog

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
PARAMS = {
    "tile_km": 4,
    "chip_m": 320,
    "spacing_m": 400,
    "points": 60,
    "allocation": "equal",
    "counts": {},
    "replacement_fraction": 0.5,
    "density_classes": None,
    "splits": SPLITS,
    "block_m": 1000,
    "seed": 1,
}
# Two reaches that meet in zone 50; the eastern one extends across 120 degrees east into zone 51.
BORDER, SOUTH, NORTH = 120.0, 31.95, 32.05
REACHES = {"up": (119.90, 119.95), "down": (119.95, 120.06)}


def write_area(folder: Path, reaches: dict[str, tuple[float, float]] = REACHES, tile_km: int = 4) -> dict[str, Path]:
    """Write boxes in longitude as reaches, and the tiles that cover them."""
    boxes = [shapely.box(west, SOUTH, east, NORTH) for west, east in reaches.values()]
    area = folder / "study_area.gpkg"
    gpd.GeoDataFrame({"name": list(reaches)}, geometry=boxes, crs=4326).to_file(area, layer="reaches")
    gpd.GeoDataFrame({"name": ["Town"]}, geometry=boxes[:1], crs=4326).to_file(area, layer="cities")
    tiling(study_area=area, tiles=folder / "tiles.geojson", tile_km=tile_km)
    return {"study_area": area, "tiles": folder / "tiles.geojson"}


def write_prior(folder: Path) -> Path:
    """Write a percentage of ISA that increases to the east within every 0.03 degrees, with a nodata hole."""
    lon = 119.88 + 0.002 * np.arange(100)
    percent = ((lon - 119.88) % 0.03 / 0.03 * 40).astype(np.uint8)
    plane = np.repeat(percent[None], 70, axis=0)
    plane[30:36, 20:26] = 255
    transform = Affine(0.002, 0, 119.88, 0, -0.002, 32.07)
    cog.write(folder / "density.tif", plane[None], crs="EPSG:4326", transform=transform, nodata=255)
    return folder / "density.tif"


def run_samples(
    folder: Path, inputs: dict[str, Path], name: str = "samples.parquet", **changes: object
) -> gpd.GeoDataFrame:
    params = PARAMS | {"density_classes": [0.1, 0.25] if "density" in inputs else None} | changes
    samples(**inputs, samples=folder / name, **params)
    return gpd.read_parquet(folder / name)


def area_and_design(inputs: dict[str, Path], **changes: object) -> tuple[SamplingArea, Design]:
    reaches = gpd.read_file(inputs["study_area"], layer="reaches")
    polygons = dict(zip(reaches["name"], reaches.geometry))
    params = PARAMS | changes
    area = SamplingArea(
        polygons, gpd.read_file(inputs["tiles"]), params["tile_km"], params["chip_m"], PriorDensity(inputs["density"])
    )
    del params["density_classes"], params["seed"]
    return area, Design(**params, classes=(10.0, 25.0))
