"""How reference products name their files: the year, and the corner of a tile as an example in braces."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

YEAR_FIELD = "{year}"
_ANY_YEAR = r"[12]\d{3}"
_FIELD = re.compile(r"\{([^{}]*)\}")
_CORNER = re.compile(r"(?P<before>[NSEW]?)(?P<digits>\d{1,3})(?P<after>[NSEW]?)")


@dataclass(frozen=True)
class _Corner:
    """A coordinate in a name, by an example such as {N30}, {115E} or {115}.

    Digits are padded with zeros to the example's number, but before a letter only where the example is. Without a letter
    three digits are a longitude, fewer a latitude, and a minus tells west and south.
    """

    latitude: bool
    letter_first: bool | None
    width: int

    def written(self, degrees: int) -> str:
        digits = f"{abs(degrees):0{self.width}d}"
        if self.letter_first is None:
            return f"-{digits}" if degrees < 0 else digits
        letter = ("NS" if self.latitude else "EW")[degrees < 0]
        return letter + digits if self.letter_first else digits + letter

    @property
    def expression(self) -> str:
        letters = "[NS]" if self.latitude else "[EW]"
        digits = rf"\d{{{self.width},3}}"
        if self.letter_first is None:
            return f"-?{digits}"
        return letters + digits if self.letter_first else digits + letters


def _corner(text: str) -> _Corner | None:
    found = _CORNER.fullmatch(text)
    if found is None or (found["before"] and found["after"]):
        return None
    letter, digits = found["before"] or found["after"], found["digits"]
    latitude = letter in ("N", "S") if letter else len(digits) < 3
    padded = digits.startswith("0") or not found["after"]
    return _Corner(latitude, bool(found["before"]) if letter else None, len(digits) if padded else 1)


def pattern_errors(pattern: str, tile_deg: float | None) -> list[str]:
    """What is wrong with a pattern, as sentences."""
    fields = [text for text in _FIELD.findall(pattern) if text != YEAR_FIELD[1:-1]]
    corners = [_corner(text) for text in fields]
    out = [
        f"{{{text}}} in its pattern is neither {YEAR_FIELD} nor a tile's corner such as {{N30}}, {{115E}} or {{030}}"
        for text, corner in zip(fields, corners)
        if corner is None
    ]
    kinds = sorted(corner.latitude for corner in corners if corner is not None)
    if kinds and kinds != [False, True]:
        out.append("its pattern names tiles by one latitude and one longitude, or not at all")
    if bool(kinds) != (tile_deg is not None):
        out.append("tile_deg and a tile's corner in the pattern belong together")
    return out


def compile_pattern(pattern: str, year: int | None = None) -> re.Pattern[str]:
    """A regular expression of the pattern's names, of a year or of any; group "year" holds it where the pattern has it."""
    parts = []
    for piece in re.split(r"(\{[^{}]*\}|\*)", pattern):
        field = _FIELD.fullmatch(piece)
        if piece == "*":
            parts.append(".*")
        elif piece == YEAR_FIELD:
            seen = any("(?P<year>" in part for part in parts)
            parts.append("(?P=year)" if seen else f"(?P<year>{year or _ANY_YEAR})")
        elif field is not None and (corner := _corner(field[1])) is not None:
            parts.append(corner.expression)
        else:
            parts.append(re.escape(piece))
    return re.compile("".join(parts))


def tile_patterns(entry: dict[str, Any], year: int, boxes: Iterable[tuple[float, float, float, float]]) -> list[str]:
    """Patterns (* for any text) of the tiles that cover boxes (west, south, east, north), degrees; none without tile_deg."""
    side = entry.get("tile_deg")
    if side is None:
        return []
    corners = set()
    for west, south, east, north in boxes:
        columns = range(math.floor(west / side), math.ceil(east / side))
        rows = range(math.floor(south / side), math.ceil(north / side))
        corners |= {(row, column) for row in rows for column in columns}
    up = 1 if entry["tile_corner"] == "north-west" else 0
    return [
        _named(entry["pattern"], year, round((row + up) * side), round(column * side))
        for row, column in sorted(corners)
    ]


def _named(pattern: str, year: int, latitude: int, longitude: int) -> str:
    def fill(field: re.Match[str]) -> str:
        corner = _corner(field[1])
        if corner is None:
            return str(year)
        return corner.written(latitude if corner.latitude else longitude)

    return _FIELD.sub(fill, pattern)
