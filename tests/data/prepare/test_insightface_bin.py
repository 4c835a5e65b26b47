import io
import pickle

import numpy as np
import pytest
from PIL import Image

from lossbench.data.pairs import read_pairs
from lossbench.data.prepare.insightface_bin import prepare_bin, read_bin
from lossbench.data.prepare.target import work_folder
from lossbench.errors import InputError
from lossbench.utils.claims import claimed


@pytest.fixture(scope="module")
def content():
    encoded = []
    for i in range(40):
        buffer = io.BytesIO()
        Image.effect_noise((112, 112), 20 + i).convert("RGB").save(buffer, "PNG" if i % 5 == 0 else "JPEG")
        encoded.append(buffer.getvalue())
    return encoded, [i % 2 == 0 for i in range(20)]


def arrays(encoded):
    return [np.frombuffer(image, np.uint8).copy() for image in encoded]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["bytes", "arrays", "array labels", "numpy booleans"])
def test_every_way_to_write_one_is_read(tmp_path, content, protocol, kind):
    encoded, labels = content
    pickled = {
        "bytes": (encoded, labels),
        "arrays": (arrays(encoded), labels),
        "array labels": [encoded, np.array(labels)],
        "numpy booleans": (encoded, [np.bool_(label) for label in labels]),
    }[kind]
    (tmp_path / "x.bin").write_bytes(pickle.dumps(pickled, protocol=protocol))
    assert read_bin(tmp_path / "x.bin") == (encoded, labels)


def python2_pickle(encoded, labels):
    """The bytes that Python 2's pickle, protocol 2, writes for arrays as cv2.imencode returns them, one column each."""
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    arrays = [
        start
        + b"(K\x01J" + len(data).to_bytes(4, "little") + b"K\x01\x86" + dtype
        + b"\x89T" + len(data).to_bytes(4, "little") + data + b"tb"
        for data in encoded
    ]  # fmt: skip
    marks = [b"\x88" if label else b"\x89" for label in labels]
    return b"\x80\x02](" + b"".join(arrays) + b"e](" + b"".join(marks) + b"e\x86."


def test_what_python_2_wrote_is_read(tmp_path, content):
    encoded, labels = content
    (tmp_path / "arrays.bin").write_bytes(python2_pickle(encoded, labels))
    assert len(pickle.loads(python2_pickle(encoded, labels), encoding="bytes")[0]) == 40  # it is a genuine pickle
    assert read_bin(tmp_path / "arrays.bin") == (encoded, labels)
    strings = b"".join(b"T" + len(data).to_bytes(4, "little") + data for data in encoded)
    marks = b"".join(b"I01\n" if label else b"I00\n" for label in labels)
    (tmp_path / "strings.bin").write_bytes(b"\x80\x02](" + strings + b"e](" + marks + b"e\x86.")
    assert read_bin(tmp_path / "strings.bin") == (encoded, labels)


def test_prepared_it_is_a_pair_set(tmp_path, content):
    encoded, labels = content
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    assert prepare_bin(tmp_path / "x.bin", tmp_path / "out") == (20, 40)
    pairs = read_pairs(tmp_path / "out", None)
    assert [pairs.files[i].read_bytes() for pair in zip(pairs.a, pairs.b, strict=True) for i in pair] == encoded
    assert list(pairs.same) == labels
    assert list(pairs.folds) == [i // 2 for i in range(20)]
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        prepare_bin(tmp_path / "x.bin", tmp_path / "out")


def test_the_crops_of_an_interrupted_preparation_are_kept(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    crop = work_folder(tmp_path / "out") / "crops" / "p00" / "0123.jpg"
    crop.parent.mkdir(parents=True)
    crop.write_bytes(b"crop")
    with pytest.raises(InputError, match=r"1 finished crops of an interrupted preparation wait in .*\.out\.preparing"):
        prepare_bin(tmp_path / "x.bin", tmp_path / "out")
    assert crop.read_bytes() == b"crop"
    assert not (tmp_path / "out").exists()


def test_a_target_that_another_process_prepares_is_left_alone(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    work = work_folder(tmp_path / "out")
    work.mkdir()
    (work / "crops").mkdir()
    with claimed(work / "claims", work), pytest.raises(InputError, match="another process is preparing"):
        prepare_bin(tmp_path / "x.bin", tmp_path / "out")
    assert (work / "crops").is_dir()


def test_what_a_killed_process_left_is_replaced(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    left = work_folder(tmp_path / "out") / "pairs" / "images" / "999999.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    prepare_bin(tmp_path / "x.bin", tmp_path / "out")
    assert len(list((tmp_path / "out" / "images").iterdir())) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.bin"]


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(tmp_path):
    import os

    target = str(tmp_path / "executed")
    return {
        "system": Runs(os.system, f"touch {target}"),
        "open": Runs(open, target, "w"),
        "eval": Runs(eval, f"open({target!r}, 'w')"),
        "numpy file": Runs(np.save, target, 3),
        "getattr": Runs(getattr, "x", "upper"),
        "objects": np.array([Runs(os.system, f"touch {target}")], dtype=object),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", ["system", "open", "eval", "numpy file", "getattr", "objects"])
def test_a_malicious_pickle_runs_nothing(tmp_path, kind, protocol):
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(([hostile(tmp_path)[kind]], [True]), protocol=protocol))
    with pytest.raises(InputError, match="is not an InsightFace verification file") as raised:
        prepare_bin(tmp_path / "evil.bin", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.bin"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an InsightFace"),
        (b"junk", "is not an InsightFace"),
        (pickle.dumps({"a": 1}), "another kind of pickle"),
        (pickle.dumps(([b"x"] * 3, [True, False])), "3 images for 2 pairs"),
        (pickle.dumps(([b"x", 3], [True])), "values that are not encoded images"),
        (pickle.dumps(([b"x", b"y"], ["yes"])), "values that are not encoded images"),
        (pickle.dumps(([b"x", b"y"], [True])), "image 0 of .* is not an image"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "is not an InsightFace"),  # bytes of 2^63 promised
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path, data, message):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(InputError, match=message):
        prepare_bin(tmp_path / "x.bin", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_bin(tmp_path / "none.bin")
