"""The engine of this machine."""

from support import FAST, Recorder

from lossbench.benchmark.engines.local import Local
from lossbench.benchmark.inputs import gather
from lossbench.benchmark.plan import plan_runs
from lossbench.config import Config


def test_all_runs_are_done_and_their_epochs_heard(tmp_path):
    heard = Recorder()
    config = Config(losses="ce", out=str(tmp_path), threads=1, device="cpu", **{**FAST, "repeats": 1})
    inputs = gather(config, heard, verify=True)
    runs = plan_runs(inputs.config, inputs.specs, inputs.faces, inputs.fingerprints, "cpu", inputs.folder)
    made = Local().do(inputs, runs, heard, 1)
    assert made.keys() == {run.hash for run in runs}
    assert {record["status"] for record in made.values()} == {"finished"}
    assert heard.trained == [("ce", 0, 1), ("ce", 0, 2)]
