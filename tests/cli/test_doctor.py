"""`lossbench doctor` as a command: the same for people and as JSON."""

import json
from importlib.metadata import version


def test_it_shows_versions_machine_cache_and_extras(lossbench):
    code, out, err = lossbench("doctor")
    assert (code, err) == (0, "")
    assert f"torch                    {version('torch')}" in out
    for title in ("versions:", "machine:", "cache:", "extras:"):
        assert f"{title}\n" in out
    assert "  dev " in out


def test_the_document_says_the_same(lossbench, monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))  # else it may change between the two
    code, out, _ = lossbench("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["versions"]["torch"] == version("torch")
    assert found["cache"]["folder"] == str(tmp_path)
    assert found["broken"] == []
    shown = lossbench("doctor")[1]
    assert all(f"slow here: {line.split(':')[0]}" in shown for line in found["slow"])


def test_what_is_broken_ends_in_exit_code_1(lossbench, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "file"))
    code, out, _ = lossbench("doctor")
    assert code == 1
    assert f"broken: the cache {tmp_path / 'file'} cannot be written; set LOSSBENCH_CACHE to another folder" in out
