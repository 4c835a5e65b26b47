"""Runs measured on other people, compared: which are repeats of each other."""

import numpy as np
import pytest
from support import known_record

from lossbench.evaluation.compare import studies
from lossbench.evaluation.evaluate import Evaluation
from lossbench.results.verdicts import verdicts


def measured(entrant, repeat, rate, protocol="p", drawn=None):
    """A run trained by a protocol, with an ID rate of 0.1 on its own people and another one on these."""
    record = known_record(entrant, repeat, 0.9, tpr=0.1) | {"protocol": {"epochs": protocol}, "protocol_hash": "m"}
    drawn = {} if drawn is None else {"tpr@0.1": drawn}
    return Evaluation(record, {"tpr@0.1": rate, "negatives": 5000}, drawn, {}, ())


def runs(protocol="p", shift=0.0):
    found = [measured("ce", r, 0.8 + shift + 0.001 * r, protocol) for r in range(3)]
    found += [measured("arcface", r, 0.6 + shift, protocol) for r in range(3)]
    return [*found, measured("untrained", 0, 0.2, protocol)]


def test_repeats_are_compared_by_their_figures_on_these_people():
    (study,) = studies(runs(), people=7)
    assert study.entrants == ["ce", "arcface", "untrained"]
    (verdict,) = [v for v in verdicts(study) if v.difference.count]
    assert (verdict.figure.key, verdict.ahead) == ("tpr@0.1", "ce")
    assert verdict.difference.mean == pytest.approx(0.201)


def test_the_people_are_resampled_as_in_a_report():
    rng = np.random.default_rng(0)
    drawn = {"ce": rng.normal(0.8, 0.1, 300), "arcface": rng.normal(0.6, 0.1, 300)}
    found = [measured(name, r, 0.7 + 0.01 * r, drawn=own) for name, own in drawn.items() for r in range(3)]
    (study,) = studies(found, people=7)
    difference = study.difference("ce", "arcface", "tpr@0.1")
    assert difference.shared == pytest.approx(np.var(drawn["ce"] - drawn["arcface"], ddof=1))
    assert difference.shared_freedom == 6


def test_only_runs_that_were_trained_alike_are_compared():
    short, long = runs("20"), runs("60", shift=0.1)
    found = studies([*short, *long], people=7)
    assert [study.estimate("ce", "tpr@0.1").mean for study in found] == [pytest.approx(0.801), pytest.approx(0.901)]
    assert studies([short[0], long[3]], people=7) == [], "one loss of each"
    assert studies([short[0], short[1], short[-1]], people=7) == [], "one loss and the untrained backbone"


def test_two_runs_of_one_loss_in_one_repeat_are_not_mixed():
    notes = []
    assert studies([*runs(), measured("ce", 1, 0.3)], people=7, on_note=notes.append) == []
    assert notes == [
        "note: ce has 2 runs of repeat 2, so these losses are not compared; name only one of them",
    ]


def test_versions_of_a_plugin_are_not_mixed():
    notes, found = [], runs()
    found[1].record["plugin"] = "edited"
    assert studies(found, people=7, on_note=notes.append) == []
    assert notes == [
        "note: the plugin of ce was edited between these runs, so these losses are not compared; name only runs of one "
        "version"
    ]
