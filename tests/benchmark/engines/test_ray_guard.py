"""The line that is said when Ray ends a command."""

import subprocess
import sys

import pytest

SAYS = "error: the Ray cluster at here:1 is lost, or this command was killed; "
CODE = """
import os
from lossbench.benchmark.engines.ray_guard import loss_told
with loss_told("the Ray cluster at here:1"):
    {}
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("os._exit(1)", 1, True),
        ("os.kill(os.getpid(), 9)", -9, True),
        ("pass", 0, False),
        ("raise SystemExit(3)", 3, False),
    ],
)
def test_only_a_process_that_python_does_not_end_is_said_to_be_lost(what, code, said):
    words = [sys.executable, "-c", CODE.format(what)]
    ended = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)  # until both have closed it
    assert ended.returncode == code
    assert ended.stderr.startswith(SAYS) if said else ended.stderr == ""
    assert ended.stderr.count("\n") == said
