"""Viewer: map tiles, URLs that do not reach files, and the page in a browser."""

import http.client
import io
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.chromium import chromium_command, needs_chromium

from jointseg.accuracy import figures
from jointseg.raster import cog
from jointseg.runtime.errors import DataError
from jointseg.viewer import layers, tiles
from jointseg.viewer.server import create_server

WEST, NORTH = 660_000, 3_541_024
ENTRY = {
    "title": "A product",
    "year": 2021,
    "isa": {"codes": [50]},
    "not_isa": {"codes": [40]},
    "series": {},
    "years": [],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two maps of 512 m with ISA in the west, a composite, a product, and a secret beside the folder."""
    folder = tmp_path_factory.mktemp("viewer") / "results"
    for year, width in ((2019, 100), (2021, 256)):
        isa = np.zeros((512, 512), np.uint8)
        isa[:, :width], isa[:50] = 1, 255
        write(folder / f"isa/{year}/50N_E0660_N3540.tif", isa[None], 1, 255)
    bands = np.random.default_rng(1).integers(500, 3000, (4, 51, 51), dtype=np.uint16)
    write(folder / "sentinel2/composites/2021/50N_E0660_N3540.tif", bands, 10, 0)
    mosaic = folder / "accuracy/mosaics/cover/2021"
    write(mosaic / "cover.tif", np.where(np.indices((51, 51))[1] < 25, 50, 40).astype(np.uint8)[None], 10, None)
    subprocess.run(
        ["gdalbuildvrt", "-q", "-vrtnodata", "255", mosaic / "EPSG_32650.vrt", mosaic / "cover.tif"], check=True
    )
    manifest = folder / "manifests/product_mosaic/cover/2021.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"params": {"entry": ENTRY}}))
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "isa/2021/link.txt").symlink_to(folder.parent / "secret.txt")
    return folder


def write(path: Path, bands: np.ndarray, res_m: int, nodata: int | None) -> None:
    cog.write(path, bands, crs="EPSG:32650", transform=Affine(res_m, 0, WEST, 0, -res_m, NORTH), nodata=nodata)


@pytest.fixture(scope="module")
def port(results: Path) -> Iterator[int]:
    server = create_server(results, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def get(port: int, url: str, host: str | None = None) -> tuple[int, str, bytes]:
    """Return status, media type and content; the URL is sent without normalisation."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", url, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers.get("Content-Type", ""), response.read()


def test_layers_are_found_with_their_years_and_zones(results: Path) -> None:
    found = {layer["id"]: layer for layer in layers.describe_layers(layers.find_layers(results))}
    assert list(found) == ["composites-2021-32650", "isa-2019-32650", "isa-2021-32650", "product-cover-2021-32650"]
    assert found["isa-2019-32650"]["explainable"] and not found["composites-2021-32650"]["explainable"]
    assert found["isa-2021-32650"]["bounds"] == [WEST, NORTH - 512, WEST + 512, NORTH]
    assert {layer["zone"] for layer in found.values()} == {"UTM 50N"}
    with pytest.raises(DataError, match="contains no composite or map"):
        layers.find_layers(results.parent)


def tile_at(port: int, layer: str, level: int, x: int, y: int) -> np.ndarray:
    """Return the tile that contains a point, [rows, columns, 4]."""
    side = tiles.SIDE_PX * 2**level
    status, media, content = get(port, f"/tile/{layer}/{level}/{x // side}/{y // side}.png")
    assert (status, media) == (200, "image/png")
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("level", [0, 1])
def test_location_of_tile_pixels(port: int, results: Path, level: int) -> None:
    step, side = 2**level, tiles.SIDE_PX * 2**level
    left, top = WEST // side * side, (NORTH - 200) // side * side + side
    image = tile_at(port, "isa-2021-32650", level, WEST, NORTH - 200)
    expected = {(WEST + 9, NORTH - 101): figures.ISA, (WEST - 9, NORTH - 101): None}
    expected |= {(WEST + 100, NORTH - 201): figures.ISA, (WEST + 9, NORTH - 21): figures.AGREEMENT["nodata"]}
    for (x, y), colour in expected.items():
        row, col = (top - y) // step, (x - left) // step
        if 0 <= row < 256 and 0 <= col < 256:
            assert image[row, col, 3] == (0 if colour is None else 255)
            assert colour is None or tuple(image[row, col, :3]) == colour, (x, y)


def test_tiles_of_products_and_images_and_empty_tiles(port: int) -> None:
    cover = tile_at(port, "product-cover-2021-32650", 1, WEST + 60, NORTH - 300)
    colours = {tuple(colour) for colour in cover[cover[..., 3] > 0][:, :3].tolist()}
    assert figures.ISA in colours and figures.AGREEMENT["true negative"] in colours
    image = tile_at(port, "composites-2021-32650", 1, WEST + 60, NORTH - 300)
    assert image[..., 3].max() == 255 and image[..., :3].std() > 20
    assert get(port, "/tile/isa-2021-32650/1/0/0.png")[0] == 204
    assert get(port, "/tile/isa-2021-32650/13/0/0.png")[0] == 404


ODD_URLS = [
    *("/../secret.txt", "/tile/../../secret.txt", "/tile/isa-2021-32650/../../../secret.txt", "/%2e%2e/secret.txt"),
    *("//etc/passwd", "/tile/isa-2021-32650/0/0/0.png/../../secret.txt", "/isa/2021/link.txt", "/isa/2021/"),
    *("/tile/%2e%2e%2fsecret/0/0/0.png", "/tile/isa-2021-32650/0/0/0.png%00.txt", "/..%5csecret.txt", "/manifests"),
    *(
        "/tile/isa-2021-32650/0/-9999999/0.png",
        "/tile/a/0/0/0.png",
        "/favicon.ico",
        "http://127.0.0.1/secret.txt",
        "/?/../secret.txt",
    ),
]


@pytest.mark.parametrize("url", ODD_URLS)
def test_no_url_reaches_a_file(port: int, url: str) -> None:
    status, media, content = get(port, url)
    assert b"secret" not in content.replace(b"results", b"") or media.startswith("text/html")
    assert status == 404 or url.startswith("/?")


@given(st.text(alphabet="./%2ef\\tile-0123456789isa~:@?#&=", max_size=60))
@settings(max_examples=150, deadline=None)
def test_random_urls_get_a_response_and_reach_no_file(port: int, tail: str) -> None:
    status, _, content = get(port, "/" + tail.replace("#", "%23"))
    assert status in (200, 204, 400, 404, 422) and b"root:" not in content and content != b"secret"


def test_other_sites_cannot_read_through_the_browser(port: int) -> None:
    assert get(port, "/", host="maps.example.org")[0] == 403
    assert get(port, "/", host=f"localhost:{port}")[0] == 200


def test_errors_of_explanations(port: int) -> None:
    assert get(port, "/explain?epsg=32650&x=1&y=2")[0] == 422
    status, _, content = get(port, "/explain?epsg=32651&x=1&y=2&year=2021")
    assert status == 422 and content == b"there is no layer in EPSG:32651; pass the zone of a layer\n"
    status, _, content = get(port, f"/explain?epsg=32650&x={WEST + 5}&y={NORTH - 5}&year=2021")
    assert status == 422 and content[-1:] == b"\n" and b"Traceback" not in content


@needs_chromium
def test_page_compares_two_layers_and_explains(port: int, tmp_path: Path) -> None:
    view = f"epsg=32650&x={WEST + 256}&y={NORTH - 256}&zoom=0&left=isa-2021-32650&right=isa-2019-32650&split=0.5"
    url = f"http://127.0.0.1:{port}/#{view}&pixel={WEST + 5},{NORTH - 60}"
    command = chromium_command(tmp_path, (1000, 700), "--virtual-time-budget=9000")
    dom = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, check=True, timeout=120).stdout
    assert len(re.findall(r'<img[^>]*src="/tile/isa-2021-32650/0/', dom)) >= 6
    assert len(re.findall(r'<img[^>]*src="/tile/isa-2019-32650/0/', dom)) >= 6
    assert "A product, 2021</option>" in dom and "Provenance of the pixel, 2021" in dom
    assert "manifest" in dom[dom.index("<pre>") :]  # the error that there are no manifests
    shot = tmp_path / "page.png"
    subprocess.run(
        [*command, f"--screenshot={shot}", f"http://127.0.0.1:{port}/#{view}"],
        check=True,
        timeout=120,
        capture_output=True,
    )
    image = np.asarray(Image.open(shot).convert("RGB"))
    red = np.abs(image.astype(int) - figures.ISA).sum(axis=2) < 12
    # The map of 2021, left of the divider, is red up to the divider at 256 m; that of 2019 is red up to 100 m only.
    middle = image.shape[1] // 2
    assert red[300:600, middle - 200 : middle - 30].mean() > 0.9
    assert red[300:600, middle + 30 : middle + 200].mean() < 0.05
