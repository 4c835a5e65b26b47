import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.data.images import packing
from lossbench.data.images import store as images
from lossbench.data.images.store import clear_cache, open_store, stores
from lossbench.errors import InputError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    found = []
    for i in range(70):
        size = (30 + i % 5, 40) if i % 2 else (40, 30)
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        found.append(tmp_path / "in" / f"{i:02d}.png")
        image.convert("L" if i % 7 == 0 else "RGB").save(found[-1])
    return found


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def plain(file, side):
    with Image.open(file) as image:
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        box = (left, top, left + edge, top + edge)
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=box))


def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(packing, "decode_quietly", refuse)


@pytest.mark.parametrize("workers", [1, 2])
def test_pixels_are_those_of_a_plain_loop(files, cache, workers):
    done = []
    store = open_store(files, 24, cache=cache, workers=workers, on_progress=done.append)
    np.testing.assert_array_equal(store.pixels, np.stack([plain(file, 24) for file in files]))
    assert list(store.digests) == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert done[-1] == 70
    assert done == sorted(done)


def test_a_second_opening_decodes_nothing_and_is_the_same(files, cache, monkeypatch):
    first = open_store(files, 24, cache=cache)
    no_decoding(monkeypatch)
    again = open_store(files, 24, cache=cache)
    assert (again.fingerprint, again.digests) == (first.fingerprint, first.digests)
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_a_touched_or_copied_tree_is_recognised_by_its_content(files, cache, monkeypatch, tmp_path):
    first = open_store(files, 24, cache=cache)
    os.utime(files[3], (1, 1))
    copies = [tmp_path / f"copy-{file.name}" for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    no_decoding(monkeypatch)
    assert open_store(files, 24, cache=cache).fingerprint == first.fingerprint
    assert open_store(copies, 24, cache=cache).fingerprint == first.fingerprint
    assert len(stores(cache)) == 1


def test_a_store_that_was_changed_is_not_taken_for_a_copied_tree(files, cache, tmp_path):
    before = open_store(files, 24, cache=cache).pixels.copy()
    store = stores(cache)[0].file
    time.sleep(0.01)
    with store.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([before.flat[-1] ^ 255]))
    copies = [file.with_name(f"copy-{file.name}") for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    assert (open_store(copies, 24, cache=cache).pixels == before).all()


def test_changed_content_order_and_side_make_another_store(files, cache):
    prints = {open_store(files, 24, cache=cache).fingerprint, open_store(files, 32, cache=cache).fingerprint}
    prints.add(open_store(files[::-1], 24, cache=cache).fingerprint)
    files[5].write_bytes(files[6].read_bytes())
    changed = open_store(files, 24, cache=cache)
    assert changed.fingerprint not in prints
    assert len(prints) == 3
    np.testing.assert_array_equal(changed.pixels[5], plain(files[6], 24))


def test_training_cannot_change_the_store(files, cache):
    store = open_store(files, 24, cache=cache)
    before = int(store.pixels[0, 0, 0, 0])
    store.pixels[0, 0, 0, 0] = before ^ 255
    assert int(open_store(files, 24, cache=cache).pixels[0, 0, 0, 0]) == before


def _open(files, cache, queue):
    decoded = []
    store = open_store(files, 24, cache=cache, on_progress=decoded.append)
    queue.put((len(decoded), store.fingerprint))


def test_two_processes_at_once_build_it_once(files, cache):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_open, args=(files, cache, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(count > 0 for count, _ in results) == [False, True]
    assert len({fingerprint for _, fingerprint in results}) == 1


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(files, cache):
    code = f"""
import os, signal
from pathlib import Path
from lossbench.data.images.store import open_store
files = sorted(Path({str(files[0].parent)!r}).iterdir())
open_store(files, 24, cache=Path({str(cache)!r}), on_progress=lambda done: os.kill(os.getpid(), signal.SIGKILL))
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.glob(".*.half"))
    assert stores(cache) == []
    store = open_store(files, 24, cache=cache)
    np.testing.assert_array_equal(store.pixels, np.stack([plain(file, 24) for file in files]))
    assert not list(cache.glob(".*.half"))


def test_a_killed_build_takes_its_workers_along(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
from functools import partial
from pathlib import Path
import os
from lossbench.utils.processes import in_parallel
from work import work

list(in_parallel(partial(work, os.getpid(), Path(__file__).parent), list(range(9)), workers=3, chunk=1))
"""
    )
    (tmp_path / "work.py").write_text(
        """
import os, signal, time

def work(parent, folder, item):
    (folder / f"{os.getpid()}.child").touch()
    for _ in range(600):
        if len(list(folder.glob("*.child"))) == 3:
            os.kill(parent, signal.SIGKILL)
            time.sleep(60)
        time.sleep(0.05)
    raise RuntimeError("the workers do not start")
"""
    )
    killed = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    children = [child.stem for child in tmp_path.glob("*.child")]
    assert len(children) == 3
    until = time.monotonic() + 10
    while any(alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [child for child in children if alive(child)]


def alive(process: str) -> bool:
    stat = Path("/proc", process, "stat")
    return stat.exists() and stat.read_text().rsplit(")")[1].split()[0] != "Z"


def test_an_unreadable_image_is_one_line_and_nothing_is_stored(files, cache):
    files[9].write_bytes(b"not an image")
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"09\.png is not an image in a known format"):
            open_store(files, 24, cache=cache, workers=workers)
    assert stores(cache) == []
    assert not list(cache.glob(".*.half"))


@pytest.mark.parametrize("workers", [1, 2])
def test_all_unreadable_images_are_named_at_once(files, cache, workers):
    files[9].write_bytes(b"not an image")
    files[40].write_bytes(files[40].read_bytes()[:60])
    files[41].write_bytes(b"")
    with pytest.raises(
        InputError, match=r"\A[^\n]*09\.png is not an image[^\n]*\(3 such images in [^\n]*unreadable\.txt\)\Z"
    ):
        open_store(files, 24, cache=cache, workers=workers)
    lines = (cache / "unreadable.txt").read_text().splitlines()
    assert [name in line for name, line in zip(("09.png", "40.png", "41.png"), lines, strict=True)] == [True] * 3
    assert stores(cache) == []
    clear_cache(cache)
    assert not (cache / "unreadable.txt").exists()


def test_a_missing_file_and_a_link_in_a_circle_are_one_line(files, cache):
    files[2].unlink()
    with pytest.raises(InputError, match=r"02\.png cannot be read \(No such file"):
        open_store(files, 24, cache=cache)
    files[2].symlink_to(files[2])
    with pytest.raises(InputError, match=r"02\.png cannot be read \(Too many levels"):
        open_store(files, 24, cache=cache)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[32:] + data[:32], lambda data: b""])
def test_the_list_of_digests_is_read_where_it_is_asked_for_and_checked_then(files, cache, spoil):
    whole = open_store(files, 24, cache=cache).digests
    listed = next(cache.glob("*.digests"))
    assert listed.stat().st_size == 32 * len(files)
    assert str(whole[0]) not in next(cache.glob("*.index.json")).read_text()
    listed.write_bytes(spoil(listed.read_bytes()))
    store = open_store(files, 24, cache=cache)
    with pytest.raises(InputError, match=r"\A[^\n]*does not list the files of its store; [^\n]*cache --clear\Z"):
        _ = store.digests
    clear_cache(cache)
    assert not list(cache.glob("*.digests"))
    assert open_store(files, 24, cache=cache).digests == whole


@pytest.mark.parametrize("damage", ["cut", "index", "shape", "byte"])
def test_a_damaged_store_is_one_line(files, cache, damage):
    open_store(files, 24, cache=cache)
    store = stores(cache)[0].file
    index = next(cache.glob("*.index.json"))
    if damage == "cut":
        store.write_bytes(store.read_bytes()[:-1])
    elif damage == "shape":
        np.save(store, np.zeros((3, 24, 24, 3), np.uint8))
    elif damage == "byte":  # behind its fingerprint: same size, other pixels
        time.sleep(0.01)
        with store.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x07")
    else:
        index.write_text("{")
    with pytest.raises(InputError, match="lossbench data cache --clear"):
        open_store(files, 24, cache=cache)
    clear_cache(cache)
    assert len(open_store(files, 24, cache=cache).pixels) == 70


def test_a_full_disk_is_one_line(files, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images, "_reserve", full)
    with pytest.raises(InputError, match=r"No space left on device.*LOSSBENCH_CACHE"):
        open_store(files, 24, cache=cache)
    assert not list(cache.glob(".*.half"))


def test_stores_are_listed_and_cleared(files, cache):
    open_store(files, 24, cache=cache)
    open_store(files[:10], 32, cache=cache)
    assert {(s.images, s.side) for s in stores(cache)} == {(70, 24), (10, 32)}
    assert stores(cache)[0].size >= 10 * 32 * 32 * 3
    (cache / "mine.txt").write_text("x")
    for left in (".0123.index.half", ".4567.index.89.half"):  # by killed builds, of an older lossbench and of this one
        (cache / left).write_text("x")
    assert clear_cache(cache) > 70 * 24 * 24 * 3
    assert stores(cache) == []
    assert {p.name for p in cache.iterdir()} == {".claims", "mine.txt"}


def test_nothing_is_cleared_while_a_store_is_built(files, cache):
    open_store(files[:10], 32, cache=cache)
    code = f"""
from pathlib import Path
from lossbench.data.images.store import open_store
files = sorted(Path({str(files[0].parent)!r}).iterdir())
def wait(done):
    print(done, flush=True)
    input()
open_store(files, 24, cache=Path({str(cache)!r}), workers=1, on_progress=wait)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    building = subprocess.Popen([sys.executable, "-c", code], env=os.environ, **pipes)
    assert building.stdout.readline() == "32\n"
    with pytest.raises(InputError, match=r"a store is being built in .*; clear the cache when that is done"):
        clear_cache(cache)
    assert len(stores(cache)) == 1
    building.communicate("\n" * 3)
    assert building.returncode == 0
    np.testing.assert_array_equal(
        open_store(files, 24, cache=cache).pixels, np.stack([plain(file, 24) for file in files])
    )
    clear_cache(cache)
    assert stores(cache) == []


def test_a_cache_deleted_while_a_store_is_built_makes_no_wrong_store(files, cache):
    """Somebody deletes the whole folder, locks and all, and another process builds the same meanwhile."""
    seen = []

    def on_progress(done):
        if not seen:
            shutil.rmtree(cache)
            seen.append(open_elsewhere(files, cache))

    with pytest.raises(InputError, match="cannot be written"):
        open_store(files, 24, cache=cache, workers=1, on_progress=on_progress)
    assert seen == [0]
    np.testing.assert_array_equal(
        open_store(files, 24, cache=cache).pixels, np.stack([plain(file, 24) for file in files])
    )


def open_elsewhere(files, cache):
    code = f"""
from pathlib import Path
from lossbench.data.images.store import open_store
open_store(sorted(Path({str(files[0].parent)!r}).iterdir()), 24, cache=Path({str(cache)!r}))
"""
    return subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode


def test_a_side_out_of_range(files, cache):
    with pytest.raises(InputError, match="--image-size 4 is out of range"):
        open_store(files, 4, cache=cache)


def test_two_paths_of_one_content_built_at_once_both_open(files, cache):
    copies = [file.with_name(f"copy-{file.name}") for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    inner = []

    def meanwhile(done):
        if not inner:
            inner.append(open_store(copies, 24, cache=cache, workers=1))

    (cache / "x").mkdir(parents=True)
    (cache / "other.index.json").write_text("{")  # of somebody else, damaged
    outer = open_store(files, 24, cache=cache, workers=1, on_progress=meanwhile)
    assert (outer.pixels == inner[0].pixels).all()
    for again in (files, copies):
        assert (open_store(again, 24, cache=cache).pixels == outer.pixels).all()
