"""What a chip's files are: the one place that the writer of the documents, the readers and the check agree on."""

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
# Of the 1 m images, and of the composites that they are matched to.
HR_BANDS = RGB
# Kinds of ISA, the bands of the fractions after the first, which is all of it.
ISA_KINDS = ("road", "building", "airport", "plaza", "sports", "industrial")


@dataclass(frozen=True)
class ChipRaster:
    """One of a chip's rasters.

    Attributes:
        title: what it shows.
        pixel_m: side of a pixel.
        dtype: numpy name of the type.
        nodata: the value of unknown pixels.
        bands: names of the bands; None for those that the config asks for, () for one band without a name.
    """

    title: str
    pixel_m: int
    dtype: str
    nodata: int
    bands: tuple[str, ...] | None

    def transform(self, minx: float, miny: float, chip_m: float) -> Affine:
        """The transform of a chip with this south-west corner."""
        return Affine(self.pixel_m, 0, minx, 0, -self.pixel_m, miny + chip_m)


CHIP_RASTERS = {
    "lr": ChipRaster("10 m Sentinel-2 composite, reflectance x 10000", 10, "uint16", 0, None),
    "hr": ChipRaster("1 m Jilin-1 image, reflectance x 10000", 1, "uint16", 0, HR_BANDS),
    "label": ChipRaster("1 m label: 0 not impervious, 1 impervious, 255 unknown", 1, "uint8", UNLABELLED, ()),
    "fraction": ChipRaster(
        "1 m covered area by kind, parts of 10,000", 1, "uint16", FRACTION_NODATA, ("isa", *ISA_KINDS)
    ),
}

T = TypeVar("T")
U = TypeVar("U")


def map_ahead(function: Callable[[T], U], items: Iterable[T], workers: int) -> Iterator[U]:
    """function(item) of every item, in their order, by threads that are at most two items each ahead of the caller."""
    left = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        begun = [pool.submit(function, item) for item in islice(left, 2 * workers)]
        try:
            while begun:
                done = begun.pop(0).result()
                begun += [pool.submit(function, item) for item in islice(left, 1)]
                yield done
        finally:
            for each in begun:
                each.cancel()
