"""Checks of what chips hold: reflectances, the two images against each other, labels and fractions."""

from collections.abc import Iterator

import numpy as np

from jointseg.dataset.chip_alignment import MAX_SHIFT_M, align
from jointseg.dataset.contract import CHIP_RASTERS, FRACTION_NODATA, FRACTION_SCALE, UNLABELLED
from jointseg.dataset.validation.base import CHIP_CHECKS, Chip, Violation, check
from jointseg.raster.bands import COMPOSITE_BANDS, count_composite_bands

BRIGHT_DN, DARK_DN = 16_000, 30  # reflectance of 1.6, and of 0.003
BRIGHT_SHARE = 0.01
CLIPPED_SHARE, CLIPPED_PX = 0.03, 25
# Ground that was built on between the two dates fits nowhere well: it is not misaligned.
MISALIGNED_M, BETTER, ALIKE = 6, 0.05, 0.8
UNLIKE = 0.2
SHARE_TOLERANCE = 1e-6
ROUNDING = 3  # parts of 10,000: each of two bands is rounded
STRAY_SHARE = 0.001  # of pixels whose label and fraction differ: edges through centres

_CHIPS = "make the chips again"
_SOURCE = "look at the source of this chip; make the chips again or leave it out"
_IMAGES = ("lr", "hr")


@check(CHIP_CHECKS, "all-unknown", "a band has no known pixel", _SOURCE)
def all_unknown(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        if not band.any() and name in COMPOSITE_BANDS:  # no date may have seen a chip whole
            yield chip.fault(kind, f"band {name}: all {band.size} px unknown", "known pixels")


@check(CHIP_CHECKS, "part-unknown", "pixels are unknown in some bands only", _CHIPS)
def part_unknown(chip: Chip) -> Iterator[Violation]:
    for kind in _IMAGES:
        if (pixels := chip.pixels(kind)) is not None:
            known = pixels[: count_composite_bands(chip.names(kind)) or None] != 0
            mixed = int((known.any(axis=0) & ~known.all(axis=0)).sum())
            if mixed and known.any(axis=(1, 2)).all():
                yield chip.fault(kind, f"{mixed} px", "all bands known or none: a dark pixel is at least 1")


@check(CHIP_CHECKS, "constant", "all known pixels of a band are equal", _SOURCE)
def constant(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        known = band[band != 0]
        if known.size and known.min() == known.max():
            yield chip.fault(kind, f"band {name}: {known[0]} everywhere", "an image")


@check(CHIP_CHECKS, "range", "reflectance is out of range: another scale, or no reflectance", _CHIPS)
def out_of_range(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        known = band[band != 0]
        if not known.size:
            continue
        bright = float(np.mean(known > BRIGHT_DN))
        if bright > BRIGHT_SHARE:
            yield chip.fault(kind, f"band {name}: {bright:.1%} of px above {BRIGHT_DN}", f"at most {BRIGHT_SHARE:.0%}")
        elif known.max() < DARK_DN:
            yield chip.fault(kind, f"band {name}: at most {known.max()}", f"reflectance x 10000, {DARK_DN} somewhere")


@check(CHIP_CHECKS, "clipped", "many pixels have the largest value of the band: it was clipped", _SOURCE)
def clipped(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        top = band.max()
        count, known = int((band == top).sum()), int(np.count_nonzero(band))
        if top and band[band != 0].min() < top and count >= CLIPPED_PX and count / known > CLIPPED_SHARE:
            yield chip.fault(kind, f"band {name}: {count / known:.1%} of px are {top}", f"at most {CLIPPED_SHARE:.0%}")


@check(
    CHIP_CHECKS,
    "misaligned",
    "the 1 m image fits the 10 m image better elsewhere",
    "register the chip again, or leave it out",
)
def misaligned(chip: Chip) -> Iterator[Violation]:
    if (fit := _fit(chip)) and _is_misaligned(*fit):
        here, best, east, north = fit
        told = f"correlation {here:.2f}, but {best:.2f} when moved {east:+d} m east and {north:+d} m north"
        yield chip.fault("hr", told, f"the best within {MISALIGNED_M} m of its place")


@check(
    CHIP_CHECKS,
    "unlike",
    "the 1 m image does not show what the 10 m image shows",
    "pair the chip again, or leave it out",
)
def unlike(chip: Chip) -> Iterator[Violation]:
    if (fit := _fit(chip)) and not _is_misaligned(*fit) and fit[0] < UNLIKE:
        told = f"correlation {fit[0]:.2f}, at most {fit[1]:.2f} within {MAX_SHIFT_M} m"
        yield chip.fault("hr", told, f"{UNLIKE} or more")


@check(CHIP_CHECKS, "label-code", "a label holds other codes than 0, 1 and 255", "make the labels and the chips again")
def label_code(chip: Chip) -> Iterator[Violation]:
    if (label := chip.pixels("label")) is not None:
        codes = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
        if strange := sorted(set(codes.tolist()) - {0, 1, UNLABELLED}):
            count = int(np.isin(label, strange).sum())
            yield chip.fault("label", f"{count} px of {', '.join(map(str, strange))}", "0, 1 or 255")


@check(CHIP_CHECKS, "label-unknown", "a label is unknown everywhere", "correct the label, or leave the chip out")
def label_unknown(chip: Chip) -> Iterator[Violation]:
    if (label := chip.pixels("label")) is not None and (label == UNLABELLED).all():
        yield chip.fault("label", f"all {label.size} px are 255", "labelled pixels")


@check(CHIP_CHECKS, "isa-share", "the share of ISA in the index is not that of the label", "make the index again")
def isa_fraction(chip: Chip) -> Iterator[Violation]:
    label, told = chip.pixels("label"), chip.row.get("isa_fraction")
    if label is None or told is None:
        return
    share = share_of(label)
    if not (np.isnan(told) and np.isnan(share)) and not abs(told - share) <= SHARE_TOLERANCE:
        yield Violation(chip.id, "index.parquet", f"isa_fraction {told:.6f}", f"{share:.6f}, as the label has it")


@check(CHIP_CHECKS, "fraction-range", "a fraction is above 10,000", "make the labels and the chips again")
def fraction_range(chip: Chip) -> Iterator[Violation]:
    if (part := chip.pixels("fraction")) is not None:
        strange = part[(part > FRACTION_SCALE) & (part != FRACTION_NODATA)]
        if strange.size:
            yield chip.fault("fraction", f"{strange.size} values up to {strange.max()}", "0 to 10000, or 65535")


@check(
    CHIP_CHECKS, "fraction-kinds", "a kind covers more than all ISA, or is unknown elsewhere", "make the chips again"
)
def fraction_kinds(chip: Chip) -> Iterator[Violation]:
    if (part := chip.pixels("fraction")) is None:
        return
    for name, band in zip(CHIP_RASTERS["fraction"].bands[1:], part[1:]):  # type: ignore[index]
        unknown = (band == FRACTION_NODATA) != (part[0] == FRACTION_NODATA)
        more = (band <= FRACTION_SCALE) & (part[0] <= FRACTION_SCALE) & (band > part[0].astype(np.int64) + ROUNDING)
        if unknown.any() or more.any():
            told = f"{name}: {int(more.sum())} px above band isa, {int(unknown.sum())} px unknown in one of them"
            yield chip.fault("fraction", told, "at most band isa, unknown where it is")


@check(CHIP_CHECKS, "fraction-label", "label and fraction contradict each other", "make the chips again")
def fraction_label(chip: Chip) -> Iterator[Violation]:
    label, part = chip.pixels("label"), chip.pixels("fraction")
    if label is None or part is None:
        return
    code, area = label[0], part[0]
    # A covered centre is some covered area, a bare centre some bare area; what is unknown is so in both.
    wrong = (
        ((code == 1) & (area == 0))
        | ((code == 0) & (area == FRACTION_SCALE))
        | ((code == 255) & (area <= FRACTION_SCALE))
    )
    if (count := int(wrong.sum())) > STRAY_SHARE * code.size:
        yield chip.fault("fraction", f"{count} of {code.size} px contradict the label", f"at most {STRAY_SHARE:.1%}")


def share_of(label: np.ndarray) -> float:
    """The share of impervious pixels among the labelled ones; NaN without any."""
    known = int((label != UNLABELLED).sum())
    return int((label == 1).sum()) / known if known else float("nan")


def _bands(chip: Chip) -> Iterator[tuple[str, str, np.ndarray]]:
    for kind in _IMAGES:
        if (pixels := chip.pixels(kind)) is not None:
            yield from ((kind, name, band) for name, band in zip(chip.names(kind), pixels))


def _fit(chip: Chip) -> tuple[float, float, int, int] | None:
    """How the two images fit; reckoned once, for the checks that ask."""
    lr, hr = chip.pixels("lr"), chip.pixels("hr")
    names = chip.names("hr")
    if lr is None or hr is None or not set(names) <= set(chip.bands):
        return None
    if chip.fit is None:
        chip.fit = align(lr[[chip.bands.index(name) for name in names]], hr)
    return chip.fit if np.isfinite(chip.fit[0]) else None


def _is_misaligned(here: float, best: float, east: int, north: int) -> bool:
    """What fits nowhere is unlike, wherever it fits least badly."""
    return best >= ALIKE and best - here > BETTER and bool(np.hypot(east, north) >= MISALIGNED_M)
