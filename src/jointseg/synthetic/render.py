"""Draws a panel of the valley at 1 m: ground, objects, crowns and shadows of any year."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from jointseg.synthetic.materials import MATERIALS, PHASE, PHASES
from jointseg.synthetic.objects import LEVELS, Thing
from jointseg.synthetic.terrain import MACRO_M, MARGIN_M, SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG, along
from jointseg.synthetic.valley import World

PERIOD_M = 2048  # of the repeating fine textures
NO_PHASE = 255
# What is left of a sunlit surface's brightness in a cast shadow: the blue sky still lights it.
SHADOW = np.array([0.34, 0.38, 0.46, 0.30], dtype=np.float32)
# Land cover classes for the reference products, in the numbers of SinoLC-1.
ROAD_CLASS, TREE_CLASS, GRASS_CLASS, CROP_CLASS, BUILDING_CLASS, BARE_CLASS, WATER_CLASS = 1, 2, 4, 5, 6, 7, 9


@dataclass(frozen=True)
class Panel:
    """A rectangle of whole metres in local coordinates."""

    x0: int
    y0: int
    x1: int
    y1: int

    def grown(self, margin_m: int) -> "Panel":
        return Panel(self.x0 - margin_m, self.y0 - margin_m, self.x1 + margin_m, self.y1 + margin_m)

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def transform(self) -> Affine:
        return Affine(1, 0, self.x0, 0, -1, self.y1)

    @property
    def box(self) -> shapely.Geometry:
        return shapely.box(self.x0, self.y0, self.x1, self.y1)


@dataclass
class Ground:
    """What does not change from year to year on a panel, all [rows, columns] at 1 m.

    Attributes:
        levels: for each drawing level, 1 + index of the object (0 none), births ascending.
        static: reflectance of bare natural ground, 4 bands.
        vigour: strength of the seasonal cover.
        crop: slot of a parcel, whose crop changes with the year; -1 off the fields.
        cover: phase of natural cover off the fields, NO_PHASE for none.
        shadows: 1 + index of the object that casts one, oldest on top.
        crown: brightness of a tree crown over the object, 0 none.
        relief: hillshade.
        classes: natural land cover class.
    """

    levels: list[np.ndarray]
    static: np.ndarray
    vigour: np.ndarray
    crop: np.ndarray
    cover: np.ndarray
    shadows: np.ndarray
    crown: np.ndarray
    relief: np.ndarray
    texture: np.ndarray
    classes: np.ndarray


@dataclass
class Picture:
    """One year of a panel at 1 m.

    Attributes:
        static: float32 [4, rows, columns], reflectance without leaves.
        green: float32 [rows, columns], weight of the leaves.
        phase: uint8 [rows, columns], whose leaves; NO_PHASE for none.
        top: int32 [rows, columns], 1 + index of the object on the ground.
    """

    static: np.ndarray
    green: np.ndarray
    phase: np.ndarray
    top: np.ndarray


def textures(seed: int) -> dict[str, np.ndarray]:
    """Repeating fine textures of unit spread, float32 [2048, 2048]."""
    rng = np.random.default_rng((seed, 50))
    out = {}
    for name, sigma in (("grain", 0.7), ("crowns", 2.2), ("clumps", 7.0)):
        field = rng.standard_normal((PERIOD_M, PERIOD_M), dtype=np.float32)
        field = gaussian_filter(field, sigma, mode="wrap")
        out[name] = field / field.std()
    return out


def tiled(texture: np.ndarray, panel: Panel, shift: int = 0) -> np.ndarray:
    """The repeating texture over a panel; the same ground always gets the same value."""
    rows = (panel.y1 - 1 - np.arange(panel.shape[0]) + 3 * shift) % PERIOD_M
    cols = (panel.x0 + np.arange(panel.shape[1]) + 5 * shift) % PERIOD_M
    return texture[np.ix_(rows, cols)]


def upsampled(field: np.ndarray, panel: Panel) -> np.ndarray:
    """A slow field, bilinear at the 1 m pixel centres of a panel: float32 [rows, columns]."""
    y = (panel.y1 - 0.5 - np.arange(panel.shape[0]) + MARGIN_M) / MACRO_M
    x = (panel.x0 + 0.5 + np.arange(panel.shape[1]) + MARGIN_M) / MACRO_M
    y, x = np.clip(y, 0, field.shape[0] - 1.001), np.clip(x, 0, field.shape[1] - 1.001)
    row, col = y.astype(int), x.astype(int)
    down, right = (y - row).astype(np.float32), (x - col).astype(np.float32)
    mixed = field[row] * (1 - down[:, None]) + field[row + 1] * down[:, None]
    return mixed[:, col] * (1 - right) + mixed[:, col + 1] * right


def burn(
    shapes: Sequence[shapely.Geometry] | np.ndarray, values: Sequence[int] | np.ndarray, panel: Panel
) -> np.ndarray:
    """Later shapes over earlier ones, pixels whose centre lies inside: int32 [rows, columns], 0 elsewhere."""
    shapes, values = np.asarray(shapes, dtype=object), np.asarray(values)
    here = np.flatnonzero(shapely.intersects(shapes, panel.box) & (shapely.area(shapes) > 0))
    if not here.size:
        return np.zeros(panel.shape, dtype=np.int32)
    pairs = [(shapes[k], int(values[k])) for k in here]
    return rasterize(pairs, panel.shape, transform=panel.transform, dtype="int32", merge_alg=MergeAlg.replace)


def cast_shadow(thing: Thing) -> shapely.Geometry:
    """The ground that a standing object shades."""
    reach = thing.height_m / np.tan(np.radians(SUN_ELEVATION_DEG))
    away = np.radians(SUN_AZIMUTH_DEG + 180)
    step = np.array([np.sin(away), np.cos(away)]) * reach
    moved = shapely.transform(thing.shape, lambda xy: xy + step)
    return shapely.union(thing.shape, moved).convex_hull


def ground(world: World, panel: Panel, fine: dict[str, np.ndarray]) -> Ground:
    """Draws what stays, and indexes what changes."""
    number = 1 + np.arange(len(world.things))
    shapes = np.array([thing.shape for thing in world.things])
    near = np.flatnonzero(shapely.intersects(shapes, panel.grown(120).box))
    levels = []
    for level in range(LEVELS):
        here = [k for k in near if world.things[k].level == level]
        levels.append(burn(shapes[here], number[here], panel))
    standing = sorted((k for k in near if world.things[k].height_m > 0), key=lambda k: -world.things[k].birth)
    shadows = burn([cast_shadow(world.things[k]) for k in standing], number[standing], panel)

    centres, radii = world.trees
    inside = (
        np.abs(centres - [(panel.x0 + panel.x1) / 2, (panel.y0 + panel.y1) / 2]) < np.array(panel.shape[::-1]) / 2 + 8
    ).all(axis=1)
    discs = shapely.buffer(shapely.points(centres[inside]), radii[inside], quad_segs=2)
    crown = burn(list(discs), 1 + np.flatnonzero(inside) % 61, panel).astype(np.float32)
    crown *= (0.7 + 0.6 / 61 * crown) / np.maximum(crown, 1)
    return _natural(world, panel, fine, levels, shadows, crown)


def _natural(
    world: World,
    panel: Panel,
    fine: dict[str, np.ndarray],
    levels: list[np.ndarray],
    shadows: np.ndarray,
    crown: np.ndarray,
) -> Ground:
    """Water, forest, scrub, sand, bare patches and the mosaic of fields."""
    terrain, frame = world.terrain, world.frame
    shape = panel.shape
    patches, slope = upsampled(terrain.fields["patches"], panel), upsampled(terrain.fields["slope"], panel)
    mottle, off_river = upsampled(terrain.fields["mottle"], panel), upsampled(terrain.fields["off_river"], panel)
    grain, crowns, clumps = (tiled(fine[name], panel) for name in ("grain", "crowns", "clumps"))
    mid_x = panel.x0 + np.arange(shape[1])
    # Woods: on the slopes everywhere, in the plain as scattered groves, in the delta hardly any.
    rough = 4.2 * slope + 0.55 * patches + 0.18 * clumps
    wooded = rough > along(frame, mid_x, 0.75, 1.05, 1.30)[None].astype(np.float32)
    scrub = ~wooded & (rough > along(frame, mid_x, 0.55, 0.86, 1.12)[None].astype(np.float32))
    bank = (off_river > -2) & (off_river < 16 + 14 * mottle)

    slot, vigour, soil, edge = _fields(world, panel, fine)
    cover = np.full(shape, NO_PHASE, dtype=np.uint8)
    classes = np.full(shape, CROP_CLASS, dtype=np.uint8)
    soil_red = along(frame, mid_x, 1.10, 1.0, 0.94)[None].astype(np.float32)
    bands = [MATERIALS["brown_soil"][band] * (soil_red if band == 0 else 1) for band in range(4)]
    light = soil * (1 + 0.09 * grain + 0.04 * clumps)
    static = np.stack([band * light for band in bands])

    def lay(mask: np.ndarray, material: str, phase: str, texture: np.ndarray | float, kind: int) -> None:
        spectrum = MATERIALS[material][:4]
        weight = (1 + MATERIALS[material][5] * texture)[mask] if isinstance(texture, np.ndarray) else 1.0
        for band in range(4):
            static[band][mask] = spectrum[band] * weight
        cover[mask] = PHASE[phase] if phase else NO_PHASE
        slot[mask], classes[mask] = -1, kind

    lay(edge, "lawn", "grass", grain, GRASS_CLASS)
    vigour[edge] = 0.75
    lay(scrub, "lawn", "grass", clumps, GRASS_CLASS)
    vigour[scrub] = (0.8 + 0.22 * crowns + 0.1 * clumps)[scrub].clip(0.1, 1.3)
    lay(wooded, "understorey", "evergreen", grain, TREE_CLASS)
    vigour[wooded] = (0.92 + 0.30 * crowns + 0.10 * grain)[wooded].clip(0.15, 1.6)
    bare = (patches + 0.5 * mottle < -2.1) & ~wooded
    lay(bare, "pale_soil", "", grain, BARE_CLASS)
    lay(bank, "sand", "", grain, BARE_CLASS)
    lay(burn([terrain.river], [1], panel) > 0, "river", "", clumps, WATER_CLASS)
    lay(burn(terrain.lakes, [1] * len(terrain.lakes), panel) > 0, "lake", "", clumps, WATER_CLASS)
    vigour[(cover == NO_PHASE) & (slot < 0)] = 0
    relief = upsampled(terrain.fields["shade"], panel)
    texture = (0.8 * grain + 0.35 * clumps).astype(np.float32)
    return Ground(levels, static, vigour.astype(np.float32), slot, cover, shadows, crown, relief, texture, classes)


def _fields(
    world: World, panel: Panel, fine: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Parcels in strips: slot 0..4095 (int16), vigour, brightness of the soil, and the banks between them."""
    frame, regions = world.frame, world.terrain.regions
    rng = frame.rng(60)
    angle = rng.uniform(-0.5, 0.5, len(regions)) + (rng.random(len(regions)) < 0.3) * np.pi / 2
    middle = np.array([region.centroid.x for region in regions])
    size = along(frame, middle, 0.6, 1.25, 0.95)
    strip, length = size * rng.uniform(18, 36, len(regions)), size * rng.uniform(70, 140, len(regions))
    region = burn(regions, np.arange(len(regions)) + 1, panel).clip(1) - 1
    x = (panel.x0 + 0.5 + np.arange(panel.shape[1], dtype=np.float32))[None]
    y = (panel.y1 - 0.5 - np.arange(panel.shape[0], dtype=np.float32))[:, None]
    cos, sin = (f(angle).astype(np.float32)[region] for f in (np.cos, np.sin))
    across = (y * cos - x * sin) / strip.astype(np.float32)[region]
    lengthwise = (x * cos + y * sin) / length.astype(np.float32)[region]
    across += 0.12 * upsampled(world.terrain.fields["mottle"], panel)
    row = np.floor(across).astype(np.int32)
    lengthwise += ((row * 7919) % 97).astype(np.float32) / 97
    col = np.floor(lengthwise).astype(np.int32)
    slot = ((region * 7411 + row * 2377 + col * 5119) & 4095).astype(np.int16)
    bank = ((across - row) * strip.astype(np.float32)[region] < 1.3) | (
        (lengthwise - col) * length.astype(np.float32)[region] < 1.3
    )
    vigour = rng.uniform(0.65, 1.12, 4096).astype(np.float32)[slot]
    orchard = (rng.random(4096) < 0.07)[slot]
    rows_of_trees = 0.55 + 0.5 * np.cos(across * strip.astype(np.float32)[region] * np.float32(2 * np.pi / 5))
    vigour = np.where(
        orchard,
        rows_of_trees,
        vigour * (1 + 0.10 * tiled(fine["grain"], panel, 11) + 0.08 * tiled(fine["clumps"], panel, 11)),
    )
    soil = rng.uniform(0.80, 1.22, 4096).astype(np.float32)[slot]
    return slot, vigour, soil, bank


def crops(frame_rng: np.random.Generator, fallow: float = 0.10) -> np.ndarray:
    """Phase of each of the 4096 slots in one year: uint8; fallow ground has none."""
    kinds = [PHASE["double_crop"], PHASE["rice"], PHASE["summer_crop"], PHASE["evergreen"], NO_PHASE]
    share = np.array([0.30, 0.30, 0.24, 0.06, fallow])
    return frame_rng.choice(np.array(kinds, dtype=np.uint8), 4096, p=share / share.sum())


def top_of(world: World, land: Ground, year: int) -> np.ndarray:
    """1 + index of the uppermost object that stands in a year, 0 where none does: int32 [rows, columns]."""
    stands = np.array([False] + [thing.birth <= year for thing in world.things])
    top = np.zeros_like(land.levels[0])
    for level in land.levels:
        np.copyto(top, level, where=stands[level])
    return top


def picture(world: World, land: Ground, year: int) -> Picture:
    """The panel as it looks in a year."""
    things = world.things
    top = top_of(world, land, year)
    stands = np.array([False] + [thing.birth <= year for thing in things])
    spread = np.array([0] + [MATERIALS[thing.material][5] for thing in things], dtype=np.float32)
    phases = np.array(
        [NO_PHASE] + [PHASE[thing.phase] if thing.phase else NO_PHASE for thing in things], dtype=np.uint8
    )
    built = top > 0
    # A crown hangs over what people built; in the open it would be lost in the fields' own green.
    crown = np.where(built, land.crown, 0)
    leaves = crown > 0
    roofs = np.array([False] + [thing.level >= 5 for thing in things])
    shaded = stands[land.shadows] & ~roofs[top]
    grain = 1 + spread[top] * land.texture
    static = land.static.copy()
    dark = MATERIALS["tree"]
    for band in range(4):
        values = np.concatenate([[0], world.spectra[:, band]]).astype(np.float32)[top]
        values *= grain
        np.copyto(static[band], values, where=built)
        np.copyto(static[band], dark[band] * crown, where=leaves)
        static[band] *= land.relief
        np.multiply(static[band], SHADOW[band], out=static[band], where=shaded)
    phase = np.where(built, phases[top], land.cover)
    yearly = crops(world.frame.rng(61, year))
    field = ~built & (land.crop >= 0)
    phase[field] = yearly[land.crop[field]]
    phase[leaves] = PHASE["evergreen"]
    green = np.where(built, np.float32(0.9) + np.float32(0.15) * land.texture, land.vigour)
    green = np.where(leaves, crown, green) * land.relief * np.where(shaded, np.float32(0.36), np.float32(1))
    green[phase == NO_PHASE] = 0
    return Picture(static, green.astype(np.float32), phase, top)


def at_date(view: Picture, fraction: np.ndarray, band: int, difference: np.ndarray) -> np.ndarray:
    """Reflectance of a band on a date: float32 [rows, columns].

    Args:
        view: the year.
        fraction: green fraction of each phase on the date.
        band: 0 red, 1 green, 2 blue, 3 near infrared.
        difference: what full green adds to each phase's soil in each band, [phases, 4].
    """
    gain = np.zeros(256, dtype=np.float32)
    gain[: len(PHASES)] = fraction * difference[:, band]
    return np.maximum(view.static[band] + view.green * gain[view.phase], 0.004)


def land_cover(world: World, land: Ground, top: np.ndarray) -> np.ndarray:
    """Land cover classes at 1 m, numbered as in SinoLC-1: uint8 [rows, columns]."""
    of_kind = {
        "building": BUILDING_CLASS,
        "roof": BUILDING_CLASS,
        "site": BARE_CLASS,
        "path": BARE_CLASS,
        "lawn": GRASS_CLASS,
        "pond": WATER_CLASS,
        "greenhouse": CROP_CLASS,
        "solar": BARE_CLASS,
    }
    codes = np.array([0] + [of_kind.get(thing.kind, ROAD_CLASS) for thing in world.things], dtype=np.uint8)
    return np.where(top > 0, codes[top], land.classes)
