"""Write the simulated Jilin-1 scenes in the vendor's layout: folders, rasters and metadata."""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from scipy.ndimage import gaussian_filter, zoom

from jointseg.synthetic.acquisitions import Jilin1Scene
from jointseg.synthetic.terrain import EPSG, ORIGIN_M

PIXEL_M = 0.75


def scene_transform(scene: Jilin1Scene) -> Affine:
    """Return the georeference of a scene, from pixels to (misregistered) UTM metres."""
    return Affine(PIXEL_M, 0, ORIGIN_M[0] + scene.window.x0, 0, -PIXEL_M, ORIGIN_M[1] + scene.window.y1)


def scene_shape(scene: Jilin1Scene) -> tuple[int, int]:
    height, width = scene.window.shape
    return int(height / PIXEL_M), int(width / PIXEL_M)


def image_path(folder: Path, scene: Jilin1Scene) -> Path:
    return folder / scene.id / f"{scene.id}.tif"


def add_clouds(image: np.ndarray, scene: Jilin1Scene, rng: np.random.Generator) -> np.ndarray:
    """Cover a scene with clouds as stated in its metadata; below 10 % it stays clear."""
    if scene.cloud_percent < 10:
        return image
    height, width = image.shape[1:]
    coarse = gaussian_filter(rng.standard_normal((height // 16 + 2, width // 16 + 2)), 9)
    coarse += 0.25 * gaussian_filter(rng.standard_normal(coarse.shape), 2) * coarse.std()
    edge = np.quantile(coarse, 1 - scene.cloud_percent / 100)
    opacity = zoom(np.clip((coarse - edge) / (0.6 * coarse.std()), 0, 1).astype(np.float32), 16, order=1)[
        :height, :width
    ]
    white = 3400 + 250 * opacity
    return np.where(image > 0, image * (1 - opacity) + white * opacity, 0).astype(np.uint16)


def write_scene(folder: Path, scene: Jilin1Scene, image: np.ndarray) -> None:
    """Write the folder of a scene; a level 1 scene has separate PAN and MSS rasters without georeference."""
    home = folder / scene.id
    home.mkdir(parents=True, exist_ok=True)
    if scene.level == "L1":
        crop = image[:, 200:1160, 200:1160]
        _write(home / f"{scene.id}_PAN.tif", crop.mean(axis=0, keepdims=True).astype(np.uint16), None)
        _write(home / f"{scene.id}_MSS.tif", crop[::-1, ::4, ::4], None)
        (home / f"{scene.id}_MSS_rpc.txt").write_text(_rpc())
        (home / f"{scene.id}_MSS_meta.xml").write_text(_meta(scene, "B,G,R"))
        return
    _write(image_path(folder, scene), image, scene_transform(scene))
    (home / f"{scene.id}_meta.xml").write_text(_meta(scene, "R,G,B"))


def _write(path: Path, image: np.ndarray, transform: Affine | None) -> None:
    count, height, width = image.shape
    options = {"compress": "deflate", "zlevel": 1, "predictor": 2, "tiled": True, "blockxsize": 256, "blockysize": 256}
    if transform is not None:
        options |= {"crs": f"EPSG:{EPSG}", "transform": transform, "nodata": 0}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint16", **options
    ) as to:
        if transform is not None and count == 3:
            to.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
            to.descriptions = ("red", "green", "blue")
        to.write(image)


def _meta(scene: Jilin1Scene, bands: str) -> str:
    fields = {
        "SatelliteID": scene.satellite,
        "SensorID": "PMS",
        "ProductLevel": scene.level,
        "CenterTime": f"{scene.time_beijing:%Y-%m-%d %H:%M:%S}",
        "CloudPercent": str(scene.cloud_percent),
        "Bands": bands,
        "PixelSpacing": f"{PIXEL_M}",
        "MapProjection": f"EPSG:{EPSG}" if scene.level != "L1" else "none",
    }
    rows = "".join(f"  <{key}>{escape(value)}</{key}>\n" for key, value in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<MetaData>\n{rows}</MetaData>\n'


def _rpc() -> str:
    """Return rational polynomial coefficients of a linear scaling, in the vendor's text format."""
    lines = [
        *("LINE_OFF: 480", "SAMP_OFF: 480", "LAT_OFF: 31.99", "LONG_OFF: 118.70", "HEIGHT_OFF: 40"),
        *("LINE_SCALE: 480", "SAMP_SCALE: 480", "LAT_SCALE: 0.0033", "LONG_SCALE: 0.0039", "HEIGHT_SCALE: 500"),
    ]
    for name, term in (("LINE_NUM_COEFF", 3), ("LINE_DEN_COEFF", 1), ("SAMP_NUM_COEFF", 2), ("SAMP_DEN_COEFF", 1)):
        value = -1 if name == "LINE_NUM_COEFF" else 1
        lines += [f"{name}_{k}: {value if k == term else 0}" for k in range(1, 21)]
    return "\n".join(lines) + "\n"
