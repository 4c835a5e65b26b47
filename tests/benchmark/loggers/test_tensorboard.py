"""`--log-to tensorboard`: event files, read back by TensorBoard itself."""

import pytest
from support import bench, logged_runs, run_of

from lossbench.results.history import read_epochs

pytestmark = pytest.mark.extra("tensorboard")


def read(folder, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / run_of(folder, run).name))
    events.Reload()
    return events


def points(events, name):
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_resumed_run_has_every_epoch_once_and_a_failed_one_says_why(tmp_path):
    folder, records, notes = logged_runs(tmp_path, "tensorboard")
    assert notes == []
    events = read(folder, "ce")
    epochs = read_epochs(records["ce"])
    for name in ("train_loss", "val_accuracy", "lr"):
        assert points(events, name) == [(e.epoch, pytest.approx(getattr(e, name))) for e in epochs]
    assert [step for step, _ in points(events, "images_per_second")] == [1, 2, 3]
    for key in ("tpr@0.1", "test_accuracy", "train_w_ec"):
        assert points(events, f"final/{key}") == [(3, pytest.approx(records["ce"]["metrics"][key]))]
    hyper = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert all(word in hyper for word in (b"loss", b"ce", b"lr", b"backbone"))
    failed = read(folder, "broken")
    (why,) = failed.Tensors("failed/text_summary")
    assert records["broken"]["reason"] in why.tensor_proto.string_val[0].decode()
    assert points(read(folder, "untrained"), "final/tpr@0.1") == [
        (0, pytest.approx(records["untrained"]["metrics"]["tpr@0.1"]))
    ]


def test_what_is_measured_again_or_was_never_written_is_written_whole(tmp_path):
    bench(tmp_path, "ce", repeats=1)
    folder, records, _ = bench(tmp_path, "ce", repeats=1, log_to=("tensorboard",))
    assert [step for step, _ in points(read(folder, "ce"), "train_loss")] == [1, 2]
    written = [file.stat().st_mtime_ns for file in sorted((folder / "tensorboard").glob("*/*"))]
    bench(tmp_path, "ce", repeats=1, log_to=("tensorboard",))
    assert [file.stat().st_mtime_ns for file in sorted((folder / "tensorboard").glob("*/*"))] == written
    _, records, _ = bench(tmp_path, "ce", repeats=1, log_to=("tensorboard",), fpr=(0.2,))
    events = read(folder, "ce")
    assert [step for step, _ in points(events, "train_loss")] == [1, 2]
    assert points(events, "final/tpr@0.2") == [(2, pytest.approx(records[1]["metrics"]["tpr@0.2"]))]
    assert "final/tpr@0.1" not in events.Tags()["scalars"]
