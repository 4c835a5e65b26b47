"""`--log-to wandb`, offline: its files, read back record by record, and who is not logged in."""

import json
import struct
from pathlib import Path

import pytest
from support import logged_runs

pytestmark = pytest.mark.extra("wandb")

_HEADER, _BLOCK, _FULL, _LAST = 7, 32_768, 1, 4  # of LevelDB's log, which wandb writes


def read(path: Path):
    """Return the records of a .wandb file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), _HEADER, b"", []
    while at + _HEADER <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _HEADER:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + _HEADER])
        whole += data[at + _HEADER : at + _HEADER + size]
        at += _HEADER + size
        if kind in (_FULL, _LAST):
            found.append(Record.FromString(whole))
            whole = b""
    return found


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture
def offline(monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()  # it has read the environment
    yield
    wandb.teardown()


def test_a_resumed_run_keeps_its_id_with_every_epoch_once_and_a_failed_one_has_failed(tmp_path, offline):
    import wandb

    folder, records, notes = logged_runs(tmp_path, "wandb")
    wandb.teardown()  # its other process writes to the disk until then, also what runs have finished with
    assert notes == []
    (file,) = (folder / "wandb").glob(f"offline-run-*-{records['ce']['hash'][:16]}/*.wandb")
    found = read(file)
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.project, run.run_group, run.display_name) == ("lossbench", "orl", "ce-r0")
    assert run.run_id == records["ce"]["hash"][:16]
    assert values(run.config.update).items() >= {"loss": "ce", "epochs": 3}.items()
    steps = [values(record.history.item) for record in found if record.HasField("history")]
    lines = [json.loads(line) for line in (Path(records["ce"]["folder"]) / "history.jsonl").read_text().splitlines()]
    assert [step["_step"] for step in steps] == [1, 2, 3]
    assert [step["train_loss"] for step in steps] == [pytest.approx(line["train_loss"]) for line in lines]
    summary = {k: v for r in found if r.HasField("summary") for k, v in values(r.summary.update).items()}
    assert summary["final/tpr@0.1"] == pytest.approx(records["ce"]["metrics"]["tpr@0.1"])
    assert summary["status"] == "finished"
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
    (broken,) = (folder / "wandb").glob(f"offline-run-*-{records['broken']['hash'][:16]}/*.wandb")
    summary = {k: v for r in read(broken) if r.HasField("summary") for k, v in values(r.summary.update).items()}
    assert summary["reason"] == records["broken"]["reason"]
    assert [record.exit.exit_code for record in read(broken) if record.HasField("exit")] == [1]


def test_nobody_logged_in_is_one_line_before_any_training(lossbench, tmp_path, monkeypatch):
    import wandb

    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    wandb.teardown()
    code, _, error = lossbench("run", "--losses", "ce", "--epochs", 1, "--out", tmp_path / "out", "--log-to", "wandb")
    wandb.teardown()
    assert code == 2
    assert error == "error: --log-to wandb: nobody is logged in; run wandb login first, or set WANDB_MODE=offline\n"
    assert not (tmp_path / "out").exists()
