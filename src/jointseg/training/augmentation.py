"""Random augmentation of images."""

import numpy as np


def random_gains(rng: np.random.Generator, bands: int, jitter: float) -> np.ndarray:
    """Draw gains near 1, float32 [bands, 1, 1]: up to `jitter` common to all bands, up to half of it per band."""
    common, per_band = rng.uniform(-jitter, jitter), rng.uniform(-1, 1, (bands, 1, 1)) * jitter / 2
    return np.float32(1 + common) + per_band.astype(np.float32)


def dihedral(image: np.ndarray, symmetry: int) -> np.ndarray:
    """Apply one of the eight symmetries of the square (0 to 7) to [..., h, w]; odd ones swap h and w."""
    rotated = np.rot90(image, symmetry % 4, axes=(-2, -1))
    return rotated[..., ::-1] if symmetry >= 4 else rotated
