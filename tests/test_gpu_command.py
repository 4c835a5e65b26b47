"""tests/perf/gpu.py: what it does without a GPU, and that it finds its figures in what the commands print."""

import importlib.util
import re
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


def test_the_figures_of_a_head_are_found():
    printed = run(
        PERF / "many_classes.py", "--spec", "subcenter_arcface", "--classes", 500, "--dim", 16, "--pairs", 1
    ).stdout
    assert gpu.TIME.read(printed) > 0
    assert re.search(r", memory \S+\n$", printed)  # of so few classes it may be anything
    assert gpu.MEMORY.read("time 0.31 (pairs 0.30 to 0.33), memory 0.27\n") == 0.27


def test_the_figures_of_streamed_metrics_are_found():
    sizes = "--queries", 80, "--distractors", 200, "--dim", 16, "--pairs", 1
    printed = run(PERF / "exact_metrics.py", *sizes).stdout
    assert all(figure.read(printed) > 0.5 for figure in gpu.STREAM)
    assert len({figure.read(printed) for figure in gpu.STREAM}) > 1


def test_every_command_names_a_file_and_a_group_that_can_be_asked_for(tmp_path):
    for check in gpu.checks(tmp_path):
        assert (PERF / check.words[0]).is_file()
        assert f"{check.group}" in gpu.__doc__


def test_goals_are_met_or_missed_at_least_or_at_most():
    assert [gpu.TIME.met(value) for value in (0.5, 0.51, None)] == [True, False, False]
    assert [gpu.GRAPH.met(value) for value in (0.8, 0.79, None)] == [True, False, False]


def test_what_does_not_end_is_out_of_time():
    assert gpu.output([sys.executable, "-c", "import time; time.sleep(60)"], {}, 1) == "out of time"


@pytest.mark.skipif(not (gpu.ROOT / ".git").exists(), reason="no checkout: there are no other commits")
def test_the_tree_of_a_commit_is_there_and_gone_again():
    with gpu.tree_of("HEAD") as tree:
        assert (tree / "lossbench/__init__.py").is_file()
    assert not tree.exists()
