"""The response cache of a stopped composite: intact files are reused, damaged ones requested again."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.loopback import SLOW, Faults
from support.loopback_archive import write_tiny_archive
from support.loopback_earthengine import EarthEngineServer
from support.loopback_stac import StacServer
from support.tiny_sentinel2 import TILE, WEST, compositing, listing

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import composite as compositor
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.response_cache import CachingReader
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import scenes

EPSG = 32650
BOUNDS = (WEST + 100, 3_540_200, WEST + 700, 3_540_900)
BANDS = ["B04", "B03", "B02"]


class SlowReader(FileReader):
    """A slow archive reader that records its reads."""

    def __init__(self, root):
        super().__init__(root, EPSG)
        self.reads, self.workers = [], 4

    def read(self, scene, keys, bounds, shift_m=(0.0, 0.0)):
        self.reads.append((scene.id, *keys))
        time.sleep(0.01)
        return super().read(scene, keys, bounds, shift_m)


@pytest.fixture
def root(tmp_path):
    return write_tiny_archive(tmp_path / "archive", dark=False, east=True)


@pytest.fixture
def scene_list(root):
    return sorted(archives.find_scenes(root), key=lambda scene: scene.id)


def test_cached_responses_are_not_requested_again(root, scene_list, tmp_path):
    for shift_m in ((0.0, 0.0), (2.5, -3.0)):
        first = CachingReader(SlowReader(root), tmp_path / "responses")
        arrays = [first.read(scene, BANDS, BOUNDS, shift_m) for scene in scene_list]
        again = CachingReader(SlowReader(root), tmp_path / "responses")
        for scene, array in zip(scene_list, arrays):
            same = again.read(scene, BANDS, BOUNDS, shift_m)
            assert same.dtype == array.dtype == np.uint16 and (same == array).all() and array.any()
            same[:] = 0  # the array belongs to the caller
        assert (first.misses, first.hits) == (4, 0) and (again.misses, again.hits) == (0, 4)
        assert again.reader.reads == []
        assert again.warped == first.warped and "east_T51RTQ" in again.warped
    assert len(list((tmp_path / "responses").iterdir())) == 8
    again.clear()
    assert not (tmp_path / "responses").exists()
    again.clear()


def test_different_requests_have_different_files(root, scene_list, tmp_path):
    scene = scene_list[0]
    elsewhere = {key: replace(asset, href=f"new/{asset.href}") for key, asset in scene.assets.items()}
    (root / "new").symlink_to(root)
    other = SlowReader(root)
    other.epsg = 32651
    requests = [
        (SlowReader(root), scene, BANDS, BOUNDS, (0.0, 0.0)),
        (SlowReader(root), scene, BANDS[::-1], BOUNDS, (0.0, 0.0)),
        (SlowReader(root), scene, BANDS[:1], BOUNDS, (0.0, 0.0)),
        (SlowReader(root), scene, BANDS, (*BOUNDS[:3], BOUNDS[3] + 10), (0.0, 0.0)),
        (SlowReader(root), scene, BANDS, BOUNDS, (0.0, 1e-9)),
        (SlowReader(root), replace(scene, id="other"), BANDS, BOUNDS, (0.0, 0.0)),
        (SlowReader(root), replace(scene, assets=elsewhere), BANDS, BOUNDS, (0.0, 0.0)),
        (other, scene, BANDS, BOUNDS, (0.0, 0.0)),
    ]
    for number, (reader, scene, keys, bounds, shift_m) in enumerate(requests, start=1):
        caching = CachingReader(reader, tmp_path / "responses")
        caching.read(scene, keys, bounds, shift_m)
        assert (caching.misses, caching.hits) == (1, 0)
        assert len(list((tmp_path / "responses").iterdir())) == number


def damaged(content):
    """Return damaged variants of a file."""
    line, _, packed = content.partition(b"\n")
    return {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "a bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "no header": packed,
        "another shape": line.replace(b"[3, 70, 60]", b"[3, 60, 70]") + b"\n" + packed,
        "a list": b"[]\n" + packed,
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "no header", "another shape", "a list"])
def test_damaged_files_are_requested_again(root, scene_list, tmp_path, caplog, damage):
    whole = CachingReader(SlowReader(root), tmp_path / "responses").read(scene_list[1], BANDS, BOUNDS)
    (path,) = (tmp_path / "responses").iterdir()
    content = path.read_bytes()
    assert damaged(content)[damage] != content
    path.write_bytes(damaged(content)[damage])
    caching = CachingReader(SlowReader(root), tmp_path / "responses")
    assert (caching.read(scene_list[1], BANDS, BOUNDS) == whole).all()
    assert (caching.misses, caching.hits) == (1, 0) and f"{path} is damaged" in caplog.text
    assert path.read_bytes() == content


def test_threads_share_the_cache(root, scene_list, tmp_path):
    caching = CachingReader(SlowReader(root), tmp_path / "responses")
    assert caching.workers == 4
    requests = [(scene, keys) for scene in scene_list for keys in (BANDS, ["SCL"], BANDS[:2])] * 4
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda request: caching.read(*request, BOUNDS), requests))
    for (scene, keys), array in zip(requests, arrays):
        assert (array == FileReader(root, EPSG).read(scene, keys, BOUNDS)).all()
    assert caching.misses + caching.hits == len(requests) and 12 <= caching.misses == len(caching.reader.reads)
    assert len(list((tmp_path / "responses").iterdir())) == 12


def test_full_disk_is_an_error(root, scene_list, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="no space left on the disk of"):
        CachingReader(SlowReader(root), tmp_path / "responses").read(scene_list[0], BANDS, BOUNDS)
    assert not list((tmp_path / "responses").iterdir())


SERVERS = {
    "earthengine": (
        EarthEngineServer,
        lambda url: {"kind": "earthengine", "project": "p", "url": url},
        "computePixels",
    ),
    "stac": (StacServer, lambda url: {"kind": "stac", "url": url, "collections": {"L2A": "sentinel-2-l2a"}}, None),
}
CHILD = """
import sys
from pathlib import Path
from jointseg.sentinel2 import composite as compositor
compositor.REMOTE_ROWS = 10
compositor.composite(scenes=Path(sys.argv[1]), composite=Path(sys.argv[2]), **eval(sys.argv[3]))
"""


@pytest.mark.parametrize("kind", SERVERS)
def test_killed_job_resumes_with_the_missing_requests(root, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 10)
    server_class, source_of, verb = SERVERS[kind]
    listed, folder = tmp_path / "s.json", tmp_path / "responses" / "2021" / TILE
    with server_class(root).serving() as server:
        source = source_of(server.url)
        scenes(scenes=listed, **listing(source=source))
        arguments = compositing(source=source, parallel_requests=2, mask_dilation_m=25)
        server.requests.clear()
        composite(scenes=listed, composite=tmp_path / "whole.tif", **arguments)
        requests = server.requests[verb]
        server.faults = Faults(always=SLOW, slow_s=0.03)
        job_arguments = [str(listed), str(tmp_path / "again.tif"), repr(arguments | {"response_cache": str(folder)})]
        job = subprocess.Popen([sys.executable, "-c", CHILD, *job_arguments], start_new_session=True)
        deadline = time.monotonic() + 40
        while len(complete_files(folder)) < 20 and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        cached = len(complete_files(folder))
        answered = -1
        while answered != sum(server.requests.values()):  # the server still answers requests of the killed job
            answered = sum(server.requests.values())
            time.sleep(0.5)
        assert 20 <= cached < 80 and not (tmp_path / "again.tif").exists()
        server.faults, counts = Faults(), []
        server.requests.clear()
        monkeypatch.setattr(CachingReader, "clear", lambda caching: counts.append((caching.misses, caching.hits)))
        composite(scenes=listed, composite=tmp_path / "again.tif", **arguments, response_cache=str(folder))
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert counts == [(80 - cached, cached)]  # 4 scenes, 10 strips, bands and mask
    if verb:
        assert requests == 80 and server.requests[verb] == 80 - cached


def complete_files(folder):
    return [name for name in (os.listdir(folder) if folder.exists() else []) if not name.startswith(".")]


def test_cache_is_removed_when_the_composite_is_complete(root, tmp_path):
    with EarthEngineServer(root).serving() as server:
        source = {"kind": "earthengine", "project": "p", "url": server.url}
        scenes(scenes=tmp_path / "s.json", **listing(source=source))
        arguments = compositing(source=source, response_cache=str(tmp_path / "responses"))
        facts = composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **arguments)
    assert not (tmp_path / "responses").exists()
    assert sorted(facts["graphs"]) == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV", "east_T51RTQ"]
