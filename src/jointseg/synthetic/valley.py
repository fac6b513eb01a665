"""The made-up valley as objects: drawn from one seed, every impervious object with its year of birth."""

from dataclasses import dataclass

import numpy as np
import shapely

from jointseg.synthetic.city import City, make_city
from jointseg.synthetic.countryside import make_country
from jointseg.synthetic.materials import spectrum
from jointseg.synthetic.objects import Thing
from jointseg.synthetic.roads import canopies
from jointseg.synthetic.terrain import ORIGIN_M, REACHES, Frame, Terrain, make_terrain


@dataclass(frozen=True)
class World:
    """The valley.

    Attributes:
        terrain: the land.
        cities: one in each reach.
        things: every object, in drawing order.
        spectra: reflectance of each object, float32 [n, 4].
        trees: centres [n, 2] and radii [n] of the crowns along the roads, local metres.
    """

    terrain: Terrain
    cities: list[City]
    things: list[Thing]
    spectra: np.ndarray
    trees: tuple[np.ndarray, np.ndarray]

    @property
    def frame(self) -> Frame:
        return self.terrain.frame


def make_world(reach_km: int, seed: int) -> World:
    """Draws the valley: three reaches of `reach_km` kilometres from west to east."""
    frame = Frame(reach_km * 1000, seed)
    terrain = make_terrain(frame)
    cities = [make_city(terrain, number, name) for number, name in enumerate(REACHES)]
    things = [thing for city in cities for thing in city.things] + make_country(terrain, cities)
    things = [thing for thing in things if not thing.shape.is_empty]
    spectra = _spectra(things, frame.rng(40))
    # Within a level the younger object lies on top; the sort is stable, so drawing order is the order of making.
    order = sorted(range(len(things)), key=lambda k: (things[k].level, things[k].birth))
    things = [things[k] for k in order]
    return World(terrain, cities, things, spectra[order], canopies(things, frame.rng(41)))


def _spectra(things: list[Thing], rng: np.random.Generator) -> np.ndarray:
    """A spectrum for each object; the dark half of a roof takes that of the house made before it."""
    spectra = np.empty((len(things), 4), dtype=np.float32)
    for k, thing in enumerate(things):
        if "shade" in thing.tags and k and things[k - 1].material == thing.material:
            spectra[k] = spectra[k - 1] * float(thing.tags["shade"])
        else:
            spectra[k] = spectrum(thing.material, rng)
    return spectra


def reach_box(frame: Frame, reach: int) -> shapely.Geometry:
    """A reach in UTM metres."""
    x, y = ORIGIN_M[0] + reach * frame.reach_m, ORIGIN_M[1]
    return shapely.box(x, y, x + frame.reach_m, y + frame.reach_m)


def to_utm(shape: shapely.Geometry) -> shapely.Geometry:
    """Local metres to UTM metres."""
    return shapely.transform(shape, lambda xy: xy + np.array(ORIGIN_M, dtype=float))
