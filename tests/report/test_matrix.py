"""Losses by losses: each verdict stands twice, turned round, from records whose right answer is known."""

import pytest
from support import STUDY

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.matrix import DENSE, Cell, Matrix, matrices, matrix_lines
from lossbench.results.metric_fields import metric
from lossbench.results.verdicts import Decided, Verdict, verdicts

FOUND = verdicts(STUDY)
OPPOSITE = {"ahead": "behind", "behind": "ahead"}


def test_a_cell_says_what_its_row_is_to_its_column():
    (accuracy,) = [m for m in matrices(FOUND) if m.figure.key == "test_accuracy_ncm"]
    assert accuracy.names == ["a", "b", "c"]
    a, b = accuracy.rows[0], accuracy.rows[1]
    assert [cell.kind for cell in a] == ["self", "ahead", "open"]
    assert (a[1].difference, b[0].difference) == ("+0.100", "−0.100")
    assert (a[1].said, b[0].said, a[0].said) == ("ahead", "behind", "")


def test_a_matrix_is_its_own_opposite():
    for matrix in matrices(FOUND):
        for i, row in enumerate(matrix.rows):
            for j, cell in enumerate(row):
                assert matrix.rows[j][i].kind == OPPOSITE.get(cell.kind, cell.kind)


def test_operating_points_come_first():
    assert [m.figure.point is None for m in matrices(FOUND)] == [False, False, True]


@pytest.mark.parametrize(
    ("estimate", "decided", "kind"),
    [
        (Estimate(0.1, 1e-8, 9, 0, 7, 1), None, "single"),
        (Estimate(0.0, 1e-8, 9, 0, 7, 3), Decided(None, True), "equivalent"),
        (Estimate(-0.1, 1e-8, 9, 0, 7, 3), Decided("b", False), "behind"),
    ],
)
def test_kinds(estimate, decided, kind):
    verdict = Verdict(metric("tpr@0.1"), "a", "b", estimate, 0.5, 0.05, decided=decided)
    assert matrices([verdict])[0].rows[0][1].kind == kind


def test_losses_that_share_no_repeat_are_not_compared():
    found = [Verdict(metric("tpr@0.1"), *pair, Estimate(0.1, 1e-8, 9, 0, 7, 3), 0.5, 0.05) for pair in ("ab", "bc")]
    assert matrices(found)[0].rows[0][2].kind == "none"


def test_as_markdown_it_has_a_row_and_a_column_per_loss():
    (accuracy,) = [m for m in matrices(FOUND) if m.figure.key == "test_accuracy_ncm"]
    lines = matrix_lines(accuracy, " †")
    assert lines[0] == "| accuracy (class means) † | a | b | c |"
    assert lines[2].startswith("| a |  | ▲ +0.100 | · ")


def test_a_dense_one_has_marks_alone():
    names = [f"loss_{i}" for i in range(DENSE + 1)]
    rows = [[Cell("self" if i == j else "ahead", "+0.100") for j in range(len(names))] for i in range(len(names))]
    assert matrix_lines(Matrix(metric("tpr@0.1"), names, rows))[2].startswith("| loss_0 |  | ▲ | ▲ |")
