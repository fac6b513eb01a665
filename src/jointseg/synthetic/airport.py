"""The airport beside the midstream city."""

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, PITCH, Feature, building, lawn, paved, rectangle
from jointseg.synthetic.terrain import Terrain


def airport(terrain: Terrain) -> list[Feature]:
    """Return runway, taxiways, aprons, terminal and hangar; the eastern apron and the hangar are of 2020."""
    frame = terrain.frame
    size = max(0.3, min(frame.scale, 1.0))
    length, angle = 1500 * size, 0.12
    x, y = frame.reach_m * 1.56, frame.reach_m * 0.115
    axis = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-axis[1], axis[0]])

    def part(along_m: float, off_m: float, long_m: float, wide_m: float) -> shapely.Geometry:
        cx, cy = np.array([x, y]) + axis * along_m + across * off_m
        return rectangle(cx, cy, long_m, wide_m, angle)

    def surface(shape: shapely.Geometry, kind: str, material: str, year_built: int = 2004) -> Feature:
        return paved(shape, kind, material, year_built, aeroway=kind)

    connections = [part(k * length, 45 * size, 18, 95 * size) for k in (-0.44, -0.2, 0.2, 0.44)]
    terminal = part(-length * 0.05, 175 * size, length * 0.12, 26 * size)
    hangar = part(length * 0.3, 168 * size, 60 * size, 30 * size)
    tyre_marks = [part(k * length, 0, 60 * size, 20 * size) for k in (-0.38, 0.38)]
    return [
        lawn(part(0, 50 * size, length * 1.08, 270 * size), 2004, GREEN),
        surface(part(0, 0, length, 45 * max(size, 0.6)), "runway", "asphalt"),
        surface(part(0, 90 * size, length * 0.9, 18), "taxiway", "concrete"),
        surface(part(0, 140 * size, length * 0.3, 90 * size), "apron", "pale_concrete"),
        *(surface(shape, "taxiway", "concrete") for shape in connections),
        surface(part(length * 0.3, 140 * size, length * 0.22, 80 * size), "apron", "pale_concrete", 2020),
        building(terminal, "white_metal", 2004, 20, aeroway="terminal"),
        building(hangar, "blue_metal", 2020, 14, aeroway="hangar"),
        *(Feature(shape, "roof", "new_asphalt", True, 2004, PITCH) for shape in tyre_marks),
    ]
