"""What a card tells of a loss: from its plugin's docstrings and its records, whatever these hold."""

import pytest
from support import STUDY, changed

from lossbench.losses.registry import find_plugins
from lossbench.report.page.cards import cards, described
from lossbench.results.study import Study

KNOWN = find_plugins()


@pytest.mark.parametrize(
    ("entrant", "names", "papers"),
    [
        ("arcface:margin=0.3", ["arcface"], 1),
        ("ce+0.5*triplet:margin=1e+1", ["ce", "triplet"], 2),
        ("pml:ArcFaceLoss:margin=28.6", ["pml:ArcFaceLoss"], 0),
        ("./mine.py", ["./mine.py"], 0),
        ("untrained", ["untrained"], 1),
    ],
)
def test_a_spec_is_described_loss_by_loss(entrant, names, papers):
    found = described(entrant, KNOWN)
    assert [one.name for one in found] == names
    assert sum(bool(one.paper) for one in found) == papers


def test_papers_and_formulas_are_the_plugins_own():
    (found,) = described("arcface", KNOWN)
    assert "arXiv:1801.07698" in found.paper
    assert "cos(theta_y + m)" in found.formula


def test_a_card_tells_settings_survival_and_runs(tmp_path):
    runs = [{**run, "folder": str(tmp_path / f"{run['entrant']}-{run['repeat']}")} for run in STUDY.records]
    runs = [changed(run, ("hyperparameters",), {"margin": 0.30000001, "x": ["<b>"]}) for run in runs]
    made = {card.name: card for card in cards(Study(tuple(runs), {}))}
    assert list(made) == ["a", "b", "c", "untrained"]
    assert made["a"].settings == (("margin", "0.3"), ("x", "['<b>']"))
    assert ("finished runs", "survival", "3 of 4") in made["c"].facts
    assert ("Inter query (°)", "inter", "60.00 ± 0.00") in made["a"].facts
    assert made["c"].failures == ("c, repeat 4, failed in epoch 4: TrainingFailed: the loss became nan",)
    assert made["c"].runs[3] == ("c-3", "repeat 4, failed")
    assert "not shipped" in made["a"].without
    assert made["untrained"].without == ""
    assert [card.place for card in made.values()] == [0, 1, 2, 3]


@pytest.mark.parametrize("odd", [None, "margin", ["margin"]])
def test_settings_that_are_no_table_are_left_out(tmp_path, odd):
    runs = [{**run, "folder": str(tmp_path), "hyperparameters": odd} for run in STUDY.records]
    assert all(card.settings == () for card in cards(Study(tuple(runs), {})))
