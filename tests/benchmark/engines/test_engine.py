"""Which engine the settings name, and what does not go with it."""

import pytest
from support import bench

import lossbench
from lossbench.benchmark.engines.engine import opened
from lossbench.benchmark.engines.local import Local
from lossbench.config import SETTINGS, Config
from lossbench.errors import InputError


def test_it_is_this_machine_where_nothing_is_said():
    with opened(Config(), once=True) as engine:
        assert isinstance(engine, Local)
        assert engine.device is None


def test_a_cluster_does_no_single_run_and_takes_no_part_in_torchruns_work(monkeypatch):
    with pytest.raises(
        InputError, match=r"^--once does one run in this process, --engine ray .*; drop one of the two$"
    ):
        opened(Config(engine="ray"), once=True)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(InputError, match=r"^--engine ray does not go with torchrun's 2 processes; drop one of the"):
        opened(Config(engine="ray"), once=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engine": "dask"}, "--engine 'dask' is not known; use 'local' or 'ray'"),
        ({"ray_address": "a:1"}, "--ray-address applies to --engine ray only; add --engine ray, or drop --ray-address"),
        ({"gpus_per_run": 0.5}, "--gpus-per-run applies to --engine ray only; add --engine ray, or drop"),
        ({"engine": "ray", "gpus_per_run": 2.0}, "--gpus-per-run 2.0 is out of range; use 0.01 to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_starts(tmp_path, changes, says):
    with pytest.raises(InputError) as error:
        bench(tmp_path, "ce", **changes)
    assert says in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_engine_is_no_part_of_a_runs_hash():
    assert {SETTINGS[name].touches for name in ("engine", "ray_address", "gpus_per_run")} == {"neither"}


def test_without_ray_one_line_says_what_to_install(lossbench, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    code, _, err = lossbench("run", "--engine", "ray", "--out", tmp_path / "out")
    assert (code, err) == (2, "error: --engine ray needs the extra [ray]: pip install 'lossbench[ray]'\n")
    assert not (tmp_path / "out").exists()


def test_python_takes_the_same_settings(tmp_path):
    with pytest.raises(InputError, match=r"^--ray-address 'nowhere' is no HOST:PORT|^--engine ray needs the extra"):
        lossbench.run("ce", engine="ray", ray_address="nowhere", out=str(tmp_path))
