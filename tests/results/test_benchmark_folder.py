"""A benchmark's folder: which runs belong to its latest settings, and in which order."""

import pytest
from support import bench

from lossbench.errors import InputError
from lossbench.results.benchmark_folder import read_benchmark


def test_records_are_those_of_the_latest_settings_in_the_order_of_the_entrants(tmp_path):
    bench(tmp_path, "arcface", epochs=1, repeats=1, seed=3)
    folder, _, _ = bench(tmp_path, "cosface,ce", epochs=1)
    found = read_benchmark(folder)
    names = [(record["entrant"], record["repeat"]) for record in found.records]
    assert names == [(name, repeat) for name in ("untrained", "cosface", "ce") for repeat in (0, 1)]
    assert {record["seed"] for record in found.records} == {0}
    assert found.left_out == 2
    assert (found.settings["losses"], found.settings["image_size"]) == ("cosface,ce", 32)


@pytest.mark.parametrize("text", ["", "losses = 'ce'", "[record]\nprotocol = 1\n", "\x00"])
def test_a_damaged_benchmark_file_is_refused(tmp_path, text):
    (tmp_path / "benchmark.toml").write_text(text)
    with pytest.raises(InputError, match=r"\A[^\n]*benchmark.toml cannot be read[^\n]*\Z"):
        read_benchmark(tmp_path)
