"""What a report is made of, read from a benchmark's folder: its runs alone, in its order, judged."""

import pytest
from support import WORDS

from lossbench.errors import InputError
from lossbench.report.findings import read_findings


def test_runs_of_the_latest_settings_are_read_in_the_order_of_their_command(lossbench, tmp_path):
    lossbench("run", "--losses", "ce", "--out", tmp_path, *WORDS, "--lr", "0.001")
    lossbench("run", "--losses", "cosface,ce", "--out", tmp_path, *WORDS)
    findings = read_findings(tmp_path / "orl")
    assert findings.study.entrants == ["cosface", "ce", "untrained"]
    assert findings.left_out == 2
    assert findings.settings["lr"] == 0.003
    assert findings.looks is None
    assert {(v.a, v.b) for v in findings.verdicts} == {("cosface", "ce")}
    assert any("a second repeat is needed" in sentence for sentence in findings.answer)


@pytest.mark.parametrize("text", ["", "losses = 'ce'", "[record]\nprotocol = 1\n", "\x00"])
def test_a_damaged_benchmark_file_is_one_line(tmp_path, text):
    (tmp_path / "benchmark.toml").write_text(text)
    with pytest.raises(InputError, match=r"\A[^\n]*benchmark.toml cannot be read[^\n]*\Z"):
        read_findings(tmp_path)


def test_a_folder_above_names_the_benchmarks_in_it(tmp_path):
    (tmp_path / "orl").mkdir()
    (tmp_path / "orl" / "benchmark.toml").touch()
    with pytest.raises(InputError, match=rf"is not a benchmark's folder; name one of {tmp_path / 'orl'}\Z"):
        read_findings(tmp_path)
