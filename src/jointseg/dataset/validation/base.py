"""Basis of the validation: violations, the registry of checks, the dataset's folder, and a chip's rasters."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from jointseg.dataset.band_statistics import BandSums
from jointseg.dataset.contract import CHIP_RASTERS, ChipRaster
from jointseg.dataset.index_schema import COLUMNS

INDEX = "index.parquet"
_REQUIRED = ["sample_id", "reach", "epsg", "minx", "miny"]


class Violation(NamedTuple):
    """A violation of the contract: chip (empty for the dataset), file in the folder, actual and expected value."""

    chip: str
    file: str
    value: str
    expected: str


@dataclass(frozen=True, order=True)
class Finding:
    """A violation with the name of its check and the remedy."""

    check: str
    chip: str
    file: str
    value: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """A registered check; its theme is the name of its module, its summary describes the violation."""

    name: str
    theme: str
    summary: str
    remedy: str
    function: Callable[..., Iterator[Violation]]

    def run(self, *arguments: Any) -> list[Finding]:
        return [Finding(self.name, *violation, self.remedy) for violation in self.function(*arguments)]


FOLDER_CHECKS: dict[str, Check] = {}  # functions of a Folder
CHIP_CHECKS: dict[str, Check] = {}  # functions of a Chip, run in threads
DATASET_CHECKS: dict[str, Check] = {}  # functions of a Folder and the summaries of all chips, by id
_Function = Callable[..., Iterator[Violation]]


def check(registry: dict[str, Check], name: str, summary: str, remedy: str) -> Callable[[_Function], _Function]:
    """Register the decorated function as a check."""

    def register(function: _Function) -> _Function:
        if name in {**FOLDER_CHECKS, **CHIP_CHECKS, **DATASET_CHECKS}:
            raise ValueError(f"two checks are named {name}")
        theme = function.__module__.rpartition(".")[2]
        registry[name] = Check(name, theme, summary, remedy, function)
        return function

    return register


@dataclass
class Folder:
    """A dataset's folder with its readable tables and documents."""

    path: Path
    index: pd.DataFrame | None = None  # index.parquet; None if it is missing or unreadable
    # Samples, pairs and the indexes of the reaches, by path in the folder
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)  # content of JSON documents, checksums and card, by name
    unreadable: list[Violation] = field(default_factory=list)  # a violation for each unreadable table or document

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows of the index with id, reach and corner, the first of each id; non-numeric numbers are NaN."""
        if self.index is None or not set(_REQUIRED) <= set(self.index):
            return pd.DataFrame({name: [] for name in _REQUIRED})
        table = self.index.copy()
        for name in table.columns.intersection(list(COLUMNS)):
            if COLUMNS[name].dtype in ("int", "float"):
                table[name] = pd.to_numeric(table[name], errors="coerce")
        table = table.dropna(subset=_REQUIRED).drop_duplicates("sample_id")
        return table.astype({"sample_id": str, "reach": str, "epsg": int})

    @cached_property
    def files(self) -> set[str]:
        """Relative paths of all files in the folder, except those of Snakemake."""
        files = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith(".snakemake"))
        return {path.relative_to(self.path).as_posix() for path in files}

    @cached_property
    def chip_m(self) -> int:
        """Side of a chip: the median of the outlines, rounded to 10 m."""
        if not isinstance(self.table, gpd.GeoDataFrame) or self.table.crs is None:
            return 0
        sides: list[float] = []
        for epsg, rows in self.table.groupby("epsg"):
            if is_utm(epsg):
                bounds = rows.to_crs(int(epsg)).bounds
                sides += list(bounds["maxx"] - bounds["minx"])
        return 10 * round(float(np.nanmedian(sides)) / 10) if np.isfinite(sides).any() else 0

    def document(self, name: str) -> dict[str, Any]:
        return self.documents.get(name) or {}


@dataclass
class RasterFile:
    """One raster of a chip as found in the folder."""

    file: str  # its path in the dataset's folder
    digest: str | None = None  # sha256; None if the file is missing
    size: int = 0
    error: str = ""  # the reason why it cannot be opened, or its pixels cannot be read
    opened: bool = False
    # Layout, compression, block, dtype, count, names, nodata, shape, crs
    profile: Mapping[str, Any] = field(default_factory=dict)
    transform: Affine = field(default_factory=Affine.identity)
    pixels: np.ndarray | None = None  # [bands, rows, columns]


class ChipSummary(NamedTuple):
    """Results of a chip for the checks of the entire dataset."""

    digests: dict[str, str]  # sha256 by file
    images: dict[str, str]  # digest of the pixels of lr and hr
    sums: dict[str, BandSums]  # of lr and hr, for the statistics
    isa_fraction: float  # fraction of impervious pixels among the labelled pixels; NaN without any


@dataclass
class Chip:
    """A row of the index with its rasters as found in the folder."""

    row: dict[str, Any]  # of the index
    chip_m: int
    bands: tuple[str, ...]  # expected names of the bands of the 10 m images
    rasters: dict[str, RasterFile]  # by kind, as far as the index names them
    alignment: tuple[float, float, int, int] | None = None  # of its images, once computed (see `chip_alignment.align`)

    @property
    def id(self) -> str:
        return str(self.row["sample_id"])

    def violation(self, kind: str, value: str, expected: str) -> Violation:
        return Violation(self.id, self.rasters[kind].file, value, expected)

    def names(self, kind: str) -> tuple[str, ...]:
        names = CHIP_RASTERS[kind].bands
        return self.bands if names is None else names

    def opened(self) -> Iterator[tuple[str, ChipRaster, RasterFile]]:
        """Yield (kind, expected format, raster) of the rasters that could be opened."""
        return ((kind, CHIP_RASTERS[kind], raster) for kind, raster in self.rasters.items() if raster.opened)

    def pixels(self, kind: str) -> np.ndarray | None:
        """Return the pixels of a kind if they have the expected shape and type, else None."""
        raster = self.rasters.get(kind)
        if raster is None or raster.pixels is None:
            return None
        side = self.chip_m // CHIP_RASTERS[kind].pixel_m
        shape = (len(self.names(kind)) or 1, side, side)
        as_expected = raster.pixels.shape == shape and raster.pixels.dtype == CHIP_RASTERS[kind].dtype
        return raster.pixels if as_expected else None


def is_utm(epsg: float) -> bool:
    """Return whether a code is a UTM zone on WGS 84."""
    return epsg // 100 in (326, 327) and 1 <= epsg % 100 <= 60


def read_raster(root: Path, name: str) -> RasterFile:
    """Return one raster, from one reading of its bytes."""
    file = f"chips/{name}"
    try:
        content = (root / file).read_bytes()
    except OSError as error:
        return RasterFile(file, error=str(error.strerror))
    raster = RasterFile(file, sha256(content).hexdigest(), len(content))
    try:
        with MemoryFile(content) as memory, memory.open() as source:
            raster.opened = True
            raster.transform = source.transform
            raster.profile = {
                "layout": source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"),
                "compression": source.compression.value if source.compression else None,
                "block": source.block_shapes[0],
                "dtype": source.dtypes[0],
                "count": source.count,
                "names": tuple(source.descriptions),
                "nodata": source.nodata,
                "shape": source.shape,
                "crs": source.crs.to_epsg() if source.crs else None,
            }
            raster.pixels = source.read()
    except RasterioError as error:
        raster.error = " ".join(str(error.__cause__ or error).split())
    return raster
