"""Embeddings and networks in files: which image has which row, and files that do not hold them."""

import io
import zipfile

import numpy as np
import pytest
from support import run_of

from lossbench.data.tree import read_unseen_people
from lossbench.errors import InputError
from lossbench.evaluation import model_files
from lossbench.evaluation.model_files import is_foreign, is_model_file, open_model_file, read_embeddings_file
from lossbench.evaluation.models import whole
from lossbench.models.onnx_file import InputOptions

ROWS = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)


@pytest.fixture
def unseen(tree):
    return read_unseen_people(tree)


def write(folder, **arrays):
    np.savez(folder / "e.npz", **arrays)
    return folder / "e.npz"


def read(tmp_path, unseen, **arrays):
    return read_embeddings_file(write(tmp_path, **arrays), unseen)


@pytest.mark.parametrize("depth", [2, 3, 9])
def test_an_image_has_the_row_of_the_end_of_its_path(tmp_path, unseen, depth):
    """However much of the path there is, and in whatever order."""
    order = np.random.default_rng(1).permutation(16)
    names = ["/".join(file.parts[1:][-depth:]) for file in unseen.files]
    model = read(tmp_path, unseen, embeddings=ROWS, files=[names[i] for i in order])
    assert model.without(unseen.files) == []
    (found,) = model.embed(unseen.files, [whole(unseen.files)])
    np.testing.assert_array_equal(found, ROWS[np.argsort(order)])


def test_images_without_a_row_are_known(tmp_path, unseen):
    names = list(unseen.names)
    model = read(tmp_path, unseen, embeddings=ROWS[:14], names=names[2:])
    assert model.without(unseen.files) == list(unseen.files[:2])


def test_a_row_that_may_be_of_two_images_is_refused(tmp_path, unseen):
    model = read(tmp_path, unseen, embeddings=ROWS[:4], files=[f"{i}.jpg" for i in range(4)])
    with pytest.raises(
        InputError, match=r"'0.jpg' in .*e.npz may be .*p4/0.jpg or .*p5/0.jpg; write more of the paths"
    ):
        model.without(unseen.files)


def test_with_labels_alone_rows_are_those_of_the_people_in_order(tmp_path, unseen):
    labels = [7] * 4 + [3] * 4 + [9] * 4 + [1] * 4
    model = read(tmp_path, unseen, embeddings=ROWS, labels=labels)
    assert model.without(unseen.files) == []
    (found,) = model.embed(unseen.files, [unseen.distractors])
    np.testing.assert_array_equal(found, ROWS[8:])
    names = read(tmp_path, unseen, embeddings=ROWS, labels=np.array(labels).astype(str), files=unseen.names)
    assert names.without(unseen.files) == []
    swapped = [3, *labels[1:]]
    for arrays in ({}, {"files": unseen.names}):
        with pytest.raises(
            InputError, match=r"contradict the folders of --data: query/p4/0.jpg and query/p4/1.jpg have"
        ):
            read(tmp_path, unseen, embeddings=ROWS, labels=swapped, **arrays)
    with pytest.raises(InputError, match=r"query/p4/0.jpg and distractors/p6/0.jpg have the same label"):
        read(tmp_path, unseen, embeddings=ROWS, labels=[7] * 4 + [3] * 4 + [7] * 4 + [1] * 4)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"query": ROWS}, "has no array 'embeddings'.*, but query; add it"),
        ({"embeddings": ROWS}, "has no array 'files'"),
        ({"embeddings": ROWS[0], "files": ["a"] * 6}, r"embeddings are float32 \[6\]; they should be float, \[N, D\]"),
        ({"embeddings": ROWS.astype(int), "files": ["a"] * 16}, r"embeddings are int64 \[16, 6\]"),
        ({"embeddings": ROWS, "files": ["a"]}, r"files are \[1\] for 16 embeddings; give one for each"),
        ({"embeddings": ROWS, "files": range(16)}, "files are int64; they should be texts"),
        ({"embeddings": ROWS[:2], "files": ["a", "./a"]}, "has './a' twice, in rows 0 and 1; leave one out"),
        ({"embeddings": ROWS[:9], "labels": range(9)}, "has 9 rows and no 'files'; they would be the 16 images"),
        ({"embeddings": np.array([{"a": 1}]), "files": ["a"]}, "is damaged, or no .npz of arrays"),
    ],
)
def test_what_an_npz_lacks_is_one_line(tmp_path, unseen, arrays, says):
    with pytest.raises(InputError, match=says) as error:
        read(tmp_path, unseen, **arrays)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_used(tmp_path, unseen, trained):
    buffer, large = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("embeddings.npy", b"\x93NUMPY\x01")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 512)})
    with zipfile.ZipFile(large, "w") as archive:
        archive.writestr("embeddings.npy", header.getvalue())  # of two petabytes
    for name, data in {"cut": write(tmp_path, embeddings=ROWS).read_bytes()[:200], "text": b"text",
                       "empty": b"", "inner": buffer.getvalue(), "large": large.getvalue()}.items():  # fmt: skip
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(InputError, match=f"{name}.npz (is damaged|cannot be read)"):
            read_embeddings_file(tmp_path / f"{name}.npz", unseen)
    with pytest.raises(InputError, match=r"none.npz cannot be read"):
        open_model_file(tmp_path / "none.npz", InputOptions(), unseen)
    with pytest.raises(InputError, match="has labels and no 'files', so its rows can only be those of --data"):
        read(tmp_path, None, embeddings=ROWS, labels=range(16))
    with pytest.raises(InputError, match="has no array 'embeddings'"):
        read_embeddings_file(run_of(trained, "ce") / "embeddings.npz", unseen)


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path, unseen, monkeypatch):
    arrays = {"embeddings": np.zeros((2**12, 2**10), np.float32), "labels": np.arange(2**12)}
    np.savez_compressed(tmp_path / "e.npz", **arrays)
    monkeypatch.setattr(model_files, "_LARGE", 2**25)
    with pytest.raises(InputError, match="rows and no 'files'"):
        read_embeddings_file(tmp_path / "e.npz", unseen)
    monkeypatch.setattr(model_files, "_LARGE", 2**24)
    with pytest.raises(InputError, match=r"e.npz packs 0.0 GiB into 0.0 MiB, as no embeddings can be; write it again"):
        read_embeddings_file(tmp_path / "e.npz", unseen)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_embeddings_without_a_direction_are_refused(tmp_path, unseen, value):
    rows = ROWS.copy()
    rows[3] = value
    model = read(tmp_path, unseen, embeddings=rows, files=unseen.names)
    with pytest.raises(InputError, match=r"gives .*query/p4/3.jpg an embedding that is zero or not finite"):
        model.embed(unseen.files, [whole(unseen.files)])
    with pytest.raises(InputError, match="--flip cannot mirror the images of"):
        model.embed(unseen.files, [whole(unseen.files)], flip=True)


def test_models_are_known_by_their_ending(tmp_path):
    (tmp_path / "odd.onnx").mkdir()
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"weights.pth is neither a run's folder nor a model \(.onnx, .*\)"):
        is_model_file(tmp_path / "weights.pth")
    names = {"m.onnx": True, "m.safetensors": True, "m.pt2": True, "e.npz": True, "m.pth": False, "odd.onnx": False}
    assert {name: is_model_file(tmp_path / name) for name in names} == names


@pytest.mark.parametrize("kind", ["safetensors", pytest.param("onnx", marks=pytest.mark.extra("onnx"))])
def test_what_was_exported_gives_the_directions_of_the_run(lossbench, trained, unseen, tmp_path, kind):
    run = run_of(trained, "ce")
    assert lossbench("export", run, "--format", kind, "--out", tmp_path / f"m.{kind}")[0] == 0
    assert lossbench("embed", run, unseen.files[0].parents[2], "--out", tmp_path / "run.npz")[0] == 0
    model = open_model_file(tmp_path / f"m.{kind}", InputOptions())
    assert (model.side, is_foreign(model)) == (32, False)
    parts = [unseen.query, unseen.distractors]
    own = read_embeddings_file(tmp_path / "run.npz", unseen).embed(unseen.files, parts)
    for found, expected in zip(model.embed(unseen.files, parts), own, strict=True):
        np.testing.assert_allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-5)
    (both,) = model.embed(unseen.files, [unseen.query], flip=True)
    assert both.norm(dim=1).min() > 1.2, "the mirrored image's is added"
