"""Windows of scene files on a tile's 10 m lattice; resampled once where a scene lies on another one."""

from collections.abc import Sequence
from pathlib import Path
from threading import get_ident

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
MICRO = 1_000_000  # of a pixel: a shift counts in these, so that it is the same from wherever a file begins
CATEGORICAL = ("SCL", "CLASSI")
Bounds = tuple[float, float, float, float]
Shift = tuple[float, float]  # metres to add to a scene's coordinates, x east and y north
NO_SHIFT: Shift = (0.0, 0.0)


class FileReader:
    """Reads scenes from raster files, on disk or on the web, onto one CRS.

    Args:
        root: folder that relative hrefs start from.
        epsg: CRS to deliver.
    """

    workers = 1

    def __init__(self, root: Path, epsg: int) -> None:
        self.root, self.epsg = root, epsg
        self.warped: dict[str, str] = {}
        self.graphs: dict[str, str] = {}
        self._opened: dict[tuple[int, str, str], DatasetReader] = {}

    def path(self, href: str) -> str:
        return gdal_path(self.root, href)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        """DataError when a file is not the one of the list, or the bands of a scene do not fit each other."""
        grids: dict[float, tuple[str, tuple]] = {}
        for key in dict.fromkeys(keys):
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
                if key not in CATEGORICAL:
                    grid = (source.shape, tuple(source.transform)[:6])
                    first, expected = grids.setdefault(source.transform.a, (key, grid))
                    if grid != expected:
                        raise DataError(
                            f"band {key} of scene {scene.id} is {grid[0]} pixels from {grid[1][2]:g}, {grid[1][5]:g} but "
                            f"{first} is {expected[0]} from {expected[1][2]:g}, {expected[1][5]:g}; restore the file"
                        )

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """uint16 [keys, rows, columns] of bounds on the 10 m lattice; 0 outside the scene.

        Bands are resampled once at most: by Lanczos' kernel where they lie on the lattice and are to be shifted, by cubic
        convolution where they lie on another lattice or CRS. Classes keep their nearest value.

        Args:
            shift_m: added to the scene's coordinates: (x, y) gets what the scene has at (x, y) - shift.

        Raises:
            DataError: a file cannot be read, has no CRS, or another one than its scene is said to have.
        """
        out = np.zeros((len(keys), *bounds_shape(bounds)), dtype=np.uint16)
        for layer, key in zip(out, keys):
            try:
                layer[:] = self._layer(self._held(scene, key), scene, key, bounds, shift_m)
            except RasterioError as error:
                self.close(scene)  # who asks again opens it again
                raise DataError(
                    f"{scene.assets[key].href}, band {key} of scene {scene.id}, cannot be read "
                    f"({error.__cause__ or error}); fetch the file again"
                ) from error
        return out

    def close(self, scene: Scene) -> None:
        """Closes the files of a scene that this thread has read."""
        for place in [place for place in list(self._opened) if place[:2] == (get_ident(), scene.id)]:
            self._opened.pop(place).close()

    def _held(self, scene: Scene, key: str) -> DatasetReader:
        """A file that stays open for this thread: opening one costs as much as reading a window."""
        place = get_ident(), scene.id, key
        if place not in self._opened:
            self._opened[place] = self._open(scene, key)
        return self._opened[place]

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

    def _layer(self, source: DatasetReader, scene: Scene, key: str, bounds: Bounds, shift_m: Shift) -> np.ndarray:
        moved = source.crs.to_epsg() != self.epsg
        if key == "CLASSI":
            bits = read_nearest(source, [1, 2, 3], self.epsg, bounds, shift_m)
            return ((bits > 0) * np.array([1, 2, 4], dtype=np.uint16)[:, None, None]).sum(axis=0, dtype=np.uint16)
        if key in CATEGORICAL:
            return read_nearest(source, [1], self.epsg, bounds, shift_m)[0]
        if moved or not nests_in_lattice(source.transform):
            t = source.transform
            where = f"EPSG:{source.crs.to_epsg()}, {t.a:g} m"
            self.warped[scene.id] = where if nests_in_lattice(t) else f"{where}, origin {t.c:g} {t.f:g}"
        return read_reflectance(source, [1], self.epsg, bounds, shift_m)[0]


def nests_in_lattice(t: Affine) -> bool:
    """Whether whole 10 m pixels of the lattice fill each pixel of a raster, of 10, 20 or 60 m."""
    return t.a == -t.e and t.a % RES_M == 0 and t.c % RES_M == t.f % RES_M == 0


def read_nearest(source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift) -> np.ndarray:
    """The source's pixel at the centre of every 10 m pixel, uint16 [bands, rows, columns]: exact where pixels nest."""
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
        if array.shape[1:] != (rows_in.size, cols_in.size):  # pixels of 20 or 60 m are repeated
            array = array[:, (row[rows_in] - top)[:, None], (col[cols_in] - left)[None, :]]
        out[:, rows_in[0] : rows_in[-1] + 1, cols_in[0] : cols_in[-1] + 1] = array
    return out


def read_reflectance(source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift) -> np.ndarray:
    """Reflectance of bounds, uint16 [bands, rows, columns]; 0 outside the source."""
    if source.crs.to_epsg() == epsg and nests_in_lattice(source.transform):
        if shift_m == NO_SHIFT:
            return read_nearest(source, bands, epsg, bounds, shift_m)
        if source.transform.a == RES_M:
            return _shifted(source, bands, bounds, shift_m)
    return resample(source, bands, epsg, bounds, shift_m, Resampling.cubic)


def _shifted(source: DatasetReader, bands: list[int], bounds: Bounds, shift_m: Shift) -> np.ndarray:
    rows, cols = bounds_shape(bounds)
    t = source.transform
    top, down = divmod(round((t.f - bounds[3] + shift_m[1]) / RES_M * MICRO), MICRO)
    left, across = divmod(round((bounds[0] - shift_m[0] - t.c) / RES_M * MICRO), MICRO)
    # The kernel takes lanczos.TAPS pixels from `top - lanczos.LOBES + 1` on.
    west, north = t.c + (left - lanczos.LOBES + 1) * RES_M, t.f - (top - lanczos.LOBES + 1) * RES_M
    around = (west, north - (rows + lanczos.TAPS - 1) * RES_M, west + (cols + lanczos.TAPS - 1) * RES_M, north)
    return lanczos.shift_subpixel(
        read_nearest(source, bands, source.crs.to_epsg(), around, NO_SHIFT), down / MICRO, across / MICRO
    )


def resample(
    source: DatasetReader, bands: list[int], epsg: int, bounds: Bounds, shift_m: Shift, how: Resampling
) -> np.ndarray:
    """uint16 [bands, rows, columns] of bounds, resampled once from wherever the source lies; 0 outside it.

    A transformer exact to 1e-6 pixel (0 is refused) and a fixed kernel: the result does not depend on how a tile is cut.
    """
    rows, cols = bounds_shape(bounds)
    with WarpedVRT(
        source,
        crs=f"EPSG:{epsg}",
        transform=Affine(RES_M, 0, bounds[0] - shift_m[0], 0, -RES_M, bounds[3] - shift_m[1]),
        height=rows,
        width=cols,
        resampling=how,
        src_nodata=0,
        nodata=0,
        tolerance=1e-6,
        XSCALE="1",
        YSCALE="1",
    ) as warped:
        return warped.read(bands)


def bounds_shape(bounds: Bounds) -> tuple[int, int]:
    """(rows, columns) of bounds at 10 m."""
    return round((bounds[3] - bounds[1]) / RES_M), round((bounds[2] - bounds[0]) / RES_M)


def window_bounds(tile: Tile, rows: slice, cols: slice) -> Bounds:
    """The bounds of rows and columns of a tile's 10 m raster."""
    west, north = tile.bounds[0], tile.bounds[3]
    return west + cols.start * RES_M, north - rows.stop * RES_M, west + cols.stop * RES_M, north - rows.start * RES_M
