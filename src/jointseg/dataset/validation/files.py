"""Checks of the files of chips: there, whole, in the form of the contract, on one grid."""

from collections.abc import Iterator

from affine import Affine

from jointseg.dataset.contract import CHIP_RASTERS, LATTICE_M
from jointseg.dataset.validation.base import CHIP_CHECKS, FOLDER_CHECKS, Chip, Folder, Violation, check
from jointseg.raster.cog import BLOCK_PX

_AGAIN = "make the chips again, or restore the file"
_FORM = "write it again as the step `chips` does"


@check(CHIP_CHECKS, "file-missing", "a file that the index names is not there", _AGAIN)
def missing(chip: Chip) -> Iterator[Violation]:
    for kind, found in chip.rasters.items():
        if found.digest is None:
            yield chip.fault(kind, found.error, "a raster")


@check(CHIP_CHECKS, "file-unreadable", "a file is no raster", _AGAIN)
def unreadable(chip: Chip) -> Iterator[Violation]:
    for kind, found in chip.rasters.items():
        if found.digest is not None and not found.opened:
            yield chip.fault(kind, f"{found.size} bytes: {found.error}", "a GeoTIFF")


@check(CHIP_CHECKS, "file-short", "a file was cut short or is damaged: its pixels cannot be read", _AGAIN)
def short(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        if found.error:
            yield chip.fault(kind, f"{found.size} bytes: {found.error}", "pixels that can be read")


@check(
    FOLDER_CHECKS,
    "file-superfluous",
    "a file of chips that the index does not name",
    "delete it, or put it into the index",
)
def superfluous(folder: Folder) -> Iterator[Violation]:
    if folder.index is None:
        return
    named = {f"chips/{path}" for kind in CHIP_RASTERS if kind in folder.index for path in folder.index[kind]}
    for file in sorted(folder.files - named):
        if file.startswith("chips/"):
            yield Violation("", file, "there", "named in index.parquet, or not there")


@check(CHIP_CHECKS, "cog", "a file is no cloud-optimised GeoTIFF", _FORM)
def cog(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        if found.facts["layout"] != "COG":
            yield chip.fault(kind, f"layout {found.facts['layout']}", "COG")


@check(CHIP_CHECKS, "block-size", "the blocks of a file have another size", _FORM)
def block(chip: Chip) -> Iterator[Violation]:
    for kind, wanted, found in chip.opened():
        side = chip.chip_m // wanted.pixel_m
        # One block may hold the whole chip: its sides are multiples of 16 in TIFF, and at least 128 in a COG.
        whole = max(128, -(-side // 16) * 16)
        rows, cols = found.facts["block"]
        if rows != cols or rows not in ({BLOCK_PX, whole} if whole <= 2 * BLOCK_PX else {BLOCK_PX}):
            yield chip.fault(kind, f"blocks of {rows} x {cols} px", f"{BLOCK_PX} x {BLOCK_PX}, or one for the chip")


@check(CHIP_CHECKS, "compression", "a file is not compressed by deflate", _FORM)
def compression(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        if found.facts["compression"] != "DEFLATE":
            yield chip.fault(kind, str(found.facts["compression"]), "DEFLATE")


@check(CHIP_CHECKS, "dtype", "pixels have another type", _FORM)
def dtype(chip: Chip) -> Iterator[Violation]:
    for kind, wanted, found in chip.opened():
        if found.facts["dtype"] != wanted.dtype:
            yield chip.fault(kind, found.facts["dtype"], wanted.dtype)


@check(CHIP_CHECKS, "band-count", "a file has more or fewer bands", _FORM)
def band_count(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        wanted = len(chip.names(kind)) or 1
        if found.facts["count"] != wanted:
            yield chip.fault(kind, f"{found.facts['count']} bands", str(wanted))


@check(CHIP_CHECKS, "band-names", "bands have other names, or another order", _FORM)
def band_names(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        wanted, names = chip.names(kind), found.facts["names"]
        if wanted and len(names) == len(wanted) and names != wanted:
            yield chip.fault(kind, ", ".join(map(str, names)), ", ".join(wanted))


@check(CHIP_CHECKS, "nodata", "a file declares another value as unknown, or none", _FORM)
def nodata(chip: Chip) -> Iterator[Violation]:
    for kind, wanted, found in chip.opened():
        if found.facts["nodata"] != wanted.nodata:
            yield chip.fault(kind, f"nodata {found.facts['nodata']}", str(wanted.nodata))


@check(CHIP_CHECKS, "size", "a file has another number of rows or columns", _AGAIN)
def size(chip: Chip) -> Iterator[Violation]:
    for kind, wanted, found in chip.opened():
        side = chip.chip_m // wanted.pixel_m
        if found.facts["shape"] != (side, side):
            rows, cols = found.facts["shape"]
            yield chip.fault(kind, f"{rows} x {cols} px", f"{side} x {side}")


@check(CHIP_CHECKS, "crs", "a file lies in another UTM zone than the index says", _AGAIN)
def crs(chip: Chip) -> Iterator[Violation]:
    for kind, _, found in chip.opened():
        if found.facts["crs"] != chip.row["epsg"]:
            yield chip.fault(kind, f"EPSG:{found.facts['crs']}", f"EPSG:{chip.row['epsg']}")


@check(CHIP_CHECKS, "lattice", "pixels of another size, or off the lattice of 10 m", _AGAIN)
def lattice(chip: Chip) -> Iterator[Violation]:
    for kind, wanted, found in chip.opened():
        if not _on_lattice(found.transform, wanted.pixel_m):
            told = f"pixel {found.transform.a:g} x {found.transform.e:g} m from {_corner(found.transform)}"
            yield chip.fault(kind, told, f"{wanted.pixel_m} x -{wanted.pixel_m} m from multiples of {LATTICE_M} m")


@check(CHIP_CHECKS, "grid", "the files of a chip do not start at one corner", _AGAIN)
def grid(chip: Chip) -> Iterator[Violation]:
    corners = _corners(chip)
    if len(set(corners.values())) > 1:
        for kind, corner in corners.items():
            if corner != _wanted(chip):
                yield chip.fault(kind, f"upper left corner {corner}", _wanted(chip))


@check(
    CHIP_CHECKS, "place", "the files of a chip lie elsewhere than the index says", "make the index again from the chips"
)
def place(chip: Chip) -> Iterator[Violation]:
    corners = _corners(chip)
    if len(set(corners.values())) == 1 and (found := next(iter(corners.values()))) != _wanted(chip):
        yield Violation(
            chip.id, "index.parquet", f"upper left corner {_wanted(chip)}", f"{found}, as the files have it"
        )


def _on_lattice(transform: Affine, pixel_m: int) -> bool:
    a, b, c, d, e, f = tuple(transform)[:6]
    return (a, b, d, e) == (pixel_m, 0, 0, -pixel_m) and c % LATTICE_M == 0 and f % LATTICE_M == 0


def _corners(chip: Chip) -> dict[str, str]:
    """The corners of the files that lie on the lattice."""
    return {
        kind: _corner(found.transform)
        for kind, wanted, found in chip.opened()
        if _on_lattice(found.transform, wanted.pixel_m)
    }


def _wanted(chip: Chip) -> str:
    return f"{chip.row['minx']:.10g}, {chip.row['miny'] + chip.chip_m:.10g}"


def _corner(transform: Affine) -> str:
    _, _, x, _, _, y = tuple(transform)[:6]
    return f"{x:.10g}, {y:.10g}"
