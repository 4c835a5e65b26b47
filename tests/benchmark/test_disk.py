"""State that is not what it was: each is one line, and nothing that was finished is lost."""

import subprocess
import sys

import pytest
from support import FAST, WORDS, Recorder, small_disk

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.results.store import load_records


@pytest.fixture
def mounted(tmp_path):
    """Mount what mount(8) takes on a folder while a test lasts."""
    place = tmp_path / "mounted"
    place.mkdir()
    mounts = []

    def mount(*words):
        if subprocess.run(["mount", *words, place], capture_output=True).returncode:
            pytest.skip("this user may not mount anything")
        mounts.append(place)
        return place

    yield mount
    for place in reversed(mounts):
        subprocess.run(["umount", place], check=True)


def test_files_that_cannot_grow_are_one_line_and_no_failed_run(lossbench, pixels, tmp_path):
    """The checkpoint of arcface does not fit."""
    code, _, _ = lossbench("run", "--losses", "ce", "--out", tmp_path, *WORDS)
    assert code == 0

    with small_disk(2_000_000):
        code, _, err = lossbench("run", "--losses", "ce,arcface", "--out", tmp_path, *WORDS)
    assert (code, err.count("\n")) == (2, 1)
    assert "runs/arcface-r0" in err
    assert "cannot be written (File too large); fix that, then run the same command again to continue" in err
    assert not list(tmp_path.glob("orl/runs/arcface-*/run.json"))
    code, out, _ = lossbench("run", "--losses", "ce,arcface", "--out", tmp_path, *WORDS)
    assert code == 0
    assert "2 runs are finished already" in out
    assert "training 1 run of" in out
    assert not list(tmp_path.glob("orl/runs/*/.*"))


def test_a_report_that_cannot_be_written_spoils_none_that_is_there(lossbench, pixels, tmp_path):
    lossbench("run", "--losses", "ce,arcface", "--out", tmp_path, *WORDS)
    assert lossbench("report", tmp_path / "orl")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("orl/[ft]*/*")}
    assert max(map(len, before.values())) > 20_000

    with small_disk(20_000):
        code, _, err = lossbench("report", tmp_path / "orl")
    assert (code, err) == (2, f"error: {tmp_path / 'orl'} cannot be written (File too large)\n")
    assert {path: path.read_bytes() for path in tmp_path.glob("orl/[ft]*/*")} == before


@pytest.mark.parametrize("mebibytes", [1, 4, 8])
def test_a_full_disk_is_one_line_wherever_it_fills(lossbench, pixels, mounted, mebibytes):
    disk = mounted("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs")
    code, _, err = lossbench("run", "--losses", "ce", "--out", disk, *WORDS)
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left on device" in err
    records = load_records(disk / "orl") if list(disk.glob("orl/runs/*/run.json")) else []
    assert all(record["status"] == "finished" for record in records)
    subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
    code, out, _ = lossbench("run", "--losses", "ce", "--out", disk, *WORDS)
    assert code == 0
    assert ("finished already" in out) == bool(records)


def test_a_read_only_folder_is_one_line(lossbench, mounted, tmp_path):
    lossbench("run", "--losses", "ce", "--out", tmp_path / "out", *WORDS)
    place = mounted("--bind", tmp_path / "out")
    subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
    for words in (("run", "--losses", "ce,cosface", "--out", place, *WORDS), ("report", place / "orl")):
        code, _, err = lossbench(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "cannot be written" in err
    assert len(load_records(place / "orl")) == 2


def test_nobody_who_reads_is_no_failed_run(tmp_path):
    """As in `lossbench run | head`."""
    command = [sys.executable, "-m", "lossbench", "run", "--losses", "ce", "--epochs", "12", "--image-size", "32"]
    process = subprocess.Popen([*command, "--repeats", "1", "--out", tmp_path], stdout=-1, stderr=-1, text=True)
    assert "training" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    _, records = run_benchmark(
        Config(losses="ce", out=str(tmp_path), **{**FAST, "epochs": 12, "repeats": 1}), Recorder()
    )
    assert [record["status"] for record in records] == ["finished"] * 2
