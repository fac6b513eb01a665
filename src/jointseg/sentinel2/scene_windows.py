"""Read windows of scene files on the 10 m lattice of a tile; a scene on another lattice is resampled once."""

from collections.abc import Sequence
from pathlib import Path
from threading import get_ident
from typing import Protocol

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from jointseg.area.grid import Tile
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import lanczos
from jointseg.sentinel2.archive import gdal_path
from jointseg.sentinel2.scene import Scene

RES_M = 10
# Shifts are rounded to a millionth of a pixel: the result does not depend on the origin of a file.
SHIFT_STEPS_PER_PX = 1_000_000
CATEGORICAL = ("SCL", "CLASSI")
Bounds = tuple[float, float, float, float]
Shift = tuple[float, float]  # metres to add to a scene's coordinates, x east and y north
NO_SHIFT: Shift = (0.0, 0.0)


class SceneReader(Protocol):
    """Reads windows of scenes on the 10 m lattice of a tile (see `FileReader`)."""

    epsg: int  # CRS of the output
    warped: dict[str, str]  # source grid of each resampled scene, by scene id
    graphs: dict[str, str]  # sha256 of the server-side expression of each scene, by scene id
    workers: int  # number of threads that may use the reader

    def check(self, scene: Scene, keys: Sequence[str]) -> None: ...

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray: ...

    def close(self, scene: Scene) -> None:
        """Close the files of a scene that this thread has opened."""


class FileReader:
    """Reads scenes from raster files, local (below `root`) or remote, into the CRS `epsg`."""

    workers = 1

    def __init__(self, root: Path, epsg: int) -> None:
        self.root, self.epsg = root, epsg
        self.warped: dict[str, str] = {}
        self.graphs: dict[str, str] = {}
        self._datasets: dict[tuple[int, str, str], DatasetReader] = {}

    def path(self, href: str) -> str:
        return gdal_path(self.root, href)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        """Raise DataError if a file differs from the scene list, or bands of equal resolution have different grids."""
        grids: dict[float, tuple[str, tuple]] = {}
        for key in dict.fromkeys(keys):
            asset = scene.assets.get(key)
            if asset is None:
                raise DataError(f"scene {scene.id} of the scene list has no {key}; delete the list to rebuild it")
            path = self.path(asset.href)
            if asset.size is not None and not path.startswith("/vsi"):
                size = Path(path).stat().st_size if Path(path).exists() else None
                if size != asset.size:
                    state = "is missing" if size is None else f"has {size} bytes"
                    raise DataError(
                        f"{asset.href}, band {key} of scene {scene.id}, {state}; expected {asset.size} bytes as in the "
                        "scene list: restore the file"
                    )
            with self._open(scene, key) as source:
                if key not in CATEGORICAL:
                    grid = (source.shape, tuple(source.transform)[:6])
                    first, expected = grids.setdefault(source.transform.a, (key, grid))
                    if grid != expected:
                        raise DataError(
                            f"band {key} of scene {scene.id} has {grid[0]} pixels from {grid[1][2]:g}, {grid[1][5]:g} but "
                            f"{first} has {expected[0]} from {expected[1][2]:g}, {expected[1][5]:g}; restore the file"
                        )

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """Return uint16 [keys, rows, columns] of bounds (multiples of 10 m) on the 10 m lattice; 0 outside the scene.

        Bands are resampled at most once: by the Lanczos kernel if they are on the lattice and shifted, by cubic
        convolution if they are on another lattice or CRS. Classes are sampled by nearest neighbour. `shift_m` is added
        to the scene's coordinates: the output at (x, y) is the scene at (x, y) - shift. Raises DataError if a file
        cannot be read, has no CRS, or not the CRS of its scene.
        """
        out = np.zeros((len(keys), *bounds_shape(bounds)), dtype=np.uint16)
        for layer, key in zip(out, keys):
            try:
                layer[:] = self._layer(self._dataset(scene, key), scene, key, bounds, shift_m)
            except RasterioError as error:
                self.close(scene)  # a retry opens it again
                raise DataError(
                    f"{scene.assets[key].href}, band {key} of scene {scene.id}, cannot be read "
                    f"({error.__cause__ or error}); download the file again"
                ) from error
        return out

    def close(self, scene: Scene) -> None:
        """Close the files of a scene that this thread has opened."""
        for key in [key for key in list(self._datasets) if key[:2] == (get_ident(), scene.id)]:
            self._datasets.pop(key).close()

    def _dataset(self, scene: Scene, key: str) -> DatasetReader:
        """Return a dataset that stays open for this thread: opening one takes as long as reading a window."""
        name = get_ident(), scene.id, key
        if name not in self._datasets:
            self._datasets[name] = self._open(scene, key)
        return self._datasets[name]

    def _open(self, scene: Scene, key: str) -> DatasetReader:
        href = scene.assets[key].href
        try:
            source = rasterio.open(self.path(href))
        except RasterioError as error:
            raise DataError(
                f"{href}, band {key} of scene {scene.id}, cannot be opened ({error}); download the file again"
            ) from error
        epsg = source.crs.to_epsg() if source.crs else None
        if epsg != scene.epsg:
            source.close()
            raise DataError(
                f"{href}, band {key} of scene {scene.id}, is in {f'EPSG:{epsg}' if epsg else 'no CRS'}; expected "
                f"EPSG:{scene.epsg} as in the catalogue: correct the catalogue or the file"
            )
        if np.dtype(source.dtypes[0]).kind != "u" or np.dtype(source.dtypes[0]).itemsize > 2:
            source.close()
            raise DataError(f"{href}, band {key} of scene {scene.id}, has {source.dtypes[0]}; expected uint8 or uint16")
        return source

    def _layer(self, source: DatasetReader, scene: Scene, key: str, bounds: Bounds, shift_m: Shift) -> np.ndarray:
        if key == "CLASSI":
            bits = read_nearest(source, [1, 2, 3], self.epsg, bounds, shift_m)
            return ((bits > 0) * np.array([1, 2, 4], dtype=np.uint16)[:, None, None]).sum(axis=0, dtype=np.uint16)
        if key in CATEGORICAL:
            return read_nearest(source, [1], self.epsg, bounds, shift_m)[0]
        if source.crs.to_epsg() != self.epsg or not nests_in_lattice(source.transform):
            t = source.transform
            grid = f"EPSG:{source.crs.to_epsg()}, {t.a:g} m"
            self.warped[scene.id] = grid if nests_in_lattice(t) else f"{grid}, origin {t.c:g} {t.f:g}"
        return read_reflectance(source, [1], self.epsg, bounds, shift_m)[0]


def nests_in_lattice(t: Affine) -> bool:
    """Return whether each pixel (10, 20 or 60 m) of a raster consists of whole 10 m pixels of the lattice."""
    return t.a == -t.e and t.a % RES_M == 0 and t.c % RES_M == t.f % RES_M == 0


def read_nearest(source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift) -> np.ndarray:
    """Return the pixel at the centre of every 10 m pixel, uint16 [bands, rows, columns]: exact if pixels nest."""
    if source.crs.to_epsg() != epsg:
        return resample(source, bands, epsg, bounds, shift_m, Resampling.nearest)
    shape, t = bounds_shape(bounds), source.transform
    col = np.floor((bounds[0] - shift_m[0] + RES_M * (np.arange(shape[1]) + 0.5) - t.c) / t.a).astype(int)
    row = np.floor((bounds[3] - shift_m[1] - RES_M * (np.arange(shape[0]) + 0.5) - t.f) / t.e).astype(int)
    out = np.zeros((len(bands), *shape), dtype=np.uint16)
    cols_in = np.flatnonzero((col >= 0) & (col < source.width))
    rows_in = np.flatnonzero((row >= 0) & (row < source.height))
    if cols_in.size and rows_in.size:
        top, left = row[rows_in[0]], col[cols_in[0]]
        window = Window(left, top, col[cols_in[-1]] - left + 1, row[rows_in[-1]] - top + 1)
        array = source.read(bands, window=window)
        if array.shape[1:] != (rows_in.size, cols_in.size):  # repeat pixels of 20 or 60 m
            array = array[:, (row[rows_in] - top)[:, None], (col[cols_in] - left)[None, :]]
        out[:, rows_in[0] : rows_in[-1] + 1, cols_in[0] : cols_in[-1] + 1] = array
    return out


def read_reflectance(source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift) -> np.ndarray:
    """Return continuous values of bounds, uint16 [bands, rows, columns]; 0 outside the source."""
    if source.crs.to_epsg() == epsg and nests_in_lattice(source.transform):
        if shift_m == NO_SHIFT:
            return read_nearest(source, bands, epsg, bounds, shift_m)
        if source.transform.a == RES_M:
            return _read_shifted(source, bands, bounds, shift_m)
    return resample(source, bands, epsg, bounds, shift_m, Resampling.cubic)


def _read_shifted(source: DatasetReader, bands: list[int], bounds: Bounds, shift_m: Shift) -> np.ndarray:
    rows, cols = bounds_shape(bounds)
    t, steps = source.transform, SHIFT_STEPS_PER_PX
    top, down = divmod(round((t.f - bounds[3] + shift_m[1]) / RES_M * steps), steps)
    left, right = divmod(round((bounds[0] - shift_m[0] - t.c) / RES_M * steps), steps)
    # The kernel covers lanczos.TAPS pixels from `top - lanczos.LOBES + 1`.
    west, north = t.c + (left - lanczos.LOBES + 1) * RES_M, t.f - (top - lanczos.LOBES + 1) * RES_M
    support = (west, north - (rows + lanczos.TAPS - 1) * RES_M, west + (cols + lanczos.TAPS - 1) * RES_M, north)
    array = read_nearest(source, bands, source.crs.to_epsg(), support, NO_SHIFT)
    return lanczos.shift_subpixel(array, down / steps, right / steps)


def resample(
    source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift, method: Resampling
) -> np.ndarray:
    """Return uint16 [bands, rows, columns] of bounds, resampled once from the source's grid; 0 outside it.

    The transformer's tolerance is 1e-6 pixel (GDAL rejects 0) and the kernel is fixed, so the result does not depend
    on how a tile is split.
    """
    rows, cols = bounds_shape(bounds)
    with WarpedVRT(
        source,
        crs=f"EPSG:{epsg}",
        transform=Affine(RES_M, 0, bounds[0] - shift_m[0], 0, -RES_M, bounds[3] - shift_m[1]),
        height=rows,
        width=cols,
        resampling=method,
        src_nodata=0,
        nodata=0,
        tolerance=1e-6,
        XSCALE="1",
        YSCALE="1",
    ) as warped:
        return warped.read(bands)


def bounds_shape(bounds: Bounds) -> tuple[int, int]:
    """Return (rows, columns) of bounds at 10 m."""
    return round((bounds[3] - bounds[1]) / RES_M), round((bounds[2] - bounds[0]) / RES_M)


def window_bounds(tile: Tile, rows: slice, cols: slice) -> Bounds:
    """Return the bounds of rows and columns of a tile's 10 m raster."""
    west, north = tile.bounds[0], tile.bounds[3]
    return west + cols.start * RES_M, north - rows.stop * RES_M, west + cols.stop * RES_M, north - rows.start * RES_M
