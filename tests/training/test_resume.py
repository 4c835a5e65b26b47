"""kill -9 on a real run loses at most an epoch, and the same command ends with the same bits.

`tests/perf/kill_drill.py` does the same 50 times, at 64 px.
"""

import json
import signal
import subprocess
import sys
import time

from safetensors.torch import load_file
from support import bench

COMMAND = [sys.executable, "-m", "lossbench", "run", "--losses", "arcface", "--repeats", "1", "--epochs", "7"]
COMMAND += ["--image-size", "32", "--threads", "1", "--out"]


def epochs_done(out):
    files = list(out.glob("orl/runs/arcface-*/history.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def test_a_killed_run_continues_and_ends_bit_identical(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    bench(whole, "arcface", repeats=1, epochs=7, threads=1)
    killed = subprocess.Popen([*COMMAND, parts], stdout=subprocess.DEVNULL)
    while epochs_done(parts) < 3:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    folder = next(parts.glob("orl/runs/arcface-*"))
    assert not (folder / "run.json").exists()
    assert (folder / "checkpoint.pt").exists()
    before = epochs_done(parts)
    assert 3 <= before < 7

    bench(parts, "arcface", repeats=1, epochs=7, threads=1)
    other = next(whole.glob("orl/runs/arcface-*"))
    assert folder.name == other.name
    kept = [json.loads((place / "run.json").read_text()) for place in (folder, other)]
    assert kept[0]["metrics"] == kept[1]["metrics"]
    weights = [load_file(place / "weights.safetensors") for place in (folder, other)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert not (folder / "checkpoint.pt").exists()
