"""State that is not what it was: each is one line, and nothing that was finished is lost."""

import os
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FAST, FORWARD, bench, plugin

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.evaluation.embed import embed
from lossbench.losses.registry import shipped_plugins
from lossbench.results.arrays import save_arrays
from lossbench.results.store import load_records, of_benchmark
from lossbench.results.weights import load_backbone

WORDS = ("--epochs", 2, "--image-size", 32, "--repeats", 1)


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
    """As on a full disk, by a limit that needs no rights; the checkpoint of arcface does not fit."""
    code, _, _ = lossbench("run", "--losses", "ce", "--out", tmp_path, *WORDS)
    assert code == 0

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    command = [sys.executable, "-m", "lossbench", "run", "--losses", "ce,arcface", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, WORDS)], capture_output=True, text=True, env=environment, preexec_fn=limit
    )
    err = done.stderr
    assert done.returncode == 2
    assert err.count("\n") == 1
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

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "lossbench", "report", str(tmp_path / "orl")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path / 'orl'} cannot be written (File too large)\n")
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


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text.replace('"schema": 2', '"schema": 99'), "has schema 99, this lossbench reads 2; upgrade"),
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "", "cannot be read"),
    ],
    ids=["newer", "half", "empty"],
)
def test_a_record_that_cannot_be_read_is_one_line_for_run_and_report(lossbench, tmp_path, damage, says):
    lossbench("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS)
    path = next(tmp_path.glob("orl/runs/ce-*/run.json"))
    whole = path.read_text()
    path.write_text(damage(whole))
    for words in (("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS), ("report", tmp_path / "orl")):
        code, _, err = lossbench(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
        assert str(path) in err
    code, out, _ = lossbench("run", "--losses", "cosface", "--out", tmp_path, *WORDS)  # who does not need it goes on
    assert code == 0
    shutil.rmtree(path.parent)  # what the line told
    code, out, _ = lossbench("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS)
    assert code == 0
    assert "training 1 run of" in out


def test_a_backbone_comes_back_from_its_folder(orl, pixels, tmp_path):
    path = plugin(tmp_path, "mine", FORWARD)
    _, records, _ = bench(tmp_path / "out", f"{path},arcface+0.5*triplet", repeats=1)
    for record in records:
        saved = np.load(f"{record['folder']}/embeddings.npz")
        assert np.array_equal(embed(load_backbone(record), pixels, orl.split(0).query).numpy(), saved["query"])


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\xff" * 500])
def test_weights_that_fail_to_load_are_one_line(tmp_path, damage):
    _, records, _ = bench(tmp_path, "ce", repeats=1)
    path = Path(records[1]["folder"]) / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"\A[^\n]*weights.safetensors is damaged[^\n]*trains only this run\Z"):
        load_backbone(records[1])
    path.unlink()
    with pytest.raises(InputError, match=r"\A[^\n]*weights.safetensors cannot be read[^\n]*trains only this run\Z"):
        load_backbone(records[1])


def test_arrays_that_cannot_be_written_leave_nothing(tmp_path):
    (tmp_path / "embeddings.npz").mkdir()
    with pytest.raises(OSError, match="directory"):
        save_arrays(tmp_path / "embeddings.npz", {"query": np.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npz"]


def test_weights_of_another_run_are_one_line(tmp_path):
    _, records, _ = bench(tmp_path, "ce", repeats=2)
    first, second = [record for record in records if record["entrant"] == "ce"]
    shutil.copy(Path(second["folder"]) / "weights.safetensors", first["folder"])
    with pytest.raises(InputError, match=r"\A[^\n]*is not the file that this run wrote; [^\n]*\Z"):
        load_backbone(first)
    protocol = {**first["protocol"], "config": {**first["protocol"]["config"], "embedding_dim": 32}}
    with pytest.raises(InputError, match=r"\A[^\n]*do not fit \(Error[^\n]*size mismatch[^\n]*\Z"):
        load_backbone({**second, "protocol": protocol})
    with pytest.raises(InputError, match=r"run.json does not say what was trained \(no 'protocol'\)"):
        load_backbone({key: value for key, value in second.items() if key != "protocol"})


def test_a_record_executes_nothing(tmp_path):
    """A run's folder may come from anybody: what it names as its loss is not run to use its backbone."""
    path = Path(plugin(tmp_path, "mine", FORWARD))
    _, records, _ = bench(tmp_path / "out", str(path), repeats=1)
    path.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n" + path.read_text())
    load_backbone({**records[1], "plugin_files": {"mine": str(path)}})
    assert not (tmp_path / "executed").exists()


def test_force_trains_anew_where_a_checkpoint_was_left(tmp_path):
    _, records, _ = bench(tmp_path, "ce", repeats=1)
    folder = Path(records[1]["folder"])
    (folder / "checkpoint.pt").write_bytes(b"of a process that was killed right after writing the record")
    (folder / ".ipynb_checkpoints").mkdir()
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    heard = bench(tmp_path, "ce", repeats=1, force=True)[2]
    assert (folder / "weights.safetensors").stat().st_mtime_ns > before
    assert not (folder / "checkpoint.pt").exists()
    assert not any("damaged" in note for note in heard.notes), "the checkpoint was not to be read"


def test_twins_stay_entrants_and_only_of_the_plugin_as_it_is(lossbench, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text((shipped_plugins() / "cosface.py").read_text())
    words = ("run", "--losses", path, "--deconfound", "--out", tmp_path / "out", *WORDS)
    for _ in range(2):
        assert lossbench(*words)[0] == 0
        path.write_text(path.read_text() + "# changed\n")
    settings = tomllib.loads((tmp_path / "out" / "orl" / "benchmark.toml").read_text())
    assert settings["record"]["entrants"] == ["untrained", "ce", "mine", "mine:margin=0.0"]
    assert settings["deconfound"] is True
    kept = of_benchmark(load_records(tmp_path / "out" / "orl"), settings["record"])
    assert sorted(record["entrant"] for record in kept) == ["ce", "mine", "mine:margin=0.0", "untrained"]


def test_joining_a_benchmark_executes_none_of_its_plugins(lossbench, tmp_path):
    """Its file may come from anybody; and a plugin that no longer works takes no twin of another loss with it."""
    path = tmp_path / "mine.py"
    path.write_text((shipped_plugins() / "cosface.py").read_text())
    words = ("--repeats", 1, "--deconfound", "--out", tmp_path / "out", *WORDS)
    assert lossbench("run", "--losses", f"{path},cosface", *words)[0] == 0
    path.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nraise OSError\n" + path.read_text())
    assert lossbench("run", "--losses", "arcface", *words)[0] == 0
    assert not (tmp_path / "executed").exists()
    entrants = tomllib.loads((tmp_path / "out" / "orl" / "benchmark.toml").read_text())["record"]["entrants"]
    whole = ["ce", "mine", "mine:margin=0.0", "cosface", "cosface:margin=0.0", "arcface", "arcface:margin=0.0"]
    assert entrants == ["untrained", *whole]


def test_data_that_changed_is_said_and_trained_anew(lossbench, tree, tmp_path):
    settings = {"batch_size": 8, "backbone": "tiny", "data": str(tree), "repeats": 1}
    _, first, _ = bench(tmp_path / "out", "ce", **settings)
    photo = tree / "train" / "p0" / "0.jpg"
    before = photo.read_bytes()
    Image.new("RGB", (64, 64), "grey").save(photo)
    folder, second, heard = bench(tmp_path / "out", "ce", **settings)
    assert heard.trained
    assert heard.notes == [
        f"2 finished runs were made with other images (the data has changed since): kept in {folder}, not reused"
    ]
    assert [r["protocol_hash"] != s["protocol_hash"] for r, s in zip(first, second, strict=True)] == [True, True]
    shutil.copytree(tree / "query" / "p4", tree / "distractors" / "p9")
    _, _, heard = bench(tmp_path / "out", "ce", **settings)
    assert heard.notes[0].startswith("4 finished runs were made with other images")
    assert lossbench("report", folder)[0] == 0
    assert "4 runs with other settings in this folder are left out" in (folder / "report.md").read_text()
    shutil.rmtree(tree / "distractors" / "p9")
    photo.write_bytes(before)
    _, _, heard = bench(tmp_path / "out", "ce", **settings)  # as it was at first: nothing was lost
    assert (heard.trained, heard.notes) == ([], [])


def test_the_same_images_dealt_out_otherwise_are_another_benchmark(tree, tmp_path):
    settings = {"batch_size": 8, "backbone": "tiny", "data": str(tree), "repeats": 1}
    _, first, _ = bench(tmp_path / "out", "ce", **settings)
    last = max((tree / "train").glob("*/*.jpg"))
    last.rename(tree / "val" / last.parent.name / f"0{last.name}")
    _, second, heard = bench(tmp_path / "out", "ce", **settings)
    assert heard.trained
    assert first[1]["protocol_hash"] != second[1]["protocol_hash"]


def test_a_report_shows_a_changed_plugin_once(lossbench, tmp_path):
    path = Path(plugin(tmp_path, "mine", FORWARD))
    out = tmp_path / "out"
    lossbench("run", "--losses", path, "--out", out, *WORDS)
    path.write_text(path.read_text().replace("0.1, 30.0", "0.2, 20.0"))
    lossbench("run", "--losses", path, "--out", out, *WORDS)
    assert len(load_records(out / "orl")) == 3
    assert lossbench("report", out / "orl")[0] == 0
    text = (out / "orl" / "report.md").read_text()
    assert "| mine | 1 |" in text
    assert "1 run with other settings in this folder is left out" in text


def test_a_damaged_benchmark_file_is_written_anew(tmp_path):
    folder, _, _ = bench(tmp_path, "ce", repeats=1)
    (folder / "benchmark.toml").write_bytes(b"\xff\x00 = [")
    bench(tmp_path, "cosface", repeats=1)
    assert 'losses = "cosface"' in (folder / "benchmark.toml").read_text()
    assert (folder / "benchmark.toml.old").read_bytes() == b"\xff\x00 = ["


def test_nobody_who_reads_is_no_failed_run(tmp_path):
    """As in `lossbench run | head`."""
    command = [sys.executable, "-m", "lossbench", "run", "--losses", "ce", "--epochs", "12", "--image-size", "32"]
    process = subprocess.Popen([*command, "--repeats", "1", "--out", tmp_path], stdout=-1, stderr=-1, text=True)
    assert "training" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    _, records = run_benchmark(Config(losses="ce", out=str(tmp_path), **{**FAST, "epochs": 12, "repeats": 1}), Quiet())
    assert [record["status"] for record in records] == ["finished"] * 2


class Quiet:
    def decoding(self, done, total): ...
    def start(self, runs, skipped, epochs): ...
    def epoch(self, run, epoch): ...
    def finished(self, run, record): ...
    def note(self, text): ...
