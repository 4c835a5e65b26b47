"""Tables of evaluations: names that tell models apart, and which lists carry a TAR."""

import math
from pathlib import Path

import pytest
from support import known_record

from lossbench.cli.evaluation_request import Request, TemplateLists
from lossbench.cli.evaluation_tables import as_json, figure_table, names, pair_lines, pair_table, spread_lines
from lossbench.data.pairs import PairSet
from lossbench.evaluation.evaluate import Evaluation
from lossbench.evaluation.pair_lists import PairList
from lossbench.results.metric_fields import metric


def verified(same, different, tar):
    return {
        "verification_accuracy": 0.98765, "verification_standard_error": 0.004, "verification_folds": 4,
        "verification_tar": tar, "verification_same": same, "verification_different": different,
    }  # fmt: skip


@pytest.fixture
def found():
    pairs = {"lfw": verified(3000, 3000, 0.91), "few": verified(9, 999, math.nan), "many": verified(9, 10_000, 0.5)}
    record = known_record("ce", 0, 0.9)
    return [Evaluation(record, {}, {}, {}, (), Path("results/a/runs/ce"), pairs)]


def test_a_list_has_a_tar_where_its_pairs_support_one(found):
    headers, rows = pair_table(found)
    assert headers == ["run", "lfw", "few", "many", "lfw TAR @ FAR 0.001 †", "many TAR @ FAR 0.001"]
    assert rows == [["ce r0", *["0.9877 ± 0.0080"] * 3, "0.910", "0.500"]]
    lists = [PairList(name, PairSet((Path("a"), Path("b")), (), (), (), (), "")) for name in ("lfw", "few", "many")]
    lfw, few, many = pair_lines(lists, found)
    assert lfw == (
        "lfw: 3,000 pairs of one person, 3,000 of two; 4 folds, 2 images († thin: 3 of them decide TAR @ FAR 0.001, "
        "fewer than 10)"
    )
    assert few.endswith("; too few pairs of two people for TAR @ FAR 0.001, which needs 1,000")
    assert many == "many: 9 pairs of one person, 10,000 of two; 4 folds, 2 images"


def test_models_of_one_name_are_told_apart_by_their_place(found):
    (run,) = found
    other = Evaluation(run.record, {}, {}, {}, (), Path("results/b/runs/ce"))
    files = [Evaluation(None, {}, {}, {}, None, Path(place)) for place in ("x/m.onnx", "y/m.onnx", "z/n.onnx")]
    assert names([run, other, *files]) == [
        "ce r0 (results/a)", "ce r0 (results/b)", "m.onnx (x/m.onnx)", "m.onnx (y/m.onnx)", "n.onnx",
    ]  # fmt: skip


def test_a_spread_that_resamples_do_not_show_is_a_dash_and_not_certainty():
    """Two people whose resamples are all alike, or of whom fewer than two resamples have negatives."""
    figures = [metric(key) for key in ("tpr@0.1", "tpr@0.05", "tpr@0.01", "map_at_r")]
    values = {"tpr@0.1": 0.7, "tpr@0.05": 0.6, "tpr@0.01": 0.5, "map_at_r": 0.9}
    spread = {"tpr@0.1": 0.1, "tpr@0.05": 0.0, "tpr@0.01": math.nan}
    one = Evaluation(known_record("ce", 0, 0.9), values, {}, spread, (), Path("results/a/runs/ce"))
    assert figure_table([one], figures)[1] == [["ce r0", "0.700 ± 0.196", "0.600 ± –", "0.500 ± –", "0.900"]]
    assert spread_lines([one], figures) == [
        "± –: not estimated, as all resamples of these people give the same value or none; it is not 0"
    ]
    assert spread_lines([one], [figures[0], figures[3]]) == [], "no dash"
    asked = Request(None, (), TemplateLists(None, None, None, norms=False), None, None, False, None, None, "cpu")
    assert as_json(one, asked, 0)["spread_over_people"] == {"tpr@0.1": 0.1, "tpr@0.05": None, "tpr@0.01": None}
