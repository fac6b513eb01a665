"""Reflectance of the materials of the synthetic scene, and the seasons of its vegetation."""

import numpy as np

# Surface reflectance in red (B4), green (B3), blue (B2) and near infrared (B8), then the relative standard deviation
# between features of the material, and the strength of the texture within one.
MATERIALS: dict[str, tuple[float, float, float, float, float, float]] = {
    "concrete": (0.235, 0.222, 0.195, 0.275, 0.13, 0.07),
    "pale_concrete": (0.310, 0.295, 0.265, 0.345, 0.10, 0.06),
    "old_concrete": (0.175, 0.165, 0.145, 0.215, 0.15, 0.10),
    "asphalt": (0.108, 0.106, 0.102, 0.128, 0.15, 0.06),
    "new_asphalt": (0.068, 0.068, 0.067, 0.082, 0.12, 0.05),
    "granite": (0.265, 0.248, 0.225, 0.300, 0.14, 0.10),
    "red_tile": (0.215, 0.125, 0.098, 0.275, 0.18, 0.12),
    "grey_tile": (0.120, 0.118, 0.112, 0.150, 0.18, 0.12),
    "blue_metal": (0.125, 0.170, 0.265, 0.235, 0.15, 0.04),
    "white_metal": (0.430, 0.430, 0.415, 0.450, 0.14, 0.05),
    "grey_metal": (0.235, 0.240, 0.240, 0.255, 0.15, 0.04),
    "flat_roof": (0.200, 0.190, 0.172, 0.235, 0.24, 0.16),
    "dark_roof": (0.085, 0.088, 0.090, 0.105, 0.18, 0.12),
    "artificial_turf": (0.055, 0.105, 0.052, 0.185, 0.15, 0.05),
    "rubber_track": (0.245, 0.105, 0.080, 0.285, 0.12, 0.04),
    "lawn": (0.120, 0.105, 0.080, 0.200, 0.15, 0.12),
    "pale_soil": (0.262, 0.228, 0.186, 0.318, 0.12, 0.10),
    "brown_soil": (0.185, 0.145, 0.105, 0.255, 0.15, 0.14),
    "red_soil": (0.235, 0.150, 0.100, 0.300, 0.13, 0.12),
    "dirt_road": (0.225, 0.188, 0.145, 0.285, 0.12, 0.10),
    "greenhouse": (0.280, 0.285, 0.280, 0.390, 0.15, 0.16),
    "solar": (0.058, 0.062, 0.085, 0.095, 0.10, 0.20),
    "pond": (0.055, 0.072, 0.058, 0.030, 0.20, 0.03),
    "tree": (0.032, 0.048, 0.034, 0.110, 0.20, 0.20),
    "river": (0.098, 0.104, 0.080, 0.052, 0.00, 0.03),
    "lake": (0.042, 0.060, 0.052, 0.020, 0.00, 0.03),
    "sand": (0.290, 0.262, 0.215, 0.340, 0.00, 0.08),
    "understorey": (0.045, 0.044, 0.034, 0.110, 0.00, 0.12),
}

VEGETATION_TYPES = ("evergreen", "grass", "double_crop", "rice", "summer_crop")
VEGETATION_CODE = {name: code for code, name in enumerate(VEGETATION_TYPES)}
# Reflectance of each vegetation type at full green cover, and of the soil below, [types, 4].
LEAF_REFLECTANCE = np.array(
    [
        (0.030, 0.046, 0.030, 0.310),
        (0.050, 0.080, 0.045, 0.340),
        (0.042, 0.072, 0.038, 0.420),
        (0.036, 0.064, 0.038, 0.400),
        (0.040, 0.070, 0.036, 0.440),
    ],
    dtype=np.float32,
)
SOIL_REFLECTANCE = np.array(
    [
        (0.045, 0.044, 0.034, 0.110),
        (0.120, 0.105, 0.080, 0.200),
        (0.185, 0.145, 0.105, 0.255),
        (0.130, 0.115, 0.090, 0.170),
        (0.185, 0.145, 0.105, 0.255),
    ],
    dtype=np.float32,
)
# Green fraction on days of the year, by vegetation type; linear in between.
_GREEN_CALENDAR = {
    "evergreen": ((1, 0.85), (110, 0.92), (200, 1.0), (290, 0.92), (366, 0.85)),
    "grass": ((1, 0.15), (75, 0.30), (115, 0.80), (220, 0.95), (290, 0.7), (335, 0.25), (366, 0.15)),
    "double_crop": (
        *((1, 0.35), (60, 0.6), (95, 0.98), (140, 0.55), (155, 0.12), (190, 0.85)),
        *((255, 0.95), (290, 0.3), (366, 0.35)),
    ),
    "rice": ((1, 0.10), (110, 0.25), (150, 0.12), (175, 0.55), (205, 0.95), (260, 0.85), (295, 0.25), (366, 0.10)),
    "summer_crop": ((1, 0.08), (100, 0.20), (125, 0.12), (150, 0.5), (185, 0.98), (245, 0.9), (275, 0.35), (366, 0.08)),
}


def green_fraction(day_of_year: float) -> np.ndarray:
    """Return the green cover fraction of each of VEGETATION_TYPES on a day of the year: float32 [5]."""
    curves = (np.array(_GREEN_CALENDAR[name]).T for name in VEGETATION_TYPES)
    return np.array([np.interp(day_of_year, days, green) for days, green in curves], dtype=np.float32)


def spectrum(material: str, rng: np.random.Generator) -> np.ndarray:
    """Draw the reflectance of one feature of a material: float32 [4], red, green, blue, near infrared."""
    *bands, spread, _ = MATERIALS[material]
    brightness = np.exp(rng.normal(0, spread))
    hue = 1 + rng.normal(0, 0.25 * spread, 4)
    return np.clip(np.array(bands) * brightness * hue, 0.01, 0.75).astype(np.float32)
