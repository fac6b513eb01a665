"""The valley of the synthetic scene as vector features, generated from one seed."""

from dataclasses import dataclass

import numpy as np
import shapely

from jointseg.synthetic.city import City, make_city
from jointseg.synthetic.countryside import make_countryside
from jointseg.synthetic.materials import spectrum
from jointseg.synthetic.objects import Feature
from jointseg.synthetic.roads import tree_crowns
from jointseg.synthetic.terrain import ORIGIN_M, REACHES, Frame, Terrain, make_terrain


@dataclass(frozen=True)
class Valley:
    terrain: Terrain
    cities: list[City]  # one per reach
    features: list[Feature]  # in drawing order
    spectra: np.ndarray  # reflectance of each feature, float32 [n, 4]
    trees: tuple[np.ndarray, np.ndarray]  # centres [n, 2] and radii [n] of the crowns along roads, local metres

    @property
    def frame(self) -> Frame:
        return self.terrain.frame


def make_valley(reach_km: int, seed: int) -> Valley:
    """Generate three reaches of `reach_km` kilometres, from west to east."""
    frame = Frame(reach_km * 1000, seed)
    terrain = make_terrain(frame)
    cities = [make_city(terrain, number, name) for number, name in enumerate(REACHES)]
    features = [feature for city in cities for feature in city.features] + make_countryside(terrain, cities)
    features = [feature for feature in features if not feature.shape.is_empty]
    spectra = _spectra(features, frame.rng(40))
    # Within a level newer features cover older ones; the sort is stable, so equal years keep the order of generation.
    order = sorted(range(len(features)), key=lambda k: (features[k].level, features[k].year_built))
    features = [features[k] for k in order]
    return Valley(terrain, cities, features, spectra[order], tree_crowns(features, frame.rng(41)))


def _spectra(features: list[Feature], rng: np.random.Generator) -> np.ndarray:
    """Draw a spectrum per feature; the shaded half of a roof darkens that of the preceding building."""
    spectra = np.empty((len(features), 4), dtype=np.float32)
    for k, feature in enumerate(features):
        if "shade" in feature.tags and k and features[k - 1].material == feature.material:
            spectra[k] = spectra[k - 1] * float(feature.tags["shade"])
        else:
            spectra[k] = spectrum(feature.material, rng)
    return spectra


def reach_box(frame: Frame, reach: int) -> shapely.Geometry:
    """Return the extent of a reach, UTM metres."""
    x, y = ORIGIN_M[0] + reach * frame.reach_m, ORIGIN_M[1]
    return shapely.box(x, y, x + frame.reach_m, y + frame.reach_m)


def to_utm(shape: shapely.Geometry) -> shapely.Geometry:
    """Convert local metres to UTM metres."""
    return shapely.transform(shape, lambda xy: xy + np.array(ORIGIN_M, dtype=float))
