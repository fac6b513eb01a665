"""Checks of the chips' files: presence, readability, format and grid."""

from collections.abc import Iterator

from affine import Affine

from jointseg.dataset.contract import CHIP_RASTERS, LATTICE_M
from jointseg.dataset.validation.base import CHIP_CHECKS, FOLDER_CHECKS, INDEX, Chip, Folder, Violation, check
from jointseg.raster.cog import BLOCK_PX

_REBUILD = "rerun step `chips`, or restore the file"
_REWRITE = "rewrite the file in the format of step `chips`"


@check(CHIP_CHECKS, "file-missing", "a file of the index is missing", _REBUILD)
def missing(chip: Chip) -> Iterator[Violation]:
    for kind, raster in chip.rasters.items():
        if raster.digest is None:
            yield chip.violation(kind, raster.error, "a raster")


@check(CHIP_CHECKS, "file-unreadable", "a file is not a raster", _REBUILD)
def unreadable(chip: Chip) -> Iterator[Violation]:
    for kind, raster in chip.rasters.items():
        if raster.digest is not None and not raster.opened:
            yield chip.violation(kind, f"{raster.size} bytes: {raster.error}", "a GeoTIFF")


@check(CHIP_CHECKS, "file-truncated", "a file is truncated or damaged: its pixels cannot be read", _REBUILD)
def truncated(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        if raster.error:
            yield chip.violation(kind, f"{raster.size} bytes: {raster.error}", "readable pixels")


@check(
    FOLDER_CHECKS, "file-unlisted", "a file in chips/ is not in the index", "delete the file, or add it to the index"
)
def unlisted(folder: Folder) -> Iterator[Violation]:
    if folder.index is None:
        return
    indexed = {f"chips/{path}" for kind in CHIP_RASTERS if kind in folder.index for path in folder.index[kind]}
    for file in sorted(folder.files - indexed):
        if file.startswith("chips/"):
            yield Violation("", file, "present", f"listed in {INDEX}, or absent")


@check(CHIP_CHECKS, "cog", "a file is not a cloud-optimised GeoTIFF", _REWRITE)
def cog(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        if raster.profile["layout"] != "COG":
            yield chip.violation(kind, f"layout {raster.profile['layout']}", "COG")


@check(CHIP_CHECKS, "block-size", "the blocks of a file have an unexpected size", _REWRITE)
def block(chip: Chip) -> Iterator[Violation]:
    for kind, expected, raster in chip.opened():
        side = chip.chip_m // expected.pixel_m
        # One block may contain the entire chip: its sides are multiples of 16 in TIFF, and at least 128 in a COG.
        single = max(128, -(-side // 16) * 16)
        rows, cols = raster.profile["block"]
        if rows != cols or rows not in ({BLOCK_PX, single} if single <= 2 * BLOCK_PX else {BLOCK_PX}):
            yield chip.violation(kind, f"blocks of {rows} x {cols} px", f"{BLOCK_PX} x {BLOCK_PX}, or a single block")


@check(CHIP_CHECKS, "compression", "a file is not compressed with deflate", _REWRITE)
def compression(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        if raster.profile["compression"] != "DEFLATE":
            yield chip.violation(kind, str(raster.profile["compression"]), "DEFLATE")


@check(CHIP_CHECKS, "dtype", "pixels have an unexpected type", _REWRITE)
def dtype(chip: Chip) -> Iterator[Violation]:
    for kind, expected, raster in chip.opened():
        if raster.profile["dtype"] != expected.dtype:
            yield chip.violation(kind, raster.profile["dtype"], expected.dtype)


@check(CHIP_CHECKS, "band-count", "a file has an unexpected number of bands", _REWRITE)
def band_count(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        expected = len(chip.names(kind)) or 1
        if raster.profile["count"] != expected:
            yield chip.violation(kind, f"{raster.profile['count']} bands", str(expected))


@check(CHIP_CHECKS, "band-names", "bands have unexpected names or an unexpected order", _REWRITE)
def band_names(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        expected, names = chip.names(kind), raster.profile["names"]
        if expected and len(names) == len(expected) and names != expected:
            yield chip.violation(kind, ", ".join(map(str, names)), ", ".join(expected))


@check(CHIP_CHECKS, "nodata", "a file declares an unexpected nodata value, or none", _REWRITE)
def nodata(chip: Chip) -> Iterator[Violation]:
    for kind, expected, raster in chip.opened():
        if raster.profile["nodata"] != expected.nodata:
            yield chip.violation(kind, f"nodata {raster.profile['nodata']}", str(expected.nodata))


@check(CHIP_CHECKS, "size", "a file has an unexpected number of rows or columns", _REBUILD)
def size(chip: Chip) -> Iterator[Violation]:
    for kind, expected, raster in chip.opened():
        side = chip.chip_m // expected.pixel_m
        if raster.profile["shape"] != (side, side):
            rows, cols = raster.profile["shape"]
            yield chip.violation(kind, f"{rows} x {cols} px", f"{side} x {side}")


@check(CHIP_CHECKS, "crs", "a file is not in the UTM zone of the index", _REBUILD)
def crs(chip: Chip) -> Iterator[Violation]:
    for kind, _, raster in chip.opened():
        if raster.profile["crs"] != chip.row["epsg"]:
            yield chip.violation(kind, f"EPSG:{raster.profile['crs']}", f"EPSG:{chip.row['epsg']}")


@check(CHIP_CHECKS, "lattice", "pixels have an unexpected size or are off the 10 m lattice", _REBUILD)
def lattice(chip: Chip) -> Iterator[Violation]:
    for kind, expected, raster in chip.opened():
        if not _on_lattice(raster.transform, expected.pixel_m):
            value = f"pixel {raster.transform.a:g} x {raster.transform.e:g} m from {_corner(raster.transform)}"
            pixel = f"{expected.pixel_m} x -{expected.pixel_m} m"
            yield chip.violation(kind, value, f"{pixel} from multiples of {LATTICE_M} m")


@check(CHIP_CHECKS, "grid", "the files of a chip have different upper left corners", _REBUILD)
def grid(chip: Chip) -> Iterator[Violation]:
    corners = _corners(chip)
    if len(set(corners.values())) > 1:
        for kind, corner in corners.items():
            if corner != _indexed_corner(chip):
                yield chip.violation(kind, f"upper left corner {corner}", _indexed_corner(chip))


@check(CHIP_CHECKS, "position", "the files of a chip have another position than the index", "rebuild the index")
def position(chip: Chip) -> Iterator[Violation]:
    corners = _corners(chip)
    if len(set(corners.values())) == 1 and (corner := next(iter(corners.values()))) != _indexed_corner(chip):
        yield Violation(chip.id, INDEX, f"upper left corner {_indexed_corner(chip)}", f"{corner}, as in the files")


def _on_lattice(transform: Affine, pixel_m: int) -> bool:
    a, b, c, d, e, f = tuple(transform)[:6]
    return (a, b, d, e) == (pixel_m, 0, 0, -pixel_m) and c % LATTICE_M == 0 and f % LATTICE_M == 0


def _corners(chip: Chip) -> dict[str, str]:
    """Return the corners of the files that are on the lattice."""
    return {
        kind: _corner(raster.transform)
        for kind, expected, raster in chip.opened()
        if _on_lattice(raster.transform, expected.pixel_m)
    }


def _indexed_corner(chip: Chip) -> str:
    return f"{chip.row['minx']:.10g}, {chip.row['miny'] + chip.chip_m:.10g}"


def _corner(transform: Affine) -> str:
    _, _, x, _, _, y = tuple(transform)[:6]
    return f"{x:.10g}, {y:.10g}"
