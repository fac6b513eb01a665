"""From samples to the dataset on a made-up valley of one tile, drawn here."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from jointseg.config.dataset import Dataset
from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.chips import chips
from jointseg.dataset.collection import dataset
from jointseg.dataset.deliveries import deliveries
from jointseg.dataset.labels import labels
from jointseg.dataset.pairing import pairing
from jointseg.dataset.torch_dataset import TorchChips
from jointseg.dataset.validation.check import check
from jointseg.models.checkpoint import normalisation_of
from jointseg.raster import io as raster_io
from jointseg.raster.bands import MERGED_BANDS
from jointseg.runtime.errors import DataError

WEST, NORTH, SIDE = 660_000, 3_542_000, 1200
SHIFT = (6.4, -4.2)  # to be added to the scene's coordinates
CHIP = 160
SCENE = "JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH"
CLOUDED = SCENE.replace("0018", "0017")
HOUSES = [(20 + 90 * i, 30 + 75 * j, 20 + 90 * i + 30, 30 + 75 * j + 22) for i in range(13) for j in range(15)]
BANDS = ["B04", "B03", "B02"]


def ground() -> tuple[np.ndarray, np.ndarray]:
    """Reflectance [3, SIDE, SIDE] and the ISA of houses and a road [SIDE, SIDE] at 1 m."""
    rng = np.random.default_rng(5)
    base = 0.06 + 0.05 * zoom(rng.random((25, 25)), SIDE / 25, order=0)
    image = np.stack([base * 0.9, base, base * 0.7])
    polygons = [shapely.box(WEST + a, NORTH - d, WEST + c, NORTH - b) for a, b, c, d in HOUSES]
    road = shapely.box(WEST, NORTH - 604, WEST + SIDE, NORTH - 596)
    isa = rasterize(
        [(shape, 1) for shape in [*polygons, road]], (SIDE, SIDE), transform=Affine(1, 0, WEST, 0, -1, NORTH)
    )
    for band, value in zip(image, (0.27, 0.25, 0.24)):
        band[isa == 1] = value
    return image + rng.normal(0, 0.01, image.shape), isa


def write(path: Path, array: np.ndarray, west: float, north: float, pixel: float, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, cols = array.shape
    profile = {"driver": "GTiff", "count": count, "height": rows, "width": cols, "dtype": array.dtype.name}
    descriptions = more.pop("descriptions", None)
    transform = Affine(pixel, 0, west, 0, -pixel, north)
    with rasterio.open(path, "w", crs="EPSG:32650", transform=transform, **profile, **more) as to:
        to.write(array)
        if descriptions:
            to.descriptions = descriptions


def jilin1_scene(image: np.ndarray, clouded: bool) -> np.ndarray:
    """Blue, green, red digital numbers at 0.75 m whose coordinates are off by SHIFT."""
    rows = (np.arange(int(SIDE / 0.75)) + 0.5) * 0.75 - 0.5
    points = np.meshgrid(rows - SHIFT[1], rows + SHIFT[0], indexing="ij")
    soft = [gaussian_filter(band, 0.4) for band in image[::-1]]
    out = np.stack([map_coordinates(band, points, order=1, mode="nearest") for band in soft])
    if clouded:
        field = gaussian_filter(np.random.default_rng(1).standard_normal(out.shape[1:]), 60)
        opacity = np.clip(field / field.std() + 0.5, 0, 1)
        out = out * (1 - opacity) + 0.5 * opacity
    return np.rint(out * 6000 + 400).astype(np.uint16)


@pytest.fixture(scope="module")
def valley(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of the steps, and the samples: 12 chips of one reach."""
    folder = tmp_path_factory.mktemp("valley")
    image, isa = ground()
    np.save(folder / "isa.npy", isa)
    seen = np.stack([gaussian_filter(band, 5.3) for band in image])
    quad = (seen[:, :-1, :-1] + seen[:, 1:, :-1] + seen[:, :-1, 1:] + seen[:, 1:, 1:]) / 4
    at = 4 + 10 * np.arange(SIDE // 10)
    dn = np.rint(quad[:, at[:, None], at] * 1e4).astype(np.uint16)
    clear = np.full((1, *dn.shape[1:]), 3, dtype=np.uint16)
    dn[:, 30:33, 20:24], clear[:, 30:33, 20:24] = 0, 0
    write(
        folder / "composites/2021/t.tif", np.concatenate([dn, clear]), WEST, NORTH, 10, descriptions=[*BANDS, "clear"]
    )
    plain = {"nodata": 0, "photometric": "minisblack"}
    for name, clouded in ((SCENE, False), (CLOUDED, True)):
        write(folder / f"jilin1/{name}/{name}.tif", jilin1_scene(image, clouded), WEST, NORTH, 0.75, **plain)
        cloud = 1 if clouded else 4  # the worse one is tried first
        (folder / f"jilin1/{name}/{name}_meta.xml").write_text(f"<a><CloudPercent>{cloud}</CloudPercent></a>")
    corners = [(WEST + 100 + 250 * i, NORTH - 1100 + 250 * j) for i in range(4) for j in (1, 2, 3)]
    rows = len(corners)
    frame = gpd.GeoDataFrame(
        {
            "sample_id": [f"up-{i:04d}" for i in range(1, rows + 1)],
            "reach": "up",
            "stratum": "up",
            "rank": np.arange(1, rows + 1, dtype=np.int32),
            "replacement": False,
            "inclusion_probability": 0.2,
            "split": (["train"] * 2 + ["validation", "test"]) * 3,
            "block": "b",
            "tile": "50N_E0660_N3540",
            "epsg": np.full(rows, 32650, dtype=np.int32),
            "minx": [float(x) for x, _ in corners],
            "miny": [float(y) for _, y in corners],
        },
        geometry=gpd.points_from_xy(*np.array(corners).T + CHIP / 2, crs=32650).to_crs(4326),
    )
    frame.to_parquet(folder / "samples.parquet")
    vectors(folder)
    index(folder / "jilin1", folder / "deliveries.parquet")
    return folder


def index(folder: Path, to: Path) -> None:
    given = Dataset(jilin1="", osm="", footprints="", corrections="")
    entries = {name: entry.model_dump() for name, entry in given.providers.items()}
    deliveries(jilin1=folder, deliveries=to, providers=entries, metadata_elements=given.metadata_elements)


def vectors(folder: Path) -> None:
    """OpenStreetMap in GDAL's layers with the road and half of the houses, footprints with the others, corrections."""
    polygons = [shapely.box(WEST + a, NORTH - d, WEST + c, NORTH - b) for a, b, c, d in HOUSES]
    utm = {"crs": 32650}
    lines = gpd.GeoDataFrame(
        {"highway": ["residential", "footway"], "other_tags": ['"width"=>"8"', None]},
        geometry=[shapely.LineString([(WEST, NORTH - 600 - o), (WEST + SIDE, NORTH - 600 - o)]) for o in (0, 300)],
        **utm,
    )
    areas = gpd.GeoDataFrame({"building": ["yes"] * len(polygons[::2])}, geometry=polygons[::2], **utm)
    lines.to_crs(4326).to_file(folder / "osm.gpkg", layer="lines")
    areas.to_crs(4326).to_file(folder / "osm.gpkg", layer="multipolygons")
    gpd.GeoDataFrame(geometry=polygons[1::2], **utm).to_crs(4326).to_file(folder / "footprints.gpkg")
    (folder / "corrections").mkdir()

    def pixels(box: tuple[float, float, float, float]) -> list[list[float]]:
        """A box in metres from the upper left of the truth, in pixels of the scene that shows it off by SHIFT."""
        (a, b, c, d), (east, north) = box, SHIFT
        return [[(x - east) / 0.75, (y + north) / 0.75] for x, y in ((a, b), (c, b), (c, d), (a, d))]

    shapes = [
        {"label": "not_isa", "shape_type": "polygon", "points": pixels((500, 0, 520, SIDE))},
        {"label": "ISA", "shape_type": "polygon", "points": pixels((400, 110, 420, 250))},
        {"label": "unknown", "shape_type": "polygon", "points": pixels((760, 0, 770, SIDE))},
    ]
    drawn = {"imagePath": f"..\\{SCENE}.tif", "imageWidth": 1600, "imageHeight": 1600, "shapes": shapes}
    (folder / "corrections/one.json").write_text(json.dumps(drawn))


def pair(valley: Path, to: Path, **changes: object) -> pd.DataFrame:
    params = {
        "reach": "up",
        "chip_m": CHIP,
        "year": 2021,
        "season": ("04-01", "10-31"),
        "max_shift_m": 10,
        "min_correlation": 0.5,
        "max_cloud_percent": 20,
    }
    inputs = {
        "samples": valley / "samples.parquet",
        "composites": [valley / "composites/2021/t.tif"],
        "jilin1": valley / "jilin1",
        "deliveries": valley / "deliveries.parquet",
    }
    pairing(pairs=to, **(inputs | params | changes))
    return pd.read_parquet(to)


@pytest.fixture(scope="module")
def made(valley: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five steps after sampling."""
    to = tmp_path_factory.mktemp("dataset")
    pair(valley, to / "pairs.parquet")
    run_labels(valley, to)
    run_chips(valley, to)
    (to / "samples.parquet").write_bytes((valley / "samples.parquet").read_bytes())
    dataset(
        indexes=[to / "index/up.parquet"],
        chips=[to / "chips/up"],
        samples=to / "samples.parquet",
        pairs=[to / "pairs.parquet"],
        labels=[to / "labels.parquet"],
        manifests=[],
        index=to / "index.parquet",
        statistics=to / "statistics.json",
        card=to / "card.md",
        sources=to / "sources.json",
        collection=to / "collection.json",
        stac_items=to / "items",
        checksums=to / "checksums.sha256",
        version="1.0.0",
        chip_m=CHIP,
        spacing_m=CHIP,
    )
    return to


def run_labels(valley: Path, to: Path, **changes: object) -> None:
    params = {
        "reach": "up",
        "chip_m": CHIP,
        "road_widths_m": {"residential": 6},
        "lane_width_m": 3.5,
        "isa_tags": {"building": {"building": ["*"]}},
        "not_isa_tags": {},
        "unpaved_surfaces": [],
        "soft_tags": {},
        "industrial_yard_m": 30,
        "osm": valley / "osm.gpkg",
        "footprints": valley / "footprints.gpkg",
        "corrections": valley / "corrections",
    }
    inputs = {"samples": valley / "samples.parquet", "pairs": to / "pairs.parquet", "jilin1": valley / "jilin1"}
    labels(**inputs, labels=to / "labels.parquet", **(params | changes))


def run_chips(valley: Path, to: Path, **changes: object) -> dict:
    return chips(
        **{
            "samples": valley / "samples.parquet",
            "pairs": to / "pairs.parquet",
            "labels": to / "labels.parquet",
            "composites": [valley / "composites/2021/t.tif"],
            "jilin1": valley / "jilin1",
            "deliveries": valley / "deliveries.parquet",
            "chips": to / "chips/up",
            "index": to / "index/up.parquet",
            "reach": "up",
            "chip_m": CHIP,
            "bands": BANDS,
        }
        | changes
    )


def test_pairs_leave_the_clouded_scene_and_find_the_shift(made: Path) -> None:
    pairs = pd.read_parquet(made / "pairs.parquet")
    assert (pairs["status"] == "ok").all()
    assert (pairs["scene_id"] == SCENE).all()
    error = np.hypot(pairs["shift_x_m"] - SHIFT[0], pairs["shift_y_m"] - SHIFT[1])
    assert error.max() < 0.5
    assert pairs["date"].iloc[0] == "2022-06-23T02:46:20Z"
    assert pairs["registration_correlation"].between(0.8, 1).all()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"max_shift_m": 5}, "no registration|shift too large"),
        ({"min_correlation": 1.0}, "low correlation"),
        ({"max_cloud_percent": 0.5}, "scene too cloudy"),
    ],
)
def test_what_is_doubtful_is_rejected_by_name(valley: Path, tmp_path: Path, change: dict, status: str) -> None:
    scenes = gpd.read_parquet(valley / "deliveries.parquet")
    scenes[scenes["scene_id"] == SCENE].to_parquet(tmp_path / "deliveries.parquet")
    change = change | {"deliveries": tmp_path / "deliveries.parquet"}
    with pytest.raises(DataError, match=rf"no sample of reach up could be paired: .*({status})"):
        pair(valley, tmp_path / "pairs.parquet", **change)


def altered(valley: Path, to: Path, moved_m: tuple[float, float] = (0, 0), paint: object = None) -> dict[str, Path]:
    """The clean scene alone, its coordinates moved (x, y), its pixels painted by a function; inputs of `pair`."""
    path = to / f"jilin1/{SCENE}/{SCENE}.tif"
    path.parent.mkdir(parents=True)
    shutil.copy(valley / f"jilin1/{SCENE}/{SCENE}.tif", path)
    with rasterio.open(path, "r+") as file:
        file.transform = Affine.translation(*moved_m) @ file.transform
        if paint is not None:
            file.write(paint(file.read(), file.transform))
    index(to / "jilin1", to / "deliveries.parquet")
    return {"jilin1": to / "jilin1", "deliveries": to / "deliveries.parquet"}


@pytest.mark.parametrize("moved_m", [(1.37, 0.52), (-4.21, 2.93), (0.11, -7.9)])
def test_shifts_of_fractions_put_into_a_scene_are_found(valley: Path, tmp_path: Path, moved_m: tuple) -> None:
    pairs = pair(valley, tmp_path / "p.parquet", max_shift_m=16, **altered(valley, tmp_path, moved_m))
    assert (pairs["status"] == "ok").all()
    error = np.hypot(pairs["shift_x_m"] + moved_m[0] - SHIFT[0], pairs["shift_y_m"] + moved_m[1] - SHIFT[1])
    assert error.max() < 0.3
    assert (pairs["shift_sd_m"] < 0.3).all()


def test_rejected_samples_are_replaced_by_reserves_of_their_stratum(valley: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(valley / "samples.parquet")
    samples["stratum"] = ["up/1"] * 6 + ["up/2"] * 6
    # Reserves of the first: 3, the second of which is under cloud too; of the second: one.
    samples["replacement"] = [False, False, False, True, True, True, False, False, False, False, False, True]
    samples["rank"] = [1, 2, 3, 5, 4, 6, 1, 2, 3, 4, 5, 6]
    samples.to_parquet(tmp_path / "samples.parquet")
    under = {"up-0001": "cloud", "up-0002": "cloud", "up-0005": "cloud", "up-0008": "flood", "up-0009": "cloud"}
    places = samples.set_index("sample_id").loc[list(under)]

    def paint(image: np.ndarray, transform: Affine) -> np.ndarray:
        for name, row in places.iterrows():
            left, top = ~transform @ (row.minx - SHIFT[0] - 10, row.miny + CHIP - SHIFT[1] + 10)
            side = int((CHIP + 20) / 0.75)
            part = image[:, max(int(top), 0) : int(top) + side, max(int(left), 0) : int(left) + side]
            noise = np.random.default_rng(0).normal(0, 15, part.shape)
            part[:] = np.rint({"cloud": 4500, "flood": 650}[under[str(name)]] + noise).astype(np.uint16)
        return image

    pairs = pair(
        valley, tmp_path / "p.parquet", samples=tmp_path / "samples.parquet", **altered(valley, tmp_path, paint=paint)
    ).set_index("sample_id")
    assert pairs["status"][pairs["status"] != "ok"].to_dict() == {
        "up-0001": "cloud or haze",
        "up-0002": "cloud or haze",
        "up-0005": "cloud or haze",
        "up-0008": "flooded",
        "up-0009": "cloud or haze",
    }
    # up-0004 and up-0006 stand in for two of the first stratum, up-0012 for one of the two of the second.
    assert sorted(pairs.index) == samples["sample_id"].tolist()
    assert pairs.loc["up-0008", "rejected"] == f"{SCENE}: flooded"
    assert pairs.loc["up-0003", "rejected"] == ""


def test_reserves_that_are_not_needed_are_not_tried(valley: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(valley / "samples.parquet")
    samples["replacement"] = samples["rank"] > 8
    samples.to_parquet(tmp_path / "samples.parquet")
    pairs = pair(valley, tmp_path / "p.parquet", samples=tmp_path / "samples.parquet", **altered(valley, tmp_path))
    assert pairs["sample_id"].tolist() == samples["sample_id"].tolist()[:8]


def test_a_featureless_composite_is_told(valley: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(valley / "samples.parquet").set_index("sample_id")
    row = samples.loc["up-0007"]
    shutil.copy(valley / "composites/2021/t.tif", tmp_path / "t.tif")
    with rasterio.open(tmp_path / "t.tif", "r+") as file:
        image = file.read()
        top, left = int((NORTH - row.miny - CHIP) / 10), int((row.minx - WEST) / 10)
        part = image[:3, top : top + 16, left : left + 16]
        part[:] = np.rint(700 + np.random.default_rng(0).normal(0, 20, part.shape)).astype(np.uint16)
        file.write(image)
    pairs = pair(valley, tmp_path / "p.parquet", composites=[tmp_path / "t.tif"]).set_index("sample_id")
    assert pairs["status"][pairs["status"] != "ok"].to_dict() == {"up-0007": "featureless"}


def test_each_scene_tried_in_vain_is_kept_with_its_reason(valley: Path, made: Path) -> None:
    pairs = pd.read_parquet(made / "pairs.parquet")
    assert (pairs["rejected"] == f"{CLOUDED}: cloud or haze").all()
    assert (pairs["cloud_percent"] == 4).all() and pairs["view_angle"].isna().all()
    gains = pairs[["gain_B04", "gain_B03", "gain_B02"]].to_numpy()
    assert gains == pytest.approx(np.full_like(gains, 1 / 6000), rel=0.1)


def test_chips_are_the_same_for_any_number_of_workers_and_scenes_are_read_once(
    valley: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointseg.dataset.chips.CHIPS_PER_WORKER", 6)
    facts = run_chips(valley, made, chips=tmp_path / "chips/up", index=tmp_path / "index.parquet", workers=2)
    assert facts["chips"] == 12
    assert all(0 < share <= 1 for share in facts["read"].values())
    files = sorted(path.name for path in (made / "chips/up").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "chips/up").iterdir())
    for name in files:
        assert (made / "chips/up" / name).read_bytes() == (tmp_path / "chips/up" / name).read_bytes(), name
    assert (made / "index/up.parquet").read_bytes() == (tmp_path / "index.parquet").read_bytes()


def test_the_index_tells_how_often_a_chip_was_seen_clear(made: Path) -> None:
    table = gpd.read_parquet(made / "index/up.parquet")
    assert table["clear_median"].eq(3).all()
    lr_unknown = [(raster_io.read(made / "chips" / path)[0] == 0).any() for path in table["lr"]]
    assert (table["clear_min"] == np.where(lr_unknown, 0, 3)).all()
    assert not {"status", "path", "rank", "rejected", "gain_B04"} & set(table)
    assert {"stratum", "replacement", "shift_sd_m", "cloud_percent"} <= set(table)


def test_an_unknown_reach_is_named(valley: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples of reach 'down'"):
        pair(valley, tmp_path / "pairs.parquet", reach="down")


def test_labels_follow_the_truth_and_the_corrections(valley: Path, made: Path) -> None:
    isa = np.load(valley / "isa.npy").copy()
    x = np.arange(SIDE) + 0.5
    isa[np.ix_((x > 110) & (x < 250), (x > 400) & (x < 420))] = 1
    isa[:, (x > 500) & (x < 520)] = 0
    isa[:, (x > 760) & (x < 770)] = 255
    table = gpd.read_parquet(made / "index.parquet")
    wrong = total = 0
    for row in table.itertuples():
        label = raster_io.read(made / "chips" / row.label)[0][0]
        top, left = int(NORTH - row.miny - CHIP), int(row.minx - WEST)
        truth = isa[top : top + CHIP, left : left + CHIP]
        wrong, total = wrong + int((label != truth).sum()), total + label.size
        # Corrections move with a shift that is right to some decimetres: only their edges may differ.
        assert (label != truth).mean() < 0.012
    assert wrong / total < 0.003


def test_chips_lie_on_one_grid_and_match_the_composite(valley: Path, made: Path) -> None:
    image, _ = ground()
    table = gpd.read_parquet(made / "index.parquet")
    for row in table.itertuples():
        (lr, coarse, _), (hr, fine, crs) = (raster_io.read(made / "chips" / path) for path in (row.lr, row.hr))
        assert crs == "EPSG:32650"
        assert (lr.dtype, lr.shape, hr.dtype, hr.shape) == ("uint16", (3, 16, 16), "uint16", (3, CHIP, CHIP))
        assert (coarse.c, coarse.f) == (fine.c, fine.f) == (row.minx, row.miny + CHIP)
        top, left = int(NORTH - row.miny - CHIP), int(row.minx - WEST)
        truth = image[:, top : top + CHIP, left : left + CHIP]
        for band in range(3):
            assert np.corrcoef(hr[band].ravel(), truth[band].ravel())[0, 1] > 0.9
        assert np.abs(hr.mean(axis=(1, 2)) / 1e4 - truth.mean(axis=(1, 2))).max() < 0.004


def test_pixels_never_seen_clear_stay_unknown(made: Path) -> None:
    data = ChipDataset(made / "index.parquet", made / "chips")
    unknown = {name: int(np.isnan(data.read(name).lr[0]).sum()) for name in data.ids}
    assert sum(unknown.values()) > 0
    assert all(np.isfinite(data.read(name).hr).all() for name in data.ids)


def test_the_reader_gives_the_chips_of_a_split(made: Path) -> None:
    data = ChipDataset(made / "index.parquet", made / "chips", "test")
    assert data.ids == [f"up-{i:04d}" for i in (4, 8, 12)]
    chip = data.read(data.ids[0])
    assert (chip.lr.dtype, chip.hr.dtype, chip.label.dtype) == (np.float32, np.float32, np.uint8)
    assert (chip.lr.shape, chip.hr.shape, chip.label.shape) == ((3, 16, 16), (3, CHIP, CHIP), (CHIP, CHIP))
    assert np.array_equal(data.read(data.ids[0]).lr, chip.lr, equal_nan=True)
    with pytest.raises(DataError, match="'tests' is not one of"):
        ChipDataset(made / "index.parquet", made / "chips", "tests")


def test_a_damaged_chip_is_named(made: Path, tmp_path: Path) -> None:
    table = gpd.read_parquet(made / "index.parquet")
    (tmp_path / "up").mkdir()
    for kind in ("lr", "hr", "label"):
        content = (made / "chips" / table[kind].iloc[0]).read_bytes()
        (tmp_path / table[kind].iloc[0]).write_bytes(content if kind != "hr" else content[: len(content) // 2])
    with pytest.raises(DataError, match=r"up-0001_hr\.tif"):
        ChipDataset(table, tmp_path).read("up-0001")


def test_statistics_and_card_tell_what_the_files_hold(made: Path) -> None:
    facts = json.loads((made / "statistics.json").read_text())
    data = ChipDataset(made / "index.parquet", made / "chips", "train")
    hr = np.stack([data.read(name).hr for name in data.ids]).astype(np.float64)
    assert facts["hr"]["mean"] == pytest.approx(hr.mean(axis=(0, 2, 3)), abs=1e-6)
    assert facts["hr"]["std"] == pytest.approx(hr.std(axis=(0, 2, 3)), abs=1e-6)
    assert facts["chips"] == {"train": 6, "validation": 3, "test": 3}
    assert facts["bands"] == BANDS
    card = (made / "card.md").read_text()
    assert f"| {SCENE} | 12 | 2022-06-23T02:46:20Z |" in card
    assert "| ok | 12 |" in card


def test_the_same_inputs_give_the_same_bytes(valley: Path, made: Path, tmp_path: Path) -> None:
    pair(valley, tmp_path / "pairs.parquet")
    run_labels(valley, tmp_path)
    run_chips(valley, tmp_path)
    for path in ("pairs.parquet", "labels.parquet", "index/up.parquet", "chips/up/up-0003_hr.tif"):
        assert (tmp_path / path).read_bytes() == (made / path).read_bytes(), path


def test_a_missing_band_is_named(valley: Path, made: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="they lack B08"):
        run_chips(valley, made, chips=tmp_path / "chips/up", index=tmp_path / "i.parquet", bands=[*BANDS, "B08"])
    assert not (tmp_path / "chips/up").exists()


@pytest.fixture(scope="module")
def richer(valley: Path, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with near infrared and merged dates, which know nothing of the east."""
    to = tmp_path_factory.mktemp("richer")
    image, _, _ = raster_io.read(valley / "composites/2021/t.tif")
    more = {"nodata": 0, "descriptions": [*BANDS, "B08", "clear"]}
    write(
        to / "composites/t.tif",
        image[[0, 1, 2, 1, 3]] + np.uint16([0, 0, 0, 50, 0])[:, None, None],
        WEST,
        NORTH,
        10,
        **more,
    )
    merged = np.concatenate([image[:3] + np.uint16(10 * part) for part in range(1, 5)])
    merged[:, :, 70:] = 0
    write(to / "merged/t.tif", merged, WEST, NORTH, 10, nodata=0, descriptions=list(MERGED_BANDS))
    for name in ("pairs.parquet", "labels.parquet"):
        shutil.copy(made / name, to / name)
    inputs = {"composites": [to / "composites/t.tif"], "merged": [to / "merged/t.tif"], "bands": [*BANDS, "B08"]}
    run_chips(valley, to, **inputs)
    (to / "labels").mkdir()
    shutil.move(to / "labels.parquet", to / "labels/up.parquet")
    (to / "pairs").mkdir()
    shutil.move(to / "pairs.parquet", to / "pairs/up.parquet")
    (to / "samples.parquet").write_bytes((valley / "samples.parquet").read_bytes())
    documents = {name: to / f"{name}.json" for name in ("statistics", "sources", "collection")}
    dataset(
        indexes=[to / "index/up.parquet"],
        chips=[to / "chips/up"],
        samples=to / "samples.parquet",
        pairs=[to / "pairs/up.parquet"],
        labels=[to / "labels/up.parquet"],
        manifests=[],
        index=to / "index.parquet",
        **documents,
        card=to / "card.md",
        stac_items=to / "items",
        checksums=to / "checksums.sha256",
        version="1.0.0",
        chip_m=CHIP,
        spacing_m=CHIP,
    )
    return to


def test_more_bands_change_nothing_else_of_a_chip(made: Path, richer: Path) -> None:
    for path in sorted((made / "chips/up").iterdir()):
        there = richer / "chips/up" / path.name
        if not path.name.endswith("_lr.tif"):
            assert there.read_bytes() == path.read_bytes(), path.name
            continue
        plain, image = raster_io.read(path)[0], raster_io.read(there)[0]
        assert image.shape == (16, CHIP // 10, CHIP // 10)
        assert (image[:3] == plain).all() and (image[3] == np.where(plain[1] > 0, plain[1] + 50, 0)).all()
        with rasterio.open(there) as file:
            assert file.descriptions == (*BANDS, "B08", *MERGED_BANDS)


def test_statistics_card_and_check_know_every_band(richer: Path) -> None:
    facts = json.loads((richer / "statistics.json").read_text())
    assert facts["bands"] == [*BANDS, "B08", *MERGED_BANDS]
    assert len(facts["lr"]["mean"]) == len(facts["lr"]["std"]) == 16 and len(facts["hr"]["mean"]) == 3
    assert len(normalisation_of(facts)["mean"]) == 16
    assert "| image | B04 | B03 | B02 | B08 | B04_nw |" in (richer / "card.md").read_text()
    item = json.loads(next((richer / "items").rglob("*.json")).read_text())
    assert [band["name"] for band in item["assets"]["lr"]["bands"]] == facts["bands"]
    named = {finding.check for finding in check(richer).findings}
    assert not named & {"band-count", "band-names", "partial-nodata", "all-nodata", "statistics", "card", "stac"}, named


def test_readers_fill_merged_dates_from_the_composite(richer: Path) -> None:
    data = ChipDataset(richer / "index.parquet", richer / "chips")
    stored = {name: raster_io.read(richer / "chips" / data.table.loc[name, "lr"])[0] for name in data.ids}
    assert any((dn[4:] == 0).any() and (dn[:3] > 0).all() for dn in stored.values()), "the east must be seen"
    for name, dn in stored.items():
        lr = data.read(name).lr
        unknown = (dn[:3] == 0).any(axis=0)
        assert (np.isnan(lr) == unknown).all()
        for part in range(4):
            bands = lr[4 + 3 * part : 7 + 3 * part]
            wanted = np.where(dn[4 + 3 * part : 7 + 3 * part] > 0, dn[4 + 3 * part : 7 + 3 * part], dn[:3])
            assert bands[:, ~unknown] == pytest.approx(wanted[:, ~unknown] * 1e-4, abs=1e-7)
    chip = TorchChips(richer, "train", normalisation=json.loads((richer / "statistics.json").read_text()))[0]
    assert chip["lr"].shape == (16, CHIP // 10, CHIP // 10) and bool(chip["lr"].isfinite().all())


def test_merged_dates_of_another_form_are_refused(valley: Path, richer: Path, tmp_path: Path) -> None:
    write(tmp_path / "merged.tif", np.ones((12, 120, 120), np.uint16), WEST, NORTH, 10, descriptions=["x"] * 12)
    inputs = {"composites": [richer / "composites/t.tif"], "pairs": richer / "pairs/up.parquet"}
    inputs |= {"labels": richer / "labels/up.parquet", "merged": [tmp_path / "merged.tif"]}
    with pytest.raises(DataError, match=r"merged\.tif has bands .* rebuild the composites"):
        run_chips(valley, tmp_path, **inputs)
