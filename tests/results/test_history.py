"""A run's epochs: read as they were written, and the timings and facts that follow from them."""

import json
import math

import pytest

from lossbench.errors import RunDamaged
from lossbench.results.history import Epoch, TrainingFacts, read_epochs, read_history, read_training_facts, timings

LINE = {"epoch": 1, "train_loss": 3.5, "val_accuracy": 0.25, "lr": 0.1, "images": 144, "seconds": 2.0}


def write(folder, *lines):
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"folder": str(folder), "training": {"steps": 8, "moved": True}}


def test_epochs_are_read_as_they_were_written(tmp_path):
    tracked = {"tpr@0.1": 0.5, "tpr@0.001": None}
    record = write(tmp_path, LINE, {**LINE, "epoch": 2, "val_accuracy": None, "tracked": tracked})
    first, second = read_history(record)
    assert first == {"epoch": 1, "train_loss": 3.5, "val_accuracy": 0.25}
    assert (second["epoch"], second["tracked"]) == (2, tracked)
    assert math.isnan(second["val_accuracy"])


def test_a_run_that_never_finished_an_epoch_has_no_history(tmp_path):
    assert read_history({"folder": str(tmp_path)}) == []


@pytest.mark.parametrize(
    "text", ["{", "[]\n", "3\n", '{"epoch": 1}\n', json.dumps({**LINE, "train_loss": "x"}), "[" * 100_000]
)
def test_a_damaged_history_is_one_line(tmp_path, text):
    (tmp_path / "history.jsonl").write_text(text)
    with pytest.raises(RunDamaged, match=r"\A[^\n]*history.jsonl is damaged [^\n]*\Z"):
        read_history({"folder": str(tmp_path)})


def test_epochs_can_be_read_whole(tmp_path):
    tracked = {"tpr@0.1": 0.5, "tpr@0.001": None}
    record = write(tmp_path, LINE, {**LINE, "epoch": 2, "tracked": tracked, "of_a_later_version": 1})
    assert read_epochs(record) == [Epoch(**LINE), Epoch(**{**LINE, "epoch": 2}, tracked=tracked)]
    assert read_epochs({"folder": str(tmp_path / "nowhere")}) == []


def test_an_epoch_that_says_too_little_is_damaged(tmp_path):
    short = {key: value for key, value in LINE.items() if key != "images"}
    with pytest.raises(RunDamaged, match=r"\A[^\n]*history.jsonl is damaged [^\n]*images[^\n]*\Z"):
        read_epochs(write(tmp_path, short))


def test_a_training_is_judged_by_its_losses_and_steps(tmp_path):
    record = write(tmp_path, LINE, {**LINE, "epoch": 2, "train_loss": 3.0})
    assert read_training_facts(record) == TrainingFacts([3.5, 3.0], 8, True)
    record["training"]["moved"] = "yes"
    assert read_training_facts(record).moved is False


@pytest.mark.parametrize("said", [None, {}, {"steps": "8"}, [8]])
def test_a_record_without_its_training_is_refused(tmp_path, said):
    record = {**write(tmp_path, LINE), "training": said}
    with pytest.raises(RunDamaged, match="does not say how its training went"):
        read_training_facts(record)


def test_a_training_without_epochs_is_refused(tmp_path):
    with pytest.raises(RunDamaged, match="does not say how its training went"):
        read_training_facts(write(tmp_path))


def test_speed_leaves_out_the_first_epoch_where_there_are_others():
    epochs = [Epoch(number, 3.0, 0.5, 0.1, images, seconds) for number, images, seconds in [(1, 100, 10), (2, 100, 4)]]
    epochs.append(Epoch(3, 3.0, 0.5, 0.1, 100, 1.0))
    assert timings(epochs, 20.0) == {"images_per_second": 40.0, "training_seconds": 15.0, "seconds": 20.0}
    assert timings(epochs[:1], 20.0)["images_per_second"] == 10.0
    none = timings([], 20.0)
    assert math.isnan(none.pop("images_per_second"))
    assert none == {"training_seconds": 0, "seconds": 20.0}
