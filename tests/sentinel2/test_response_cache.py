"""Pieces of a composite that was stopped: whole ones are not asked for again, damaged ones are."""

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


class Slow(FileReader):
    """An archive that counts what it is asked for."""

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
def looks(root):
    return sorted(archives.find_scenes(root), key=lambda scene: scene.id)


def test_what_is_kept_is_not_asked_for_again(root, looks, tmp_path):
    for shift_m in ((0.0, 0.0), (2.5, -3.0)):
        first = CachingReader(Slow(root), tmp_path / "responses")
        told = [first.read(look, BANDS, BOUNDS, shift_m) for look in looks]
        again = CachingReader(Slow(root), tmp_path / "responses")
        for look, array in zip(looks, told):
            same = again.read(look, BANDS, BOUNDS, shift_m)
            assert same.dtype == array.dtype == np.uint16 and (same == array).all() and array.any()
            same[:] = 0  # it is the caller's own
        assert (first.asked, first.kept) == (4, 0) and (again.asked, again.kept) == (0, 4)
        assert again.reader.reads == []
        assert again.warped == first.warped and "east_T51RTQ" in again.warped
    assert len(list((tmp_path / "responses").iterdir())) == 8
    again.drop()
    assert not (tmp_path / "responses").exists()
    again.drop()


def test_another_question_is_another_piece(root, looks, tmp_path):
    look = looks[0]
    elsewhere = {key: replace(asset, href=f"new/{asset.href}") for key, asset in look.assets.items()}
    (root / "new").symlink_to(root)
    other = Slow(root)
    other.epsg = 32651
    questions = [
        (Slow(root), look, BANDS, BOUNDS, (0.0, 0.0)),
        (Slow(root), look, BANDS[::-1], BOUNDS, (0.0, 0.0)),
        (Slow(root), look, BANDS[:1], BOUNDS, (0.0, 0.0)),
        (Slow(root), look, BANDS, (*BOUNDS[:3], BOUNDS[3] + 10), (0.0, 0.0)),
        (Slow(root), look, BANDS, BOUNDS, (0.0, 1e-9)),
        (Slow(root), replace(look, id="other"), BANDS, BOUNDS, (0.0, 0.0)),
        (Slow(root), replace(look, assets=elsewhere), BANDS, BOUNDS, (0.0, 0.0)),
        (other, look, BANDS, BOUNDS, (0.0, 0.0)),
    ]
    for number, (reader, scene, keys, bounds, shift_m) in enumerate(questions, start=1):
        kept = CachingReader(reader, tmp_path / "responses")
        kept.read(scene, keys, bounds, shift_m)
        assert (kept.asked, kept.kept) == (1, 0)
        assert len(list((tmp_path / "responses").iterdir())) == number


def damage(content):
    line, _, packed = content.partition(b"\n")
    return {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "a bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "no header": packed,
        "another shape": line.replace(b"[3, 70, 60]", b"[3, 60, 70]") + b"\n" + packed,
        "a list": b"[]\n" + packed,
    }


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "no header", "another shape", "a list"])
def test_damaged_pieces_are_asked_for_again(root, looks, tmp_path, caplog, how):
    whole = CachingReader(Slow(root), tmp_path / "responses").read(looks[1], BANDS, BOUNDS)
    (piece,) = (tmp_path / "responses").iterdir()
    content = piece.read_bytes()
    assert damage(content)[how] != content
    piece.write_bytes(damage(content)[how])
    kept = CachingReader(Slow(root), tmp_path / "responses")
    assert (kept.read(looks[1], BANDS, BOUNDS) == whole).all()
    assert (kept.asked, kept.kept) == (1, 0) and f"{piece} is damaged" in caplog.text
    assert piece.read_bytes() == content


def test_threads_may_share_pieces(root, looks, tmp_path):
    kept = CachingReader(Slow(root), tmp_path / "responses")
    assert kept.workers == 4
    questions = [(look, keys) for look in looks for keys in (BANDS, ["SCL"], BANDS[:2])] * 4
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda question: kept.read(*question, BOUNDS), questions))
    for (look, keys), array in zip(questions, told):
        assert (array == FileReader(root, EPSG).read(look, keys, BOUNDS)).all()
    assert kept.asked + kept.kept == len(questions) and 12 <= kept.asked == len(kept.reader.reads)
    assert len(list((tmp_path / "responses").iterdir())) == 12


def test_a_full_disk_is_told(root, looks, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="no space left on the disk of"):
        CachingReader(Slow(root), tmp_path / "responses").read(looks[0], BANDS, BOUNDS)
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
def test_a_killed_job_asks_for_the_missing_pieces_alone(root, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(compositor, "REMOTE_ROWS", 10)
    made, described, verb = SERVERS[kind]
    listed, folder = tmp_path / "s.json", tmp_path / "responses" / "2021" / TILE
    with made(root).serving() as server:
        source = described(server.url)
        scenes(scenes=listed, **listing(source=source))
        arguments = compositing(source=source, parallel_requests=2, mask_dilation_m=25)
        server.requests.clear()
        composite(scenes=listed, composite=tmp_path / "whole.tif", **arguments)
        questions = server.requests[verb]
        server.faults = Faults(always=SLOW, slow_s=0.03)
        given = [str(listed), str(tmp_path / "again.tif"), repr(arguments | {"response_cache": str(folder)})]
        job = subprocess.Popen([sys.executable, "-c", CHILD, *given], start_new_session=True)
        deadline = time.monotonic() + 40
        while len(whole_pieces(folder)) < 20 and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        there = len(whole_pieces(folder))
        answered = -1
        while answered != sum(server.requests.values()):  # what the killed job had asked for is still being answered
            answered = sum(server.requests.values())
            time.sleep(0.5)
        assert 20 <= there < 80 and not (tmp_path / "again.tif").exists()
        server.faults, asked = Faults(), []
        server.requests.clear()
        monkeypatch.setattr(CachingReader, "drop", lambda kept: asked.append((kept.asked, kept.kept)))
        composite(scenes=listed, composite=tmp_path / "again.tif", **arguments, response_cache=str(folder))
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert asked == [(80 - there, there)]  # 4 scenes, 10 strips, bands and mask
    if verb:
        assert questions == 80 and server.requests[verb] == 80 - there


def whole_pieces(folder):
    return [name for name in (os.listdir(folder) if folder.exists() else []) if not name.startswith(".")]


def test_pieces_go_when_the_composite_is_whole(root, tmp_path):
    with EarthEngineServer(root).serving() as server:
        source = {"kind": "earthengine", "project": "p", "url": server.url}
        scenes(scenes=tmp_path / "s.json", **listing(source=source))
        arguments = compositing(source=source, response_cache=str(tmp_path / "responses"))
        facts = composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **arguments)
    assert not (tmp_path / "responses").exists()
    assert sorted(facts["graphs"]) == ["S0_T50RPV", "S1_T50RPV", "S2_T50RPV", "east_T51RTQ"]
