"""A benchmark's progress where the output is not a terminal: its lines, and the bar that a terminal would show."""

import re
from types import SimpleNamespace

import pytest
from support import FAST, Interrupting, copied_bench

from lossbench.benchmark.driver import run_benchmark
from lossbench.cli.console import Level, at_level
from lossbench.cli.progress import BenchProgress
from lossbench.config import Config


@pytest.mark.parametrize("total", [400, 12_000])
def test_a_benchmark_shows_every_quarter_of_its_decoding(capsys, total):
    with BenchProgress(1) as progress:
        for done in [*range(32, total, 32), total]:
            progress.decoding(done, total)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["decoding images"] * 3
    assert lines[-1] == f"decoded {total:,} images into the cache"


class Watched(BenchProgress):
    """Remembers what the bar shows after every epoch: epochs done, all epochs, and the text beside them."""

    def epoch(self, run, epoch):
        super().epoch(run, epoch)
        bar = self.bar.tasks[0]
        self.seen = [*getattr(self, "seen", []), (bar.completed, bar.total, bar.fields["status"])]


def run(out, losses, **options):
    with Watched(1) as progress:
        run_benchmark(Config(losses=losses, out=str(out), **{**FAST, "repeats": 1, **options}), progress)
    return progress


@pytest.fixture
def measured_otherwise(tmp_path, monkeypatch, capsys):
    """A finished benchmark of ce whose measuring has changed since."""
    folder, _, _ = copied_bench(tmp_path, "ce", repeats=1)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    capsys.readouterr()
    return folder


def test_what_is_measured_again_is_not_counted_as_trained(measured_otherwise, tmp_path, capsys):
    progress = run(tmp_path, "ce,cosface")
    out = capsys.readouterr().out
    assert "training 1 run of 2 epochs\n" in out
    assert re.search(r"^ce · repeat 1/1 · test accuracy 0\.\d{3} · measured again$", out, re.M)
    assert re.search(r"^cosface · repeat 1/1 · test accuracy 0\.\d{3} · \d+\.\d s$", out, re.M)
    assert [(done, total) for done, total, _ in progress.seen] == [(1, 2), (2, 2)]
    assert all(re.fullmatch(r"[\d,]+ images/s · \d+:\d\d left", status) for _, _, status in progress.seen)
    assert progress.seen[-1][2].endswith(" 0:00 left")


def test_what_had_to_be_trained_after_all_is_counted(measured_otherwise, tmp_path, capsys):
    next(measured_otherwise.glob("runs/ce-*/weights.safetensors")).unlink()
    progress = run(tmp_path, "ce,cosface")
    assert [(done, total) for done, total, _ in progress.seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not re.search(r"^ce .* measured again$", capsys.readouterr().out, re.M)


def test_a_failed_run_is_a_line_and_its_other_epochs_are_not_waited_for(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from lossbench import Head\n\nclass Mine(Head):\n    '''Mine.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "    def forward(self, embeddings, labels):\n        raise KeyError('mine')\n"
    )
    progress = run(tmp_path / "out", f"{tmp_path / 'mine.py'},ce")
    assert "mine · repeat 1/1 FAILED in epoch 1: KeyError: 'mine'\n" in capsys.readouterr().out
    assert [(done, total) for done, total, _ in progress.seen] == [(3, 4), (4, 4)]


def test_every_round_of_repeats_adds_to_the_bar_and_names_its_look(tmp_path, capsys):
    options = {"until_settled": True, "max_repeats": 4, "epochs": 1, "repeats": 2}
    progress = run(tmp_path, "ce,cosface", **options)
    out = capsys.readouterr().out
    assert "training 4 runs of 1 epoch\n" in out
    assert "ce · repeat 2 of at most 4 · look 1 · test accuracy " in out
    assert "note: look 1, after 2 repeats of at most 4: " in out
    assert "training 2 runs of 1 epoch\n" in out
    assert "cosface · repeat 4 of at most 4 · look 3 · test accuracy " in out
    assert [(done, total) for done, total, _ in progress.seen] == [
        (1, 4), (2, 4), (3, 4), (4, 4), (5, 6), (6, 6), (7, 8), (8, 8),
    ]  # fmt: skip


def test_a_quiet_benchmark_shows_notes_alone_and_a_verbose_one_every_epoch(tmp_path, capsys):
    with at_level(Level.QUIET):
        run(tmp_path, "ce", identities=4)
    assert capsys.readouterr().out == "note: batches of 6, not 32: there are 24 training images\n"
    with at_level(Level.VERBOSE):
        run(tmp_path, "ce", epochs=12)
    assert re.findall(r"^ce · repeat 1/1 · epoch (\d+)/12 · loss", capsys.readouterr().out, re.M) == [
        str(epoch) for epoch in range(1, 13)
    ]


def test_epochs_of_before_an_interruption_are_counted_and_neither_printed_nor_timed(tmp_path, capsys, monkeypatch):
    """Ten seconds pass with every epoch; the first three were trained before."""
    config = Config(losses="ce", out=str(tmp_path), **{**FAST, "repeats": 1, "epochs": 5})
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config, Interrupting(3))
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("lossbench.cli.progress.time", SimpleNamespace(monotonic=lambda: next(now)))
    progress = run(tmp_path, "ce", epochs=5)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ce · ")]
    assert lines[0] == "ce · repeat 1/1 · continues after epoch 3/5"
    assert [line.split(" · ")[2] for line in lines[1:3]] == ["epoch 4/5", "epoch 5/5"]
    assert [(done, total) for done, total, _ in progress.seen] == [(n, 5) for n in range(1, 6)]
    assert [status.rpartition(" · ")[2] for _, _, status in progress.seen] == ["", "", "", "0:10 left", "0:00 left"]


def test_a_run_that_starts_over_shows_its_epochs_as_new(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Config(losses="ce", out=str(tmp_path), **{**FAST, "repeats": 1}), Interrupting(1))
    next(tmp_path.glob("orl/runs/ce-*/checkpoint.pt")).unlink()
    run(tmp_path, "ce")
    out = capsys.readouterr().out
    assert re.findall(r"^ce · repeat 1/1 · epoch (\d)/2 · loss", out, re.M) == ["1", "2"]
    assert "continues" not in out
