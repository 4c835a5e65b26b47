"""lossbench report as a user types it: what it writes and says, and what it refuses in one line."""

import pytest


def test_a_report_of_all_results_names_the_benchmarks(lossbench, tmp_path):
    (tmp_path / "orl").mkdir()
    (tmp_path / "orl" / "benchmark.toml").touch()
    code, _, err = lossbench("report", tmp_path)
    assert (code, err) == (2, f"error: '{tmp_path}' is not a benchmark's folder; name one of {tmp_path / 'orl'}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--compare",), "--compare takes two benchmarks or more, none is named"),
        (("--compare", "a"), "--compare takes two benchmarks or more, only 'a' is named"),
        (("--compare", "a", "./a"), "--compare has 'a' twice; name different benchmarks"),
        (("--compare", "a", "b"), "'a' is not a benchmark's folder"),
        (("a", "b"), "report takes one folder, not 2; side by side: --compare a b"),
        (("--out", "x", "a"), "--out belongs to --compare"),
        (("--compare", "--faces", "a", "b"), "--faces belongs to the report of one benchmark"),
        (("--watch", "--compare", "a", "b"), "--watch belongs to the report of one benchmark"),
    ],
)
def test_what_cannot_be_meant_is_one_line(lossbench, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = lossbench("report", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {says}")
    assert list(tmp_path.iterdir()) == []


def test_a_quiet_report_is_written_without_a_word(lossbench, trained):
    assert lossbench("report", trained, "-q") == (0, "", "")
    assert (trained / "report.html").is_file()
