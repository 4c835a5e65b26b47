"""A claim on a run lives as long as the process that holds it."""

import subprocess
import sys

from lossbench.benchmark.locks import claimed


def test_a_claim_ends_with_its_process_however_that_ends(tmp_path):
    run = tmp_path / "orl" / "runs" / "ce-r0-0123"
    script = (
        "import sys, time, pathlib; from lossbench.benchmark.locks import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])) as mine:\n    print(mine, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, run], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with claimed(run) as mine:
        assert not mine
    with claimed(run.with_name("ce-r1-0123")) as other:
        assert other
    holder.kill()
    holder.wait()
    with claimed(run) as mine:
        assert mine
    assert not run.exists()
