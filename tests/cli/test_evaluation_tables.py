"""Tables of evaluations: names that tell models apart, and which lists carry a TAR."""

import math
from pathlib import Path

import pytest
from support import known_record

from lossbench.cli.evaluation_tables import names, pair_lines, pair_table
from lossbench.data.pairs import PairSet
from lossbench.evaluation.evaluate import Evaluation
from lossbench.evaluation.pair_lists import PairList


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
