"""What the checks of a dataset have in common: faults, the registry, the folder, a chip as it was read."""

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
_NEEDED = ["sample_id", "reach", "epsg", "minx", "miny"]


class Violation(NamedTuple):
    """What a check found: the chip (empty for the whole dataset), the file in the folder, its value, what it should be."""

    chip: str
    file: str
    value: str
    expected: str


@dataclass(frozen=True, order=True)
class Finding:
    """A fault with the name of its check and what to do about it."""

    check: str
    chip: str
    file: str
    value: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """A registered check: its theme (the module's name), what it says when it finds something, what to do, the function."""

    name: str
    theme: str
    about: str
    remedy: str
    function: Callable[..., Iterator[Violation]]

    def run(self, *given: Any) -> list[Finding]:
        return [Finding(self.name, *fault, self.remedy) for fault in self.function(*given)]


FOLDER_CHECKS: dict[str, Check] = {}  # take a Folder
CHIP_CHECKS: dict[str, Check] = {}  # take a Chip, run in threads
DATASET_CHECKS: dict[str, Check] = {}  # take a Folder and what all chips had to tell, by id
_Function = Callable[..., Iterator[Violation]]


def check(registry: dict[str, Check], name: str, about: str, remedy: str) -> Callable[[_Function], _Function]:
    """Registers a check."""

    def register(function: _Function) -> _Function:
        if name in {**FOLDER_CHECKS, **CHIP_CHECKS, **DATASET_CHECKS}:
            raise ValueError(f"two checks are named {name}")
        theme = function.__module__.rpartition(".")[2]
        registry[name] = Check(name, theme, about, remedy, function)
        return function

    return register


@dataclass
class Folder:
    """A dataset's folder, and what its tables and documents hold.

    Attributes:
        path: of the folder.
        index: index.parquet; None where it is missing or cannot be read.
        tables: samples, pairs and the indexes of the reaches, by their paths in the folder, as far as they can be read.
        documents: what JSON documents, checksums and card say, by name, as far as they can be read.
        unreadable: a fault for each that cannot.
    """

    path: Path
    index: pd.DataFrame | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    unreadable: list[Violation] = field(default_factory=list)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The index's rows with an id, a reach and a corner, the first of each id; what is no number is missing."""
        if self.index is None or not set(_NEEDED) <= set(self.index):
            return pd.DataFrame({name: [] for name in _NEEDED})
        kept = self.index.copy()
        for name in kept.columns.intersection(list(COLUMNS)):
            if COLUMNS[name].dtype in ("int", "float"):
                kept[name] = pd.to_numeric(kept[name], errors="coerce")
        kept = kept.dropna(subset=_NEEDED).drop_duplicates("sample_id")
        return kept.astype({"sample_id": str, "reach": str, "epsg": int})

    @cached_property
    def files(self) -> set[str]:
        """Every file below the folder, by its path in it; what Snakemake keeps there is left out."""
        found = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith(".snakemake"))
        return {path.relative_to(self.path).as_posix() for path in found}

    @cached_property
    def chip_m(self) -> int:
        """Side of a chip: the median of the outlines, to 10 m."""
        if not isinstance(self.table, gpd.GeoDataFrame) or self.table.crs is None:
            return 0
        sides: list[float] = []
        for epsg, rows in self.table.groupby("epsg"):
            if is_utm(epsg):
                bounds = rows.to_crs(int(epsg)).bounds
                sides += list(bounds["maxx"] - bounds["minx"])
        return 10 * round(float(np.nanmedian(sides)) / 10) if np.isfinite(sides).any() else 0

    def document(self, name: str) -> dict[str, Any]:
        """A JSON document, empty where there is none."""
        return self.documents.get(name) or {}


@dataclass
class RasterFile:
    """One raster of a chip as it was found.

    Attributes:
        file: its path in the dataset's folder.
        digest: sha256; None where there is no file.
        error: why it cannot be opened, or its pixels not be read.
        opened: whether it could be opened.
        facts: driver, layout, compression, block, dtype, count, names, nodata, shape, CRS.
        pixels: [bands, rows, columns].
    """

    file: str
    digest: str | None = None
    size: int = 0
    error: str = ""
    opened: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    transform: Affine = field(default_factory=Affine.identity)
    pixels: np.ndarray | None = None


class ChipSummary(NamedTuple):
    """What a chip tells the checks of the whole dataset.

    Attributes:
        digests: sha256 by file.
        pictures: digest of the pixels of lr and hr.
        sums: of lr and hr, for the statistics.
        share: of impervious pixels among the labelled ones; NaN without any.
    """

    digests: dict[str, str]
    pictures: dict[str, str]
    sums: dict[str, BandSums]
    share: float


@dataclass
class Chip:
    """A row of the index with its rasters as they were found.

    Attributes:
        row: of the index.
        chip_m: side that a chip of this dataset has.
        bands: names that the 10 m images of this dataset have.
        rasters: by kind, those that the index names.
        fit: how its images fit, once reckoned (see alignment).
    """

    row: dict[str, Any]
    chip_m: int
    bands: tuple[str, ...]
    rasters: dict[str, RasterFile]
    fit: tuple[float, float, int, int] | None = None

    @property
    def id(self) -> str:
        return str(self.row["sample_id"])

    def fault(self, kind: str, value: str, expected: str) -> Violation:
        return Violation(self.id, self.rasters[kind].file, value, expected)

    def names(self, kind: str) -> tuple[str, ...]:
        """The names that the bands of a kind should have."""
        wanted = CHIP_RASTERS[kind].bands
        return self.bands if wanted is None else wanted

    def opened(self) -> Iterator[tuple[str, ChipRaster, RasterFile]]:
        """What could be opened, by kind."""
        return ((name, CHIP_RASTERS[name], each) for name, each in self.rasters.items() if each.opened)

    def pixels(self, kind: str) -> np.ndarray | None:
        """The pixels of a kind, where their number, type and bands are as they should be."""
        found = self.rasters.get(kind)
        if found is None or found.pixels is None:
            return None
        side = self.chip_m // CHIP_RASTERS[kind].pixel_m
        shape = (len(self.names(kind)) or 1, side, side)
        sound = found.pixels.shape == shape and found.pixels.dtype == CHIP_RASTERS[kind].dtype
        return found.pixels if sound else None


def is_utm(epsg: float) -> bool:
    """Whether a code is a UTM zone on WGS 84."""
    return epsg // 100 in (326, 327) and 1 <= epsg % 100 <= 60


def read_raster(root: Path, name: str) -> RasterFile:
    """One raster, from one reading of its bytes."""
    file = f"chips/{name}"
    try:
        content = (root / file).read_bytes()
    except OSError as error:
        return RasterFile(file, error=str(error.strerror))
    found = RasterFile(file, sha256(content).hexdigest(), len(content))
    try:
        with MemoryFile(content) as memory, memory.open() as source:
            found.opened = True
            found.transform = source.transform
            found.facts = {
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
            found.pixels = source.read()
    except RasterioError as error:
        found.error = " ".join(str(error.__cause__ or error).split())
    return found
