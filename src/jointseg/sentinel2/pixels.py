"""Windows of scene files on a tile's 10 m lattice; resampled once where a scene lies on another one."""

import logging
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from jointseg.errors import DataError
from jointseg.sentinel2.archive import local
from jointseg.sentinel2.scene import Scene

log = logging.getLogger(__name__)
RES_M = 10
CATEGORICAL = ("SCL", "CLASSI")
Bounds = tuple[float, float, float, float]


class Files:
    """Reads scenes from raster files, on disk or on the web, onto one CRS.

    Args:
        root: folder that relative hrefs start from.
        epsg: CRS to deliver.
    """

    workers = 1

    def __init__(self, root: Path, epsg: int) -> None:
        self.root, self.epsg = root, epsg
        self.warped: dict[str, str] = {}

    def path(self, href: str) -> str:
        return local(self.root, href)

    def check(self, scene: Scene, bands: list[str]) -> None:
        """DataError when a file is not the one of the list, or the bands of a scene do not fit each other."""
        grids: dict[float, tuple[str, tuple]] = {}
        for key in [*bands, *([scene.mask] if scene.mask else [])]:
            asset = scene.assets.get(key)
            if asset is None:
                raise DataError(f"scene {scene.id} of the list has no {key}; delete the list so that it is made again")
            where = self.path(asset.href)
            if asset.size is not None and not where.startswith("/vsi"):
                size = Path(where).stat().st_size if Path(where).exists() else None
                if size != asset.size:
                    is_ = "is missing" if size is None else f"has {size} bytes"
                    raise DataError(
                        f"{asset.href}, band {key} of scene {scene.id}, {is_} but the scene list says {asset.size} "
                        "bytes; restore the file"
                    )
            with self._open(scene, key) as source:
                if key in bands:
                    grid = (source.shape, tuple(source.transform)[:6])
                    first, expected = grids.setdefault(source.transform.a, (key, grid))
                    if grid != expected:
                        raise DataError(
                            f"band {key} of scene {scene.id} is {grid[0]} pixels from {grid[1][2]:g}, {grid[1][5]:g} but "
                            f"{first} is {expected[0]} from {expected[1][2]:g}, {expected[1][5]:g}; restore the file"
                        )

    def read(self, scene: Scene, keys: list[str], bounds: Bounds) -> np.ndarray:
        """uint16 [keys, rows, columns] of bounds on the 10 m lattice; 0 outside the scene.

        Bands that lie on another lattice or CRS are warped (cubic), classes keep their nearest value.

        Raises:
            DataError: a file cannot be read, has no CRS, or another one than its scene is said to have.
        """
        shape = (round((bounds[3] - bounds[1]) / RES_M), round((bounds[2] - bounds[0]) / RES_M))
        out = np.zeros((len(keys), *shape), dtype=np.uint16)
        for layer, key in zip(out, keys):
            try:
                with self._open(scene, key) as source:
                    layer[:] = self._layer(source, scene, key, bounds, shape)
            except RasterioError as error:
                raise DataError(
                    f"{scene.assets[key].href}, band {key} of scene {scene.id}, cannot be read "
                    f"({error.__cause__ or error}); fetch the file again"
                ) from error
        return out

    def _open(self, scene: Scene, key: str) -> DatasetReader:
        href = scene.assets[key].href
        try:
            source = rasterio.open(self.path(href))
        except RasterioError as error:
            raise DataError(
                f"{href}, band {key} of scene {scene.id}, cannot be opened ({error}); fetch the file again"
            ) from error
        epsg = source.crs.to_epsg() if source.crs else None
        if epsg != scene.epsg:
            source.close()
            raise DataError(
                f"{href}, band {key} of scene {scene.id}, is in {f'EPSG:{epsg}' if epsg else 'no CRS'} but its scene is "
                f"said to be in EPSG:{scene.epsg}; correct the catalogue or the file"
            )
        if np.dtype(source.dtypes[0]).kind != "u" or np.dtype(source.dtypes[0]).itemsize > 2:
            source.close()
            raise DataError(
                f"{href}, band {key} of scene {scene.id}, holds {source.dtypes[0]}; expected uint8 or uint16"
            )
        return source

    def _layer(
        self, source: DatasetReader, scene: Scene, key: str, bounds: Bounds, shape: tuple[int, int]
    ) -> np.ndarray:
        if key == "CLASSI":
            bits = self._plain(source, [1, 2, 3], bounds, shape, source.crs.to_epsg() != self.epsg)
            return ((bits > 0) * np.array([1, 2, 4], dtype=np.uint16)[:, None, None]).sum(axis=0, dtype=np.uint16)
        moved = source.crs.to_epsg() != self.epsg
        if key in CATEGORICAL:
            return self._plain(source, [1], bounds, shape, moved)[0]
        steps = (source.transform.a, -source.transform.e, source.transform.c, source.transform.f)
        if not moved and steps[:2] == (RES_M, RES_M) and steps[2] % RES_M == steps[3] % RES_M == 0:
            return self._plain(source, [1], bounds, shape, False)[0]
        if scene.id not in self.warped:
            self.warped[scene.id] = f"EPSG:{source.crs.to_epsg()}, {steps[0]:g} m, origin {steps[2]:g} {steps[3]:g}"
            log.warning("scene %s is warped onto the tile from %s", scene.id, self.warped[scene.id])
        return self._warp(source, [1], bounds, shape, Resampling.cubic)[0]

    def _plain(
        self, source: DatasetReader, bands: list[int], bounds: Bounds, shape: tuple[int, int], moved: bool
    ) -> np.ndarray:
        """Nearest source pixel of every 10 m pixel's centre: exact where pixels nest."""
        if moved:
            return self._warp(source, bands, bounds, shape, Resampling.nearest)
        t = source.transform
        col = np.floor((bounds[0] + RES_M * (np.arange(shape[1]) + 0.5) - t.c) / t.a).astype(int)
        row = np.floor((bounds[3] - RES_M * (np.arange(shape[0]) + 0.5) - t.f) / t.e).astype(int)
        out = np.zeros((len(bands), *shape), dtype=np.uint16)
        cols_in = np.flatnonzero((col >= 0) & (col < source.width))
        rows_in = np.flatnonzero((row >= 0) & (row < source.height))
        if cols_in.size and rows_in.size:
            top, left = row[rows_in[0]], col[cols_in[0]]
            window = Window(left, top, col[cols_in[-1]] - left + 1, row[rows_in[-1]] - top + 1)
            array = source.read(bands, window=window)
            part = array[:, (row[rows_in] - top)[:, None], (col[cols_in] - left)[None, :]]
            out[:, rows_in[0] : rows_in[-1] + 1, cols_in[0] : cols_in[-1] + 1] = part
        return out

    def _warp(
        self, source: DatasetReader, bands: list[int], bounds: Bounds, shape: tuple[int, int], how: Resampling
    ) -> np.ndarray:
        # A transformer exact to 1e-6 pixel (0 is refused) and a fixed kernel scale: the result does not depend on how a tile is cut into blocks.
        with WarpedVRT(
            source,
            crs=f"EPSG:{self.epsg}",
            transform=Affine(RES_M, 0, bounds[0], 0, -RES_M, bounds[3]),
            height=shape[0],
            width=shape[1],
            resampling=how,
            src_nodata=0,
            nodata=0,
            tolerance=1e-6,
            XSCALE="1",
            YSCALE="1",
        ) as warped:
            return warped.read(bands)
