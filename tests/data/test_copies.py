"""Files that two splits share, against the files themselves."""

import hashlib

from support import Recorder

from lossbench.benchmark.inputs import gather
from lossbench.config import Config
from lossbench.data.catalogue import open_data
from lossbench.data.copies import shared_by_splits


def said(root):
    faces = open_data(str(root))
    return shared_by_splits(faces, [hashlib.sha256(file.read_bytes()).hexdigest() for file in faces.files])


def test_copies_across_splits_are_counted_and_one_is_named(tree):
    assert said(tree) == ""
    (tree / "train" / "p0" / "9.jpg").write_bytes((tree / "train" / "p0" / "0.jpg").read_bytes())
    assert said(tree) == "", "of one split"
    (tree / "test" / "p0" / "8.jpg").write_bytes((tree / "train" / "p0" / "0.jpg").read_bytes())
    assert said(tree).startswith(
        "1 file is a copy of one in another split, such as test/p0/8.jpg of train/p0/0.jpg: figures on it are too good"
    )
    (tree / "distractors" / "p7" / "1.jpg").write_bytes((tree / "query" / "p4" / "2.jpg").read_bytes())
    assert said(tree).startswith("2 files are copies of one in another split, such as test/p0/8.jpg of train/p0/0.jpg:")


def test_a_run_says_so_before_it_trains(tree, tmp_path):
    config = Config(losses="ce", data=str(tree), backbone="tiny", image_size=32, out=str(tmp_path / "out"))
    heard = Recorder()
    gather(config, heard, verify=True)
    assert not [note for note in heard.notes if "copy" in note]
    (tree / "test" / "p0" / "8.jpg").write_bytes((tree / "train" / "p0" / "0.jpg").read_bytes())
    gather(config, heard, verify=True)
    assert sum("1 file is a copy of one in another split" in note for note in heard.notes) == 1
    unverified = Recorder()
    gather(config, unverified, verify=False)
    assert not [note for note in unverified.notes if "copy" in note]
