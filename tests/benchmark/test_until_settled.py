"""Repeats added until all is settled, on real faces: what is trained, what is looked at, and what the folder keeps."""

import json
import shutil

import pytest
from support import Recorder, bench, copied_bench, plugin

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.looks import FILE, read_looks, write_looks
from lossbench.results.store import load_records

SHORT = {"epochs": 1, "repeats": 2, "until_settled": True, "max_repeats": 3}
LOSSES = "ce,arcface"


def settle(out, losses=LOSSES, **options):
    return bench(out, losses, **{**SHORT, **options})


@pytest.fixture(scope="module")
def two_repeats(tmp_path_factory):
    """A finished benchmark with one look."""
    out = tmp_path_factory.mktemp("two repeats")
    settle(out, max_repeats=2)
    return out


@pytest.fixture
def looked_at(two_repeats, tmp_path):
    """A copy of it."""
    return shutil.copytree(two_repeats, tmp_path / "out")


def test_repeats_are_added_and_looked_at_until_the_limit_and_finished_ones_count(tmp_path):
    copied_bench(tmp_path, "ce", epochs=1, repeats=1)
    folder, records, heard = settle(tmp_path)
    assert {run[:2] for run in heard.trained} == {("ce", 1), ("ce", 2), *(("arcface", r) for r in range(3))}
    assert [(r["entrant"], r["repeat"]) for r in records if r["repeat"] == 2] == [
        ("untrained", 2), ("ce", 2), ("arcface", 2),
    ]  # fmt: skip
    looks = read_looks(folder)
    assert [look.repeats for look in looks.taken] == [2, 3]
    assert looks.plan.plugins.keys() == {"ce", "arcface"}
    assert looks.figures == ("test_accuracy_ncm", "tpr@0.1", "tpr@0.01")
    assert looks.ended.startswith("Stopped at the limit of 3 repeats (--max-repeats): ")
    assert heard.looks == [1, 2]
    assert [note for note in heard.notes if note.startswith("look ")] == [
        "look 1, after 2 repeats of at most 3: 0 of 3 comparisons settled",
        "look 2, after 3 repeats of at most 3: 0 of 3 comparisons settled",
    ]
    hashes = {record["hash"] for record in records}

    _, again, heard = settle(tmp_path)
    assert heard.trained == []
    assert read_looks(folder) == looks, "looks are not taken twice"
    assert {record["hash"] for record in again} == hashes

    _, _, heard = settle(tmp_path, max_repeats=4)
    assert {run[:2] for run in heard.trained} == {("ce", 3), ("arcface", 3)}
    longer = read_looks(folder)
    assert [look.repeats for look in longer.taken] == [2, 3, 4]
    assert longer.taken[0].level < looks.taken[0].level
    assert len(longer.replaced) == 1


def test_other_operating_points_are_another_plan_that_names_the_first(looked_at):
    folder, _, heard = settle(looked_at, max_repeats=2, fpr=(0.2,))
    assert heard.trained == []
    looks = read_looks(folder)
    assert looks.figures == ("test_accuracy_ncm", "tpr@0.2")
    assert len(looks.taken) == 1
    assert [text.endswith("measured otherwise") for text in looks.replaced] == [True]


def test_finished_runs_of_later_rounds_are_not_called_left_out(looked_at, monkeypatch):
    settle(looked_at)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    _, _, heard = settle(looked_at)
    assert heard.trained == []
    assert [note for note in heard.notes if not note.startswith("look ")] == [
        "6 runs are measured again, not trained: only the measuring has changed",
        "3 runs are measured again, not trained: only the measuring has changed",
    ]


def test_one_command_takes_the_looks_and_another_with_another_plan_is_refused(looked_at):
    folder = looked_at / "orl"

    class Meanwhile(Recorder):
        """Another command replaces the looks while this one trains."""

        def epoch(self, run, epoch):
            super().epoch(run, epoch)
            if run.repeat == 2:
                write_looks(folder, theirs)

    theirs = read_looks(folder)
    with pytest.raises(InputError, match=r"another command takes other looks in .*give one of the two its own --name"):
        run_benchmark(Config(losses=LOSSES, out=str(looked_at), image_size=32, **SHORT), Meanwhile())


class Stopped(Recorder):
    def epoch(self, run, epoch):
        raise KeyboardInterrupt


def test_looks_begin_again_where_everything_is_trained_again(looked_at):
    folder, _, heard = settle(looked_at, max_repeats=2, force=True)
    assert len(heard.trained) == 4
    assert len(read_looks(folder).replaced) == 1
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Config(losses=LOSSES, out=str(looked_at), image_size=32, **SHORT), Stopped(), force=True)
    assert read_looks(folder).taken == (), "they would be of other runs than those that follow"
    _, _, heard = settle(looked_at, force=True)
    assert sorted(run[:2] for run in heard.trained) == sorted((e, r) for e in ("ce", "arcface") for r in range(3)), (
        "once"
    )


def test_minutes_end_the_looks_and_the_same_command_continues(tmp_path):
    folder, _, heard = settle(tmp_path, max_minutes=0.01)
    assert {run[1] for run in heard.trained} == {0, 1}
    assert " minutes, because another repeat would exceed the 0.01 of --max-minutes: " in read_looks(folder).ended
    _, _, heard = settle(tmp_path)
    assert {run[1] for run in heard.trained} == {2}
    assert [look.repeats for look in read_looks(folder).taken] == [2, 3]


def test_a_loss_that_always_fails_ends_the_looks(tmp_path):
    broken = plugin(tmp_path, "broken", "    def forward(self, embeddings, labels):\n        raise KeyError('mine')\n")
    folder, _, _ = settle(tmp_path / "out", f"ce,{broken}", max_repeats=9)
    assert read_looks(folder).ended == (
        "Stopped after 2 repeats: 3 of 3 comparisons are open, because broken has finished fewer than two runs; "
        "--retry-failed repeats failed runs."
    )


def test_what_cannot_be_settled_is_refused_before_any_training(tmp_path, two_repeats):
    with pytest.raises(InputError, match="--until-settled compares losses; name two or more"):
        settle(tmp_path, "ce")
    assert not tmp_path.joinpath("orl").exists()
    folder = shutil.copytree(two_repeats / "orl", tmp_path / "orl")
    (folder / FILE).write_text("{")
    count = len(load_records(folder))
    with pytest.raises(InputError, match=r"settled.json cannot be read .*; delete it and run the same command again"):
        settle(tmp_path)
    assert len(load_records(folder)) == count


def test_a_stopped_command_continues_to_the_same_looks(tmp_path):
    class Third(Recorder):
        """Stops the command in its third repeat, which it begins after the first look."""

        def epoch(self, run, epoch):
            super().epoch(run, epoch)
            if run.repeat == 2:
                raise KeyboardInterrupt

    whole, _, _ = settle(tmp_path / "whole")
    folder = tmp_path / "stopped" / "orl"
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Config(losses=LOSSES, out=str(folder.parent), image_size=32, **SHORT), Third())
    assert [look.repeats for look in read_looks(folder).taken] == [2]
    _, _, heard = settle(folder.parent)
    assert {run[1] for run in heard.trained} == {2}, "the runs behind the first look were finished"
    first, second = (json.loads((place / FILE).read_text()) for place in (whole, folder))
    assert first == second
