"""Settings as TOML, and benchmark.toml: which runs belong together, for every process that shares the folder."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from support import FORWARD, WORDS, bench, copied_bench, plugin

from lossbench.benchmark.settings_file import read_config
from lossbench.errors import InputError
from lossbench.losses.registry import shipped_plugins
from lossbench.results.store import load_records, of_benchmark


def test_processes_with_other_losses_add_to_one_benchmark(lossbench, tmp_path):
    words = ("--epochs", 1, "--image-size", 32, "--out", tmp_path)
    lossbench("run", "--losses", "ce", "--repeats", 2, *words)
    lossbench("run", "--losses", "cosface:margin=0.2", "--repeats", 1, *words)
    code, out, _ = lossbench("run", "--config", tmp_path / "orl" / "benchmark.toml")
    assert code == 0
    assert "5 runs are finished already" in out
    assert "training 1 run of" in out  # the second repeat of the second loss
    gone = plugin(tmp_path, "gone", FORWARD)
    lossbench("run", "--losses", gone, "--repeats", 1, *words)
    assert f'losses = "ce,cosface:margin=0.2,{gone}"' in (tmp_path / "orl" / "benchmark.toml").read_text()
    Path(gone).unlink()
    lossbench("run", "--losses", "arcface", "--repeats", 1, *words)
    assert 'losses = "ce,cosface:margin=0.2,arcface"' in (tmp_path / "orl" / "benchmark.toml").read_text()
    lossbench("run", "--losses", "arcface", "--repeats", 1, *words, "--lr", "0.01")  # other settings: another benchmark
    assert 'losses = "arcface"' in (tmp_path / "orl" / "benchmark.toml").read_text()


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
    copies, kept = heard.notes
    assert copies.startswith("4 files are copies of one in another split")
    assert kept.startswith("4 finished runs were made with other images")
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


def test_a_damaged_benchmark_file_is_written_anew(tmp_path):
    folder, _, _ = copied_bench(tmp_path, "ce", repeats=1)
    (folder / "benchmark.toml").write_bytes(b"\xff\x00 = [")
    bench(tmp_path, "cosface", repeats=1)
    assert 'losses = "cosface"' in (folder / "benchmark.toml").read_text()
    assert (folder / "benchmark.toml.old").read_bytes() == b"\xff\x00 = ["


def test_runs_of_other_losses_that_were_measured_differently_are_named(tmp_path, monkeypatch):
    options = {"epochs": 1, "repeats": 1}
    copied_bench(tmp_path, "ce", **options)
    _, _, heard = bench(tmp_path, "cosface", **options)
    assert heard.notes == []
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    folder, _, heard = bench(tmp_path, "cosface", **options)
    assert heard.notes == [
        "1 finished run was made with other measuring (--fpr, --pairs, --flip or lossbench's version); name their "
        f"losses to measure them again: kept in {folder}, not reused",
        "2 runs are measured again, not trained: only the measuring has changed",
    ]
    _, _, heard = bench(tmp_path, "ce", **options)  # as the note advises
    assert heard.notes == ["1 run is measured again, not trained: only the measuring has changed"]
    assert heard.trained == []


def test_measuring_that_chose_an_epoch_and_has_changed_is_another_version(tmp_path, monkeypatch):
    options = {"epochs": 1, "repeats": 1, "select": "val"}
    copied_bench(tmp_path, "ce", **options)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    folder, _, heard = bench(tmp_path, "ce", **options)
    assert heard.trained
    assert heard.notes == [f"2 finished runs were made with another version of lossbench: kept in {folder}, not reused"]


def test_a_setting_that_an_older_lossbench_did_not_have_is_not_the_users_doing(tmp_path):
    options = {"epochs": 1, "repeats": 1}
    folder, records, _ = copied_bench(tmp_path, "ce", **options)
    for record in records:
        config = {name: value for name, value in record["protocol"]["config"].items() if name != "schedule"}
        older = {**record, "protocol": {**record["protocol"], "config": config, "code": "older"}}
        file = Path(record["folder"]) / "run.json"
        file.write_text(json.dumps({name: value for name, value in older.items() if name != "folder"}))
    _, _, heard = bench(tmp_path, "cosface", **options)
    assert f"2 finished runs were made with another version of lossbench: kept in {folder}, not reused" in heard.notes


def test_losses_may_be_a_list_and_a_whole_number_is_a_float(tmp_path):
    (tmp_path / "bench.toml").write_text('losses = ["ce", "arcface:margin=0.3"]\nlr = 1\nplugins = ["a"]\n')
    read = read_config(tmp_path / "bench.toml")
    assert read == {"losses": "ce,arcface:margin=0.3", "lr": 1, "plugins": ("a",)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fpr = 0.1", "fpr = 0.1 should be a list of float"),
        ("fpr = ['0.1']", r"fpr = \['0.1'\] should be a list of float"),
        ("epocs = 3", "no setting called 'epocs'; did you mean 'epochs'"),
        ("epochs = '3'", "epochs = '3' should be of type int"),
        ("epochs = true", "epochs = True should be of type int"),
        ("epochs = 3.0", "epochs = 3.0 should be of type int"),
        ("epochs = [3]", r"epochs = \[3\] should be of type int"),
        ("lr = 'x'", "lr = 'x' should be of type float"),
        ("flip = 1", "flip = 1 should be of type bool"),
        ("out = 1", "out = 1 should be of type str"),
        ("plugins = 'a'", "plugins = 'a' should be a list of str"),
        ("plugins = [1]", r"plugins = \[1\] should be a list of str"),
        ("epochs = ", "is not TOML"),
        ("[losses]\na = 1", "losses = {'a': 1} should be of type str"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, says):
    (tmp_path / "bench.toml").write_text(text)
    with pytest.raises(InputError, match=rf"\A--config [^\n]*bench.toml[^\n]*{says}[^\n]*\Z"):
        read_config(tmp_path / "bench.toml")


def test_a_file_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match=r"--config 'nowhere.toml' cannot be read: No such file"):
        read_config("nowhere.toml")
    with pytest.raises(InputError, match=r"--config 'x{200}\.\.\.' cannot be read: File name too long"):
        read_config("x" * 300)
