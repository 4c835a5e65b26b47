"""lossbench report as a user types it: what it writes and says, and what it refuses in one line."""


def test_a_report_of_all_results_names_the_benchmarks(lossbench, tmp_path):
    (tmp_path / "orl").mkdir()
    (tmp_path / "orl" / "benchmark.toml").touch()
    code, _, err = lossbench("report", tmp_path)
    assert (code, err) == (2, f"error: '{tmp_path}' is not a benchmark's folder; name one of {tmp_path / 'orl'}\n")
