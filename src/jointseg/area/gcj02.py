"""Conversion between WGS 84 and GCJ-02, the datum of Chinese web maps, which is offset by 300-600 m."""

import numpy as np

from jointseg.runtime.errors import DataError

# The Krasovsky 1940 ellipsoid.
_A_M, _E2 = 6_378_245.0, 0.00669342162296594323


def wgs84_to_gcj02(lonlat: np.ndarray) -> np.ndarray:
    """Convert WGS 84 to GCJ-02 coordinates, degrees, [n, 2].

    The offset of China's State Bureau of Surveying and Mapping (GB 20263-2006) is not published; this is the closed
    form of its reimplementations (EvilTransform 2013, PRCoords, gcoord). Valid inside China.
    """
    lon, lat = lonlat[:, 0], lonlat[:, 1]
    x, y = lon - 105, lat - 35
    waves = 20 * np.sin(6 * np.pi * x) + 20 * np.sin(2 * np.pi * x)
    north_m = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x)) + waves * 2 / 3
    north_m += (20 * np.sin(np.pi * y) + 40 * np.sin(np.pi * y / 3)) * 2 / 3
    north_m += (160 * np.sin(np.pi * y / 12) + 320 * np.sin(np.pi * y / 30)) * 2 / 3
    east_m = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x)) + waves * 2 / 3
    east_m += (20 * np.sin(np.pi * x) + 40 * np.sin(np.pi * x / 3)) * 2 / 3
    east_m += (150 * np.sin(np.pi * x / 12) + 300 * np.sin(np.pi * x / 30)) * 2 / 3
    phi = np.radians(lat)
    w = 1 - _E2 * np.sin(phi) ** 2
    meridian_m = _A_M * (1 - _E2) / w**1.5
    normal_m = _A_M / np.sqrt(w)
    offset = np.stack([np.degrees(east_m / (normal_m * np.cos(phi))), np.degrees(north_m / meridian_m)], axis=1)
    return lonlat + offset


def gcj02_to_wgs84(lonlat: np.ndarray) -> np.ndarray:
    """Convert GCJ-02 to WGS 84 coordinates, degrees, [n, 2]; inverts `wgs84_to_gcj02` to 1e-10 degree.

    Fixed-point iteration: the offset changes by less than 1 % over its own length, so that each iteration gains two
    digits. Raises DataError if the iteration does not converge, which happens outside China.
    """
    lonlat = np.asarray(lonlat, dtype=np.float64)
    guess = lonlat.copy()
    for _ in range(50):
        error = lonlat - wgs84_to_gcj02(guess)
        guess += error
        if np.abs(error).max(initial=0) < 1e-10:
            return guess
    raise DataError(
        f"GCJ-02 coordinates such as {lonlat[0].tolist()} cannot be converted; expected coordinates in China"
    )
