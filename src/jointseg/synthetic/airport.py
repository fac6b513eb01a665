"""The airport beside the midstream city."""

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, PAVED, PITCH, Thing, building, rectangle
from jointseg.synthetic.terrain import Terrain


def airport(terrain: Terrain) -> list[Thing]:
    """Runway, taxiway, apron, terminal and hangars beside the midstream city."""
    frame = terrain.frame
    size = max(0.3, min(frame.scale, 1.0))
    length, angle = 1500 * size, 0.12
    x, y = frame.reach_m * 1.56, frame.reach_m * 0.115
    axis = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-axis[1], axis[0]])

    def part(along_m: float, off_m: float, long: float, wide: float) -> shapely.Geometry:
        cx, cy = np.array([x, y]) + axis * along_m + across * off_m
        return rectangle(cx, cy, long, wide, angle)

    grass = Thing(part(0, 50 * size, length * 1.08, 270 * size), "lawn", "lawn", False, 2004, GREEN, phase="grass")
    strip = [
        Thing(
            part(0, 0, length, 45 * max(size, 0.6)), "runway", "asphalt", True, 2004, PAVED, tags={"aeroway": "runway"}
        ),
        Thing(
            part(0, 90 * size, length * 0.9, 18), "taxiway", "concrete", True, 2004, PAVED, tags={"aeroway": "taxiway"}
        ),
        Thing(
            part(0, 140 * size, length * 0.3, 90 * size),
            "apron",
            "pale_concrete",
            True,
            2004,
            PAVED,
            tags={"aeroway": "apron"},
        ),
    ]
    for k in (-0.44, -0.2, 0.2, 0.44):
        shape = part(k * length, 45 * size, 18, 95 * size)
        strip.append(Thing(shape, "taxiway", "concrete", True, 2004, PAVED, tags={"aeroway": "taxiway"}))
    apron = Thing(
        part(length * 0.3, 140 * size, length * 0.22, 80 * size),
        "apron",
        "pale_concrete",
        True,
        2020,
        PAVED,
        tags={"aeroway": "apron"},
    )
    halls = [
        building(
            part(-length * 0.05, 175 * size, length * 0.12, 26 * size), "white_metal", 2004, 20, aeroway="terminal"
        ),
        building(part(length * 0.3, 168 * size, 60 * size, 30 * size), "blue_metal", 2020, 14, aeroway="hangar"),
    ]
    # Marks of rubber and paint on the runway.
    marks = [
        Thing(part(k * length, 0, 60 * size, 20 * size), "roof", "new_asphalt", True, 2004, PITCH)
        for k in (-0.38, 0.38)
    ]
    return [grass, *strip, apron, *halls, *marks]
