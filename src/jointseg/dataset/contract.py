"""The contract of a chip's rasters, shared by writers, readers and the validation."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from affine import Affine

from jointseg.raster.bands import RGB

SPLITS = ("train", "validation", "test")
REFLECTANCE_PER_DN = 1e-4
UNLABELLED, FRACTION_NODATA, FRACTION_SCALE = 255, 65_535, 10_000
LATTICE_M = 10
# Bands of the 1 m images, and of the composites that they are matched to.
HR_BANDS = RGB
# Kinds of ISA: the bands of the fraction raster after the first, which is total ISA.
ISA_KINDS = ("road", "building", "airport", "plaza", "sports", "industrial")


@dataclass(frozen=True)
class ChipRaster:
    """The format of one of a chip's rasters."""

    title: str
    pixel_m: int
    dtype: str
    nodata: int
    # Names of the bands; None for the bands of the config, () for one band without a name
    bands: tuple[str, ...] | None

    def transform(self, minx: float, miny: float, chip_m: float) -> Affine:
        """Return the transform of a chip with this south-west corner."""
        return Affine(self.pixel_m, 0, minx, 0, -self.pixel_m, miny + chip_m)


CHIP_RASTERS = {
    "lr": ChipRaster("10 m Sentinel-2 composite, reflectance x 10000", 10, "uint16", 0, None),
    "hr": ChipRaster("1 m Jilin-1 image, reflectance x 10000", 1, "uint16", 0, HR_BANDS),
    "label": ChipRaster("1 m label: 0 not impervious, 1 impervious, 255 unlabelled", 1, "uint8", UNLABELLED, ()),
    "fraction": ChipRaster(
        "1 m impervious fraction by kind, parts of 10,000", 1, "uint16", FRACTION_NODATA, ("isa", *ISA_KINDS)
    ),
}

T = TypeVar("T")
U = TypeVar("U")


def map_ahead(function: Callable[[T], U], items: Iterable[T], workers: int) -> Iterator[U]:
    """Yield function(item) in the order of the items, from threads that run at most two items each ahead."""
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(function, item) for item in islice(remaining, 2 * workers)]
        try:
            while running:
                result = running.pop(0).result()
                running += [pool.submit(function, item) for item in islice(remaining, 1)]
                yield result
        finally:
            for future in running:
                future.cancel()
