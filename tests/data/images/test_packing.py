"""The packed store: right pixels, built once, never half."""

import os

import numpy as np
import pytest
from PIL import Image

from lossbench.data.images.store import open_store
from lossbench.errors import InputError


def files_of(tree):
    return sorted(tree.rglob("*.jpg"))


def test_pixels_are_the_centre_square_resized(tree, tmp_path):
    files = files_of(tree)
    store = open_store(files, 48, cache=tmp_path / "cache")
    assert store.pixels.shape == (len(files), 48, 48, 3)
    with Image.open(files[5]) as image:  # 92 x 112
        square = image.convert("RGB").crop((0, 10, 92, 102)).resize((48, 48), Image.Resampling.BILINEAR)
    difference = store.pixels[5].astype(int) - np.asarray(square)
    assert abs(difference).max() <= 5, "they differ at the edges alone, where the filter reaches over the crop"
    assert (difference == 0).mean() > 0.95


def test_it_is_built_once_and_anew_when_a_file_changes(tree, tmp_path):
    files, calls = files_of(tree), []
    first = open_store(files, 32, cache=tmp_path / "cache", on_progress=calls.append)
    assert calls[-1] == len(files)
    calls.clear()
    assert open_store(files, 32, cache=tmp_path / "cache", on_progress=calls.append).fingerprint == first.fingerprint
    assert calls == []
    files[0].write_bytes(files[1].read_bytes())
    os.utime(files[0], (1, 1))
    changed = open_store(files, 32, cache=tmp_path / "cache", on_progress=calls.append)
    assert calls
    assert changed.fingerprint != first.fingerprint
    np.testing.assert_array_equal(changed.pixels[0], changed.pixels[1])


def test_the_fingerprint_is_of_contents_not_of_paths(tree, tmp_path):
    first = open_store(files_of(tree), 32, cache=tmp_path / "cache")
    moved = tree.rename(tmp_path / "elsewhere")
    assert open_store(files_of(moved), 32, cache=tmp_path / "cache").fingerprint == first.fingerprint
    assert open_store(files_of(moved), 40, cache=tmp_path / "cache").fingerprint != first.fingerprint


@pytest.mark.parametrize("how", ["truncated", "no image", "empty"])
def test_an_unreadable_image_is_named_and_no_store_is_left(tree, tmp_path, how):
    file = files_of(tree)[7]
    data = file.read_bytes()
    file.write_bytes({"truncated": data[: len(data) // 2], "no image": b"hello" * 100, "empty": b""}[how])
    with pytest.raises(InputError, match=rf"\A{file} [^\n]*; replace or remove it\Z"):
        open_store(files_of(tree), 32, cache=tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [".claims"]


def test_writing_into_the_array_never_reaches_the_file(tree, tmp_path):
    files = files_of(tree)
    open_store(files, 32, cache=tmp_path / "cache").pixels[:] = 0
    assert open_store(files, 32, cache=tmp_path / "cache").pixels.any()
