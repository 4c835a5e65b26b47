"""Curves of a card: training as the history says, passports of shipped plugins alone."""

import json

import pytest

from lossbench.losses.loading import trial_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.report.page.drawings import passport_drawings, training_drawings
from lossbench.utils.plugin_file import plugin_fingerprint

KNOWN = find_plugins()


def history(folder, losses):
    folder.mkdir()
    lines = [{"epoch": i, "train_loss": loss, "val_accuracy": 0.5} for i, loss in enumerate(losses, start=1)]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"folder": str(folder), "entrant": "ce", "repeat": 0}


def test_training_is_a_line_per_repeat(tmp_path):
    runs = [history(tmp_path / "one", [2.0, 1.0, 0.02]), history(tmp_path / "two", [4.0, 4.0])]
    loss, accuracy = training_drawings([*runs, {"folder": str(tmp_path / "none")}])
    assert (loss.x, loss.y) == (("1", "epoch", "3"), ("0.01", "1"))
    assert [line.points for line in loss.lines] == ["0.0,0.0 120.0,14.4 240.0,96.0", "0.0,0.0 120.0,0.0"]
    assert [line.points for line in accuracy.lines] == ["0.0,48.0 120.0,48.0 240.0,48.0", "0.0,48.0 120.0,48.0"]
    assert training_drawings([{"folder": str(tmp_path / "none")}]) == []


def trained(text):
    return {"entrant": text, "plugin": plugin_fingerprint(trial_head(parse_spec(text, KNOWN)))}


def test_the_passport_of_a_shipped_loss_is_measured():
    (drawing,), why = passport_drawings(trained("cosface:margin=0.2"), KNOWN)
    assert why == ""
    assert [line.kind for line in drawing.lines] == ["beside", "beside", "only"]
    assert drawing.note == "Dashed: ce and arcface."
    assert len(drawing.lines[-1].points.split()) == 91


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (trained("triplet"), "has no class centers"),
        ({**trained("cosface"), "plugin": "0" * 64}, "has changed since"),
        ({"entrant": "./evil.py", "plugin": "x"}, "not shipped"),
        ({"entrant": "pml:ArcFaceLoss", "plugin": "x"}, "not shipped"),
        ({"entrant": "../../plugins/ce.py+ce", "plugin": "x"}, "not shipped"),
        ({"entrant": "subcenter_arcface:centers=1000000000", "plugin": "x"}, "No passport: "),
        ({"entrant": "arcface:margin=99", "plugin": "x"}, "it must be"),
        ({"entrant": "<script>alert(1)</script>", "plugin": "x"}, "not shipped"),
    ],
)
def test_nothing_else_is_executed(record, why):
    drawings, said = passport_drawings(record, KNOWN)
    assert drawings == ()
    assert why in said
