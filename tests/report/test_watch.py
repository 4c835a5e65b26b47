"""A report that is watched: drawn again as runs finish, quiet where nothing changes, still at its end."""

import shutil

import pytest
from support import REPORTED, SETTINGS, bench

from lossbench.errors import InputError
from lossbench.report.findings import Findings
from lossbench.report.watch import provisional, watch
from lossbench.results.study import Study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished benchmark: two losses and untrained, one repeat."""
    return bench(tmp_path_factory.mktemp("finished"), "ce,cosface", repeats=1)[0]


@pytest.fixture
def steps(monkeypatch):
    """Do one step in each pause of the watch, then interrupt it; without figures, which take most of the time."""
    monkeypatch.setattr("lossbench.report.figures.write.write_figures", lambda *_: [])

    def set_(*steps):
        left = list(steps)

        def pause(seconds):
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr("lossbench.report.watch._pause", pause)

    return set_


def add(finished, folder, *entrants):
    """Copy runs of a finished benchmark, as if they had just ended."""
    for run in (finished / "runs").iterdir():
        if run.name.split("-")[0] in entrants:
            shutil.copytree(run, folder / "runs" / run.name)


def test_it_waits_then_draws_what_there_is_and_ends_with_the_last_run(finished, tmp_path, steps):
    folder, heard, pages = tmp_path / "results" / "mine", [], []

    def begin():
        folder.mkdir(parents=True)
        shutil.copy(finished / "benchmark.toml", folder)

    def first_runs():
        add(finished, folder, "untrained", "ce")

    def nothing():
        pages.append((folder / "report.html").read_text())
        pages.append((folder / "report.html").stat().st_mtime_ns)

    def last_run():
        assert (folder / "report.html").stat().st_mtime_ns == pages[1], "nothing had changed"
        assert "Provisional: 2 of 3 runs are done." in (folder / "report.md").read_text()
        add(finished, folder, "cosface")

    steps(begin, first_runs, nothing, last_run)
    paths = watch(None, tmp_path / "results", heard.append)
    assert heard == [
        f"waiting for a benchmark in {tmp_path / 'results'}",
        f"waiting for the first finished run in {folder}",
        f"2 of 3 runs are done: wrote {folder / 'report.html'}",
        f"every run is done: wrote {folder / 'report.html'}",
    ]
    assert paths[0] == folder / "report.html"
    last = paths[0].read_text()
    assert '<meta http-equiv="refresh" content="10">' in pages[0]
    assert "Provisional: 2 of 3 runs are done. This page reloads every 10 seconds" in pages[0]
    assert "refresh" not in last
    assert "rovisional:" not in last + (folder / "report.md").read_text()
    policies = [text.split("Content-Security-Policy")[1].split(">")[0] for text in (pages[0], last)]
    assert policies[0] == policies[1]


def test_ctrl_c_leaves_a_page_that_is_still_and_exits_with_zero(finished, tmp_path, steps, lossbench):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(finished / "benchmark.toml", folder)
    add(finished, folder, "untrained", "ce")
    steps()
    code, out, err = lossbench("report", "--watch", folder)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"2 of 3 runs are done: wrote {folder / 'report.html'}",
        "stopped; the report stays as it was drawn last",
    ]
    text = (folder / "report.html").read_text()
    assert "Provisional: 2 of 3 runs are done." in text
    assert 'http-equiv="refresh"' not in text


def test_a_run_that_changes_while_it_is_read_is_read_again_and_a_damaged_one_ends_it(
    finished, tmp_path, steps, monkeypatch
):
    folder = tmp_path / "mine"
    shutil.copytree(finished, folder)
    damaged = next((folder / "runs").glob("ce-*")) / "run.json"
    whole = damaged.read_text()
    damaged.write_text("{")
    steps()
    with pytest.raises(InputError, match=r"run.json cannot be read"):
        watch(folder, tmp_path, lambda line: None)

    from lossbench.report import watch as module

    read = module.read_findings

    def repaired(at):
        damaged.write_text(whole)
        monkeypatch.setattr(module, "read_findings", read)
        raise InputError("it was half gone")

    monkeypatch.setattr(module, "read_findings", repaired)
    heard = []
    watch(folder, tmp_path, heard.append)
    assert heard == [f"every run is done: wrote {folder / 'report.html'}"]


def test_a_folder_of_benchmarks_names_them(finished, steps):
    steps()
    with pytest.raises(InputError, match=rf"is not a benchmark's folder; name one of {finished}\Z"):
        watch(finished.parent, finished.parent, lambda line: None)


def findings_of(count, **settings):
    record = {"record": {"lossbench": "1", "entrants": ["untrained", "a", "b", "c"]}}
    return Findings({**SETTINGS, **record, **settings}, Study(tuple(REPORTED[:count]), {}), [], [])


def test_how_far_it_is_follows_from_the_settings():
    assert provisional(findings_of(5, repeats=4)) == "5 of 16 runs are done"
    assert provisional(findings_of(16, repeats=4)) == ""
    assert provisional(findings_of(16, repeats=5)) == "16 of 20 runs are done"
    text = "16 runs are done, and repeats are added until all is settled"
    assert provisional(findings_of(16, repeats=4, until_settled=True)) == text
    assert provisional(findings_of(5)) == "", "a file of an older version does not say how many there will be"
