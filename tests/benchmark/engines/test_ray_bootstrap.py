"""What a node runs before it has lossbench."""

import os
import subprocess
import sys

import pytest

from lossbench.benchmark.engines import ray_bootstrap
from lossbench.benchmark.engines.ray_bootstrap import Desk, digest_of, facts, files_of
from lossbench.benchmark.engines.ray_cluster import our_code


def test_a_node_gets_lossbench_whole_with_its_plugins_and_version(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = our_code()._replace(version="9.8.7")
    place = ray_bootstrap._unpacked(code)
    assert digest_of(files_of(place / "lossbench")) == code.digest
    say = "import lossbench; print(lossbench.__file__, lossbench.__version__, 'arcface' in lossbench.heads())"
    done = subprocess.run(
        [sys.executable, "-c", say], env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == f"{place}/lossbench/__init__.py 9.8.7 True\n"
    assert ray_bootstrap._unpacked(code) == place, "the second process finds it"
    with monkeypatch.context() as patch:
        answers = iter([False, True])
        patch.setattr(ray_bootstrap, "_is_whole", lambda *_: next(answers))
        assert ray_bootstrap._unpacked(code) == place, "another process was faster"
    assert list(tmp_path.iterdir()) == [place]
    assert not ray_bootstrap._is_whole(place, os.getuid() + 1, code.digest), "another user's copy is not used"
    (place / "lossbench" / "errors.py").write_text("")
    other = ray_bootstrap._unpacked(code)
    assert other != place, "a damaged copy is not used"
    assert digest_of(files_of(other / "lossbench")) == code.digest


@pytest.mark.parametrize("there", [True, False])
def test_a_node_says_whether_it_sees_a_file(tmp_path, there):
    if there:
        (tmp_path / "token").touch()
    assert facts(str(tmp_path / "token")).sees is there


def test_the_desk_hands_out_files_in_chunks_and_what_was_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_bootstrap, "CHUNK", 4)
    (tmp_path / "file").write_bytes(b"abcdefghij")
    desk = Desk({"data": str(tmp_path / "file")})
    assert [desk.chunk("data", start) for start in (0, 4, 8, 12)] == [b"abcd", b"efgh", b"ij", b""]
    desk.say(1, "note", "a")
    desk.say(2, "note", "b")
    assert desk.heard() == [(1, "note", "a"), (2, "note", "b")]
    assert desk.heard() == []
