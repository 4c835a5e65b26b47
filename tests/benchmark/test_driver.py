"""Benchmarks: skip what is finished, isolate failures, and leave records that say everything."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from support import FAST, Recorder, bench, copied_bench, figures, network

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.looks import read_looks
from lossbench.results.metric_fields import runs_frame
from lossbench.results.store import read_record


def test_a_finished_benchmark_is_not_trained_again_and_one_more_loss_alone_is(tmp_path):
    _, first, heard = bench(tmp_path, "ce")
    assert {run[:2] for run in heard.trained} == {("ce", 0), ("ce", 1)}
    _, again, heard = bench(tmp_path, "ce")
    assert heard.trained == []
    assert figures(again) == figures(first)
    _, _, heard = bench(tmp_path, "ce,cosface")
    assert {run[0] for run in heard.trained} == {"cosface"}
    _, _, heard = bench(tmp_path, "ce", repeats=3)
    assert {run[:2] for run in heard.trained} == {("ce", 2)}
    _, _, heard = bench(tmp_path, "ce", force=True, repeats=1)
    assert {run[:2] for run in heard.trained} == {("ce", 0)}


@pytest.mark.parametrize("change", [{"lr": 1e-3}, {"epochs": 1}, {"seed": 5}, {"dropout": 0.0}, {"select": "val"}])
def test_whatever_changes_the_result_is_trained_anew(tmp_path, change):
    _, first, _ = copied_bench(tmp_path, "ce", repeats=1)
    _, second, heard = bench(tmp_path, "ce", **{"repeats": 1, **change})
    assert heard.trained
    assert first[1]["hash"] != second[1]["hash"]


def test_a_changed_plugin_is_trained_anew(tmp_path):
    source = "from lossbench import Head\n\nclass Mine(Head):\n    '''Mine.'''\n"
    source += "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
    source += "    def forward(self, embeddings, labels):\n        return embeddings.pow(2).mean()\n"
    plugin = tmp_path / "mine.py"
    plugin.write_text(source)
    bench(tmp_path / "out", str(plugin), repeats=1)
    plugin.write_text(source.replace("pow(2)", "pow(4)"))
    _, _, heard = bench(tmp_path / "out", str(plugin), repeats=1)
    assert heard.trained


def test_a_changed_network_is_trained_anew_and_said(tmp_path):
    path, out = network(tmp_path), tmp_path / "out"
    _, first, _ = bench(out, "ce", repeats=1, backbone=path)
    assert first[1]["protocol"]["config"]["backbone"] == "my_net"
    _, _, heard = bench(out, "ce", repeats=1, backbone=str(tmp_path / ".." / tmp_path.name / "my_net.py"))
    assert heard.trained == []
    network(tmp_path, ("Block(3, 8), Block(8, 16)", "Block(3, 4), Block(4, 16)"))
    _, second, heard = bench(out, "ce", repeats=1, backbone=path)
    assert {run[0] for run in heard.trained} == {"ce"}
    assert first[1]["protocol"]["network"] != second[1]["protocol"]["network"]
    assert any("made with another version of the network my_net: kept in" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("part", "other", "says"),
    [
        ("nn.Linear(16, embedding_dim)", "nn.Linear(16, 10)", r"must return embeddings \[B, 16\], not \[2, 10\]"),
        ("embedding_dim=16, *", "length=16, *", "must define exactly one public network"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line_and_writes_nothing(tmp_path, part, other, says):
    with pytest.raises(InputError, match=rf"\A[^\n]*my_net.py[^\n]*{says}[^\n]*\Z"):
        bench(tmp_path / "out", "ce", backbone=network(tmp_path, (part, other)))
    assert not (tmp_path / "out").exists()


def test_the_same_command_in_two_folders_gives_the_same_bits(tmp_path):
    results = []
    for name in ("here", "there"):
        _, records, _ = bench(tmp_path / name, "ce,arcface", repeats=1)
        results.append(records)
    assert figures(results[0]) == figures(results[1])
    for one, other in zip(*results, strict=True):
        one, other = (np.load(f"{r['folder']}/embeddings.npz") for r in (one, other))
        assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_the_record_says_what_was_run(tmp_path):
    _, records, _ = bench(tmp_path, "arcface:margin=0.3", repeats=1)
    untrained, record = records
    assert (untrained["entrant"], untrained["accuracy_by"]) == ("untrained", "class means")
    assert record["hyperparameters"] == {"margin": 0.3, "scale": 64.0}
    assert record["status"] == "finished"
    assert record["protocol"]["config"]["epochs"] == 2
    assert record["images"] == {"train": 144, "val": 48, "test": 48, "query": 80, "distractors": 80}
    assert {f"tpr@{fpr}" for fpr in (0.1, 0.05, 0.01, 0.001)} <= set(record["metrics"])
    assert record["metrics"]["negatives"] == 9200
    assert record["timings"]["images_per_second"] > 0
    assert len(record["plugin"]) == len(record["split"]) == len(record["protocol"]["data"]) == 64
    folder = tmp_path / "orl" / "runs" / f"arcface_margin_0.3-r0-{record['hash'][:12]}".replace("margin_", "margin=")
    assert sorted(p.name for p in folder.iterdir()) == [
        "embeddings.npz", "history.jsonl", "resamples.npz", "run.json", "weights.safetensors",
    ]  # fmt: skip
    assert "head.weight" in load_file(folder / "weights.safetensors")
    saved = np.load(folder / "embeddings.npz", allow_pickle=False)
    assert saved["query"].shape == (80, 128)
    assert runs_frame(records)["tpr@0.1"].between(0, 1).all()


BROKEN = {
    "raises": "raise KeyError('no such thing')",
    "nan": "return embeddings.sum() * float('nan')",
    "wide": "return embeddings.pow(2).mean()",
}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "KeyError: 'no such thing'"),
        ("nan", "TrainingFailed: the loss became nan"),
        ("wide", "logits have shape"),
    ],
)
def test_a_failed_run_is_a_result_and_stops_nobody(tmp_path, name, says):
    plugin = tmp_path / f"{name}.py"
    plugin.write_text(
        "from lossbench import Head\n\nclass Broken(Head):\n    '''Broken.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        f"    def forward(self, embeddings, labels):\n        {BROKEN[name]}\n"
        + ("    def logits(self, embeddings):\n        return embeddings[:, :3]\n" if name == "wide" else "")
    )
    folder, records, _ = bench(tmp_path / "out", f"{plugin},ce", repeats=1)
    by_name = {record["entrant"]: record for record in records}
    assert by_name["ce"]["status"] == "finished"
    failed = by_name[name]
    assert (failed["status"], failed["epoch"]) == ("failed", 1)
    assert says in failed["reason"]
    assert "Traceback" in next(folder.glob(f"runs/{name}-*/traceback.txt")).read_text()
    _, _, heard = bench(tmp_path / "out", f"{plugin},ce", repeats=1)
    assert heard.skipped == 3
    assert heard.notes == ["1 run is recorded as failed; --retry-failed repeats them"]
    _, _, heard = bench(tmp_path / "out", f"{plugin},ce", repeats=1, retry_failed=True)
    assert (heard.runs, heard.skipped) == (1, 2)


def test_a_run_without_run_json_is_not_whole_and_continues(tmp_path):
    folder, first, _ = copied_bench(tmp_path, "ce", repeats=1)
    run = next(folder.glob("runs/ce-*"))
    (run / "run.json").unlink()
    assert read_record(run) is None
    _, again, heard = bench(tmp_path, "ce", repeats=1)
    assert heard.trained
    assert figures(again) == figures(first)


def test_nothing_is_left_behind_when_the_input_is_wrong(tmp_path, tree):
    (tree / "train" / "p0" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.jpg is not an image in a known format"):
        bench(tmp_path / "out", "ce", data=str(tree), batch_size=8)
    assert not (tmp_path / "out").exists()


def test_a_tree_of_folders_trains(tmp_path, tree):
    folder, records, _ = bench(tmp_path / "out", "ce,triplet", data=str(tree), batch_size=8, backbone="tiny")
    assert folder == tmp_path / "out" / "faces"
    assert [r["status"] for r in records] == ["finished"] * 6
    assert {r["sampler"] for r in records} == {None, "shuffle", "P x 4"}
    assert json.loads((tmp_path / "out/faces/runs").glob("ce-r0*/run.json").__next__().read_text())["fold"] == 0


def test_force_begins_from_the_start_where_an_earlier_command_was_stopped(tmp_path):
    folder, first, _ = bench(tmp_path, "ce", repeats=1, epochs=3)
    run = next(folder.glob("runs/ce-*"))

    class Stop(Recorder):
        def epoch(self, run, epoch):
            super().epoch(run, epoch)
            if epoch.epoch == 2:
                raise KeyboardInterrupt

    for attempt in range(2):
        heard = Stop()
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(
                Config(losses="ce", out=str(tmp_path), **{**FAST, "epochs": 3, "repeats": 1}), heard, force=True
            )
        assert [epoch for _, _, epoch in heard.trained] == [1, 2], attempt
        assert (run / "checkpoint.pt").exists()
    _, last, heard = bench(tmp_path, "ce", repeats=1, epochs=3)
    assert [epoch for _, _, epoch in heard.trained] == [1, 2, 3], "the second was heard of as it resumed"
    assert last[1]["metrics"] == first[1]["metrics"]


def test_force_trains_anew_where_a_checkpoint_was_left(tmp_path):
    _, records, _ = copied_bench(tmp_path, "ce", repeats=1)
    folder = Path(records[1]["folder"])
    (folder / "checkpoint.pt").write_bytes(b"of a process that was killed right after writing the record")
    (folder / ".ipynb_checkpoints").mkdir()
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    heard = bench(tmp_path, "ce", repeats=1, force=True)[2]
    assert (folder / "weights.safetensors").stat().st_mtime_ns > before
    assert not (folder / "checkpoint.pt").exists()
    assert not any("damaged" in note for note in heard.notes), "the checkpoint was not to be read"


def test_a_damaged_file_of_looks_is_said_before_any_training(tmp_path):
    """The verdicts read it, however many repeats are asked for."""
    (tmp_path / "orl").mkdir()
    (tmp_path / "orl" / "settled.json").write_text("{")
    with pytest.raises(InputError, match=r"settled.json cannot be read .*; delete it and run the same command again"):
        bench(tmp_path, "ce")
    assert [file.name for file in (tmp_path / "orl").iterdir()] == ["settled.json"]


def test_once_does_one_run_at_a_time_until_none_is_left_with_the_same_bits(tmp_path):
    options = {"repeats": 1, "epochs": 1, "threads": 1}
    done = []
    for _ in range(2):
        _, records, heard = bench(tmp_path / "once", "ce", once=True, **options)
        done += records
        assert len(records) == 1
        assert read_record(Path(records[0]["folder"])) == {k: v for k, v in records[0].items() if k != "folder"}
        assert len(heard.trained) <= 1
    _, records, heard = bench(tmp_path / "once", "ce", once=True, **options)
    assert records == []
    assert heard.notes == ["nothing is left to do: all 2 runs are complete"]
    assert figures(done) == figures(bench(tmp_path / "all", "ce", **options)[1])


def test_once_adds_a_repeat_where_the_last_look_has_not_settled_all(tmp_path):
    options = {"repeats": 2, "epochs": 1, "until_settled": True, "max_repeats": 3}
    bench(tmp_path, "ce,arcface", **{**options, "max_repeats": 2})
    trained = []
    while True:
        folder, records, heard = bench(tmp_path, "ce,arcface", once=True, **options)
        trained += heard.trained
        if not records:
            break
    assert {run[:2] for run in trained} == {("ce", 2), ("arcface", 2)}
    assert [look.repeats for look in read_looks(folder).taken] == [2, 3]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"jobs": 2}, "--once does one run, --jobs 2 does 2 at a time; drop one of them"),
        ({"force": True}, "--force would do the same run again at every --once; drop --once, or --force"),
        ({"retry_failed": True}, "--retry-failed would do the same run again at every --once; drop --once, or"),
    ],
)
def test_what_once_cannot_be_combined_with_is_one_line(tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        bench(tmp_path, "ce", once=True, **options)
    assert list(tmp_path.iterdir()) == []
