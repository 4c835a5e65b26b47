"""`--log-to`: which runs loggers hear of, and that none of them can stop a training."""

from dataclasses import replace
from itertools import zip_longest

import pytest
from support import FAST, Interrupting, Recorder, bench, figures

from lossbench.benchmark.driver import run_benchmark
from lossbench.benchmark.log_to import _LOGGERS, LogTo, logged, refuse_missing
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.utils.claims import claimed


class Pages:
    """A logger that keeps what it was given, by the run's name: lists of calls."""

    def __init__(self, fails_at: str = "") -> None:
        self.runs: dict[str, list] = {}
        self.fails_at, self.calls, self.closed = fails_at, 0, False

    def _say(self, run, what):
        self.calls += 1
        if what[0] == self.fails_at:
            raise ConnectionError("no route to host\nand more")
        self.runs.setdefault(f"{run.entrant}-{run.repeat}", []).append(what)

    def has(self, run):
        return f"{run.entrant}-{run.repeat}" in self.runs

    def begin(self, run):
        self.runs.pop(f"{run.entrant}-{run.repeat}", None)
        self._say(run, ("begin",))

    def epoch(self, run, number, figures):
        self._say(run, (number, figures["train_loss"]))

    def finish(self, run, record, figures):
        self._say(run, (record["status"], figures.get("final/tpr@0.1")))

    def close(self):
        self.closed = True


def benchmark(out, pages, listener=None, **options):
    heard = listener or Recorder()
    config = Config(**{**FAST, "losses": "ce", "out": str(out), **options})
    return run_benchmark(config, LogTo(heard, {"pages": pages}))[1], heard


def outline(pages):
    return {name: [what[0] for what in said] for name, said in pages.runs.items()}


class Heard(Recorder):
    """A listener that keeps what it hears, run by run."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def epoch(self, run, epoch):
        self.calls.setdefault(run.hash, []).append(("epoch", run, epoch))

    def finished(self, run, record):
        self.calls.setdefault(run.hash, []).append(("finished", run, record))


def test_every_run_is_written_once_with_its_epochs_and_final_figures(tmp_path):
    """One run at a time, and as two jobs have them: an epoch of one, then of the other."""
    alone, pages = Pages(), Pages()
    records, heard = benchmark(tmp_path, alone, Heard())
    log_to = LogTo(Recorder(), {"pages": pages})
    for calls in zip_longest(*heard.calls.values()):
        for name, run, what in filter(None, calls):
            getattr(log_to, name)(run, what)
    assert pages.runs == alone.runs
    untrained, trained = ["begin", "finished"], ["begin", 1, 2, "finished"]
    assert outline(pages) == {"untrained-0": untrained, "untrained-1": untrained, "ce-0": trained, "ce-1": trained}
    assert pages.runs["ce-1"][-1] == ("finished", records[3]["metrics"]["tpr@0.1"])


def test_a_resumed_run_begins_again_and_repeats_what_it_has_done(tmp_path):
    pages = Pages()
    with pytest.raises(KeyboardInterrupt):
        benchmark(tmp_path, pages, Interrupting(2), repeats=1, epochs=3)
    assert outline(pages)["ce-0"] == ["begin", 1]
    benchmark(tmp_path, pages, repeats=1, epochs=3)
    assert outline(pages)["ce-0"] == ["begin", 1, 2, 3, "finished"]


def test_what_is_finished_is_left_alone_and_what_is_measured_again_is_written_whole(tmp_path):
    pages = Pages()
    benchmark(tmp_path, pages, repeats=1)
    before, calls = outline(pages), pages.calls
    benchmark(tmp_path, pages, repeats=1)
    assert (outline(pages), pages.calls) == (before, calls)
    benchmark(tmp_path, pages, repeats=1, fpr=(0.1, 0.2))
    assert outline(pages) == before
    assert pages.calls == 2 * calls
    benchmark(tmp_path, pages, repeats=1, fpr=(0.2,))
    assert pages.runs["ce-0"][-1] == ("finished", None)


def test_what_another_process_has_done_is_not_written(tmp_path):
    heard, runs = Recorder(), []
    heard.finished = lambda run, record: runs.append((run, record))
    pages = Pages()
    benchmark(tmp_path, pages, heard, repeats=1)
    elsewhere = Pages()
    for run, record in runs:
        LogTo(Recorder(), {"pages": elsewhere}).finished(replace(run, record=record), record)
    assert elsewhere.runs == {}


def test_complete_runs_that_were_never_written_are_written_from_their_files(tmp_path):
    heard, runs = Recorder(), []
    heard.finished = lambda run, record: runs.append((run, record))
    written = Pages()
    benchmark(tmp_path, written, heard, repeats=1)
    complete = [replace(run, record=record) for run, record in runs]
    later, had = Pages(), Pages()
    had.runs = {"ce-0": [], "untrained-0": []}
    log_to = LogTo(heard, {"later": later, "had": had})
    log_to.catch_up([*complete, replace(complete[0], record=None)])
    assert later.runs == written.runs
    marks = complete[0].folder.parents[1] / ".log-to"
    assert [file for file in marks.iterdir() if file.is_file()] == []
    meanwhile = Pages()
    with claimed(marks / "claims", marks) as mine:
        assert mine
        LogTo(heard, {"meanwhile": meanwhile}).catch_up(complete)
    assert meanwhile.runs == {}, "another process writes them"
    assert had.runs == {"ce-0": [], "untrained-0": []}
    (complete[-1].folder / "history.jsonl").write_text("{")
    log_to = LogTo(heard, {"again": Pages()})
    log_to.catch_up(complete)
    assert [note for note in heard.notes if "history.jsonl is damaged" in note]
    assert outline(log_to.loggers["again"]).keys() == {complete[0].entrant + "-0"}


@pytest.mark.parametrize("at", ["begin", 2, "finished"])
def test_a_logger_that_fails_is_said_once_and_changes_no_figure(tmp_path, at):
    _, expected, _ = bench(tmp_path / "without", "ce")
    fails, works, heard, runs = Pages(fails_at=at), Pages(), Recorder(), []
    heard.finished = lambda run, record: runs.append((run, record))
    config = Config(**FAST, losses="ce", out=str(tmp_path / "with"))
    _, records = run_benchmark(config, LogTo(heard, {"fails": fails, "works": works}))
    stopped = "--log-to fails has stopped (ConnectionError: no route to host)"
    said = f"{stopped}; the runs continue without it, and the same command, run again, writes them"
    assert heard.notes == [said]
    assert figures(records) == figures(expected)
    assert outline(works)["ce-1"] == ["begin", 1, 2, "finished"]
    fails.fails_at, calls = "", works.calls
    LogTo(heard, {"fails": fails, "works": works}).catch_up([replace(run, record=record) for run, record in runs])
    assert fails.runs == works.runs, "what it had in part is written whole"
    assert works.calls == calls


def test_a_run_that_was_interrupted_and_finished_without_the_logger_is_written_whole(tmp_path):
    pages = Pages()
    with pytest.raises(KeyboardInterrupt):
        benchmark(tmp_path, pages, Interrupting(2), repeats=1, epochs=3)
    heard, runs = Recorder(), []
    heard.finished = lambda run, record: runs.append(replace(run, record=record))
    run_benchmark(Config(**{**FAST, "losses": "ce", "out": str(tmp_path), "repeats": 1, "epochs": 3}), heard)
    assert outline(pages)["ce-0"] == ["begin", 1]
    LogTo(heard, {"pages": pages}).catch_up(runs)
    assert outline(pages)["ce-0"] == ["begin", 1, 2, 3, "finished"]


def test_a_logger_that_cannot_be_started_is_one_line(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("its database is of a later version\nand more")

    monkeypatch.setitem(_LOGGERS, "broken", broken)
    with (
        pytest.raises(InputError, match=r"\A--log-to broken cannot be started \(RuntimeError: its .* version\); fix"),
        logged(["broken"], tmp_path, Recorder()),
    ):
        pass


def test_loggers_are_closed_when_the_command_is_interrupted(tmp_path, monkeypatch):
    pages = Pages()
    monkeypatch.setitem(_LOGGERS, "pages", lambda *_: pages)
    with pytest.raises(KeyboardInterrupt), logged(["pages", "pages"], tmp_path, Interrupting(2)) as log_to:
        run_benchmark(Config(losses="ce", out=str(tmp_path), **FAST), log_to)
    assert pages.closed
    assert outline(pages)["ce-0"] == ["begin", 1]


def test_a_logger_that_is_not_installed_is_refused_also_where_a_folder_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "no_such_logger").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError) as refused:
        refuse_missing(["json", "no_such_logger"])
    cure = "needs the extra [no_such_logger]: pip install 'lossbench[no_such_logger]'"
    assert str(refused.value) == f"--log-to no_such_logger {cure}"
    refuse_missing([])


def test_an_unknown_logger_ends_the_command_with_one_line(lossbench, tmp_path):
    code, _, error = lossbench("run", "--out", tmp_path / "out", "--log-to", "tensorboard,mlflow")
    assert (code, error) == (
        2,
        "error: --log-to 'mlflow' is not known; use 'tensorboard' or 'wandb' or 'trackio'\n",
    )
    assert not (tmp_path / "out").exists()
