"""tests/perf/gpu.py: what it does without a GPU, and that it finds its figures in what the commands print."""

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PERF = Path(__file__).parent / "perf"
SPEC = importlib.util.spec_from_file_location("gpu", PERF / "gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand: it would measure for minutes")
def test_without_cuda_it_says_so_in_one_line_and_fails():
    done = run(PERF / "gpu.py", "--against", "ceb1eeb")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "needs a CUDA device" in done.stderr


@pytest.mark.parametrize("groups", ["head", "heads,metric", "", "heads,"])
def test_a_group_that_it_does_not_know_is_refused(groups):
    done = run(PERF / "gpu.py", "--only", groups)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no group; choose from tests, heads, metrics, training, evaluation, pixels, loop" in done.stderr


@pytest.fixture
def printed_by(monkeypatch, capsys):
    """Run a command of tests/perf in this process and return what it prints."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(PERF / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_figures_of_a_head_are_found(printed_by):
    sizes = "--classes", 500, "--dim", 16, "--pairs", 1
    printed = printed_by("many_classes.py", "--spec", "subcenter_arcface", *sizes)
    assert gpu.TIME.read(printed) > 0
    assert re.search(r", memory \S+\n$", printed)  # of so few classes it may be anything
    assert gpu.MEMORY.read("time 0.31 (pairs 0.30 to 0.33), memory 0.27\n") == 0.27


def test_the_figures_of_streamed_metrics_are_found(printed_by):
    sizes = "--queries", 80, "--distractors", 200, "--dim", 16, "--pairs", 1
    printed = printed_by("exact_metrics.py", *sizes)
    assert all(figure.read(printed) > 0.5 for figure in gpu.STREAM)
    assert len({figure.read(printed) for figure in gpu.STREAM}) > 1


def test_every_command_names_a_file_and_a_group_that_can_be_asked_for(tmp_path):
    for check in gpu.checks(tmp_path):
        assert (PERF / check.words[0]).is_file()
        assert f"{check.group}" in gpu.__doc__


def test_goals_are_met_or_missed_at_least_or_at_most():
    assert [gpu.TIME.met(value) for value in (0.5, 0.51, None)] == [True, False, False]
    assert [gpu.GRAPH.met(value) for value in (0.8, 0.79, None)] == [True, False, False]


@pytest.mark.parametrize("against", ["nonsense", "HEAD~1000000"])
def test_what_is_no_commit_is_refused_before_anything_is_measured(against):
    done = run(PERF / "gpu.py", "--against", against)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--against '{against}' is neither a commit of this repository nor a folder" in done.stderr


def test_a_command_that_fails_leaves_its_reason_and_the_others_are_measured(monkeypatch, tmp_path, capsys):
    """The table itself, of commands that need no GPU."""
    for name, code in (
        ("broken", "raise RuntimeError('operation not permitted')"),
        ("fine", "print('time 0.4 (pairs')"),
    ):
        (tmp_path / f"{name}.py").write_text(code)
    made = [gpu.Check("heads", name, (f"{name}.py",), 30, (gpu.TIME,)) for name in ("broken", "fine")]
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu, "checks", lambda folder: made)
    monkeypatch.setattr(gpu, "orl_folders", lambda folder: folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "heads", "--against", str(gpu.ROOT)])
    with pytest.raises(SystemExit) as stop:
        gpu.main()
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert stop.value.code == 1
    assert "RuntimeError: operation not permitted" in first
    assert re.fullmatch(r"fine +time / library +0.4 +0.4 +<= 0.5  met", second)


@pytest.mark.parametrize(
    ("code", "fine"),
    [
        ("def test_one():\n    pass", True),
        ("import pytest\ndef test_one():\n    pass\ndef test_two():\n    pytest.skip('needs two GPUs')", True),
        ("import pytest\ndef test_one():\n    pytest.skip('no CUDA')", False),
        ("def test_one():\n    assert False", False),
        ("import os\ndef test_one():\n    os.abort()", False),
        (
            "import pytest\n@pytest.fixture\ndef one():\n    yield\n    1 / 0\n"
            "def test_one(one):\n    pass\ndef test_two():\n    pass",
            False,
        ),
    ],
)
def test_a_file_of_tests_passes_where_one_did_and_none_failed(tmp_path, code, fine):
    (tmp_path / "test_it.py").write_text(code)
    line, passed = gpu.tests_row(tmp_path / "test_it.py", 30)
    assert passed == fine
    assert ("MISSED" in line) == (not fine)


def test_what_does_not_end_is_out_of_time():
    assert gpu.output([sys.executable, "-c", "import time; time.sleep(60)"], {}, 1) == "out of time"


@pytest.mark.skipif(not (gpu.ROOT / ".git").exists(), reason="no checkout: there are no other commits")
def test_the_tree_of_a_commit_is_there_and_gone_again():
    with gpu.tree_of("HEAD") as tree:
        assert (tree / "lossbench/__init__.py").is_file()
    assert not tree.exists()
