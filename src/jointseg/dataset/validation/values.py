"""Checks of the chips' pixels: reflectance, alignment of the two images, labels and fractions."""

from collections.abc import Iterator

import numpy as np

from jointseg.dataset.chip_alignment import MAX_SHIFT_M, align
from jointseg.dataset.contract import CHIP_RASTERS, FRACTION_NODATA, FRACTION_SCALE, UNLABELLED
from jointseg.dataset.validation.base import CHIP_CHECKS, INDEX, Chip, Violation, check
from jointseg.raster.bands import COMPOSITE_BANDS, count_composite_bands

BRIGHT_DN, DARK_DN = 16_000, 30  # reflectance of 1.6, and of 0.003
MAX_BRIGHT_FRACTION = 0.01
MAX_CLIPPED_FRACTION, MIN_CLIPPED_PX = 0.03, 25
# Areas with construction between the two dates have a low correlation at every shift: they are not misaligned.
MIN_MISALIGNMENT_M, MIN_IMPROVEMENT, MIN_ALIGNED_CORRELATION = 6, 0.05, 0.8
MIN_CORRELATION = 0.2
ISA_FRACTION_TOLERANCE = 1e-6
ROUNDING = 3  # parts of 10,000: each of two bands is rounded
MAX_CONFLICT_FRACTION = 0.001  # of pixels where label and fraction conflict: edges through pixel centres

_CHIPS = "rerun step `chips`"
_LABELS = "rerun steps `labels` and `chips`"
_SOURCE = "check the source of this chip; rerun step `chips` or remove the chip"
_IMAGES = ("lr", "hr")


@check(CHIP_CHECKS, "all-nodata", "a band has no valid pixel", _SOURCE)
def all_nodata(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        if not band.any() and name in COMPOSITE_BANDS:  # a merged date may be nodata in the entire chip
            yield chip.violation(kind, f"band {name}: all {band.size} px nodata", "valid pixels")


@check(CHIP_CHECKS, "partial-nodata", "pixels are nodata in some bands only", _CHIPS)
def partial_nodata(chip: Chip) -> Iterator[Violation]:
    for kind in _IMAGES:
        if (pixels := chip.pixels(kind)) is not None:
            valid = pixels[: count_composite_bands(chip.names(kind)) or None] != 0
            mixed = int((valid.any(axis=0) & ~valid.all(axis=0)).sum())
            if mixed and valid.any(axis=(1, 2)).all():
                yield chip.violation(kind, f"{mixed} px", "all bands valid or none: a dark pixel is at least 1")


@check(CHIP_CHECKS, "constant", "all valid pixels of a band are equal", _SOURCE)
def constant(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        valid = band[band != 0]
        if valid.size and valid.min() == valid.max():
            yield chip.violation(kind, f"band {name}: {valid[0]} in all pixels", "an image")


@check(CHIP_CHECKS, "range", "reflectance is out of range: wrong scale, or not reflectance", _CHIPS)
def out_of_range(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        valid = band[band != 0]
        if not valid.size:
            continue
        bright = float(np.mean(valid > BRIGHT_DN))
        if bright > MAX_BRIGHT_FRACTION:
            value = f"band {name}: {bright:.1%} of px above {BRIGHT_DN}"
            yield chip.violation(kind, value, f"at most {MAX_BRIGHT_FRACTION:.0%}")
        elif valid.max() < DARK_DN:
            value = f"band {name}: maximum {valid.max()}"
            yield chip.violation(kind, value, f"reflectance x 10000, with a maximum of at least {DARK_DN}")


@check(CHIP_CHECKS, "clipped", "many pixels have the maximum of the band, which indicates clipping", _SOURCE)
def clipped(chip: Chip) -> Iterator[Violation]:
    for kind, name, band in _bands(chip):
        top = band.max()
        count, valid = int((band == top).sum()), int(np.count_nonzero(band))
        varies = top and band[band != 0].min() < top
        if varies and count >= MIN_CLIPPED_PX and count / valid > MAX_CLIPPED_FRACTION:
            value = f"band {name}: {count / valid:.1%} of px are {top}"
            yield chip.violation(kind, value, f"at most {MAX_CLIPPED_FRACTION:.0%}")


@check(
    CHIP_CHECKS,
    "misaligned",
    "the 1 m image correlates better with the 10 m image after a shift",
    "register the chip again, or remove it",
)
def misaligned(chip: Chip) -> Iterator[Violation]:
    if (alignment := _alignment(chip)) and _is_misaligned(*alignment):
        correlation, best, east, north = alignment
        value = f"correlation {correlation:.2f}, but {best:.2f} when moved {east:+d} m east and {north:+d} m north"
        yield chip.violation("hr", value, f"the maximum within {MIN_MISALIGNMENT_M} m of its position")


@check(CHIP_CHECKS, "uncorrelated", "the 1 m image does not match the 10 m image", "pair the chip again, or remove it")
def uncorrelated(chip: Chip) -> Iterator[Violation]:
    if (alignment := _alignment(chip)) and not _is_misaligned(*alignment) and alignment[0] < MIN_CORRELATION:
        value = f"correlation {alignment[0]:.2f}, at most {alignment[1]:.2f} within {MAX_SHIFT_M} m"
        yield chip.violation("hr", value, f"{MIN_CORRELATION} or more")


@check(CHIP_CHECKS, "label-code", "a label contains codes other than 0, 1 and 255", _LABELS)
def label_code(chip: Chip) -> Iterator[Violation]:
    if (label := chip.pixels("label")) is not None:
        codes = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
        if unexpected := sorted(set(codes.tolist()) - {0, 1, UNLABELLED}):
            count = int(np.isin(label, unexpected).sum())
            yield chip.violation("label", f"{count} px of {', '.join(map(str, unexpected))}", "0, 1 or 255")


@check(CHIP_CHECKS, "label-empty", "all pixels of a label are unlabelled", "correct the label, or remove the chip")
def label_empty(chip: Chip) -> Iterator[Violation]:
    if (label := chip.pixels("label")) is not None and (label == UNLABELLED).all():
        yield chip.violation("label", f"all {label.size} px are 255", "labelled pixels")


@check(CHIP_CHECKS, "isa-fraction", "the ISA fraction in the index differs from the label", "rebuild the index")
def isa_fraction(chip: Chip) -> Iterator[Violation]:
    label, indexed = chip.pixels("label"), chip.row.get("isa_fraction")
    if label is None or indexed is None:
        return
    actual = isa_fraction_of(label)
    if not (np.isnan(indexed) and np.isnan(actual)) and not abs(indexed - actual) <= ISA_FRACTION_TOLERANCE:
        yield Violation(chip.id, INDEX, f"isa_fraction {indexed:.6f}", f"{actual:.6f}, as in the label")


@check(CHIP_CHECKS, "fraction-range", "a fraction is above 10,000", _LABELS)
def fraction_range(chip: Chip) -> Iterator[Violation]:
    if (fraction := chip.pixels("fraction")) is not None:
        invalid = fraction[(fraction > FRACTION_SCALE) & (fraction != FRACTION_NODATA)]
        if invalid.size:
            yield chip.violation("fraction", f"{invalid.size} values up to {invalid.max()}", "0 to 10000, or 65535")


@check(CHIP_CHECKS, "fraction-kinds", "a kind exceeds total ISA, or is nodata in other pixels than total ISA", _CHIPS)
def fraction_kinds(chip: Chip) -> Iterator[Violation]:
    if (fraction := chip.pixels("fraction")) is None:
        return
    total = fraction[0]
    for name, band in zip(CHIP_RASTERS["fraction"].bands[1:], fraction[1:]):  # type: ignore[index]
        nodata = (band == FRACTION_NODATA) != (total == FRACTION_NODATA)
        above = (band <= FRACTION_SCALE) & (total <= FRACTION_SCALE) & (band > total.astype(np.int64) + ROUNDING)
        if nodata.any() or above.any():
            value = f"{name}: {int(above.sum())} px above band isa, {int(nodata.sum())} px nodata in one of them"
            yield chip.violation("fraction", value, "at most band isa, nodata in the same pixels")


@check(CHIP_CHECKS, "fraction-label", "label and fraction contradict each other", _CHIPS)
def fraction_label(chip: Chip) -> Iterator[Violation]:
    label, fraction = chip.pixels("label"), chip.pixels("fraction")
    if label is None or fraction is None:
        return
    code, total = label[0], fraction[0]
    # A covered pixel centre implies a fraction above 0, an uncovered one a fraction below 1; unlabelled implies nodata.
    conflict = (
        ((code == 1) & (total == 0))
        | ((code == 0) & (total == FRACTION_SCALE))
        | ((code == UNLABELLED) & (total <= FRACTION_SCALE))
    )
    if (count := int(conflict.sum())) > MAX_CONFLICT_FRACTION * code.size:
        value = f"{count} of {code.size} px contradict the label"
        yield chip.violation("fraction", value, f"at most {MAX_CONFLICT_FRACTION:.1%}")


def isa_fraction_of(label: np.ndarray) -> float:
    """Return the fraction of impervious pixels among the labelled pixels; NaN without any."""
    labelled = int((label != UNLABELLED).sum())
    return int((label == 1).sum()) / labelled if labelled else float("nan")


def _bands(chip: Chip) -> Iterator[tuple[str, str, np.ndarray]]:
    for kind in _IMAGES:
        if (pixels := chip.pixels(kind)) is not None:
            yield from ((kind, name, band) for name, band in zip(chip.names(kind), pixels))


def _alignment(chip: Chip) -> tuple[float, float, int, int] | None:
    """Return the alignment of the two images, computed once per chip."""
    lr, hr = chip.pixels("lr"), chip.pixels("hr")
    names = chip.names("hr")
    if lr is None or hr is None or not set(names) <= set(chip.bands):
        return None
    if chip.alignment is None:
        chip.alignment = align(lr[[chip.bands.index(name) for name in names]], hr)
    return chip.alignment if np.isfinite(chip.alignment[0]) else None


def _is_misaligned(correlation: float, best: float, east: int, north: int) -> bool:
    """Return whether a shift improves the correlation; images without any good correlation are not misaligned."""
    improved = best >= MIN_ALIGNED_CORRELATION and best - correlation > MIN_IMPROVEMENT
    return improved and bool(np.hypot(east, north) >= MIN_MISALIGNMENT_M)
