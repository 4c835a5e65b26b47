"""Every hyper-parameter does something, and the ends of its declared range are possible."""

from pathlib import Path

import pytest
from support import FORWARD, plugin, subject

from lossbench.conformance.hyperparameters import finite_in_range, parameters_matter
from lossbench.conformance.property import Broken, Skipped


def test_ends_are_tried_and_what_lies_next_to_open_ones():
    assert finite_in_range.measure(subject("cosface")) == "margin = 0, margin = 2, scale = 0.064"
    assert finite_in_range.measure(subject("sphereface")) == "margin = 1, margin = 100, lambda_min = 0"
    assert finite_in_range.measure(subject("circle:relaxation=0")) == (
        "relaxation = -0.999, relaxation = 0.999, gamma = 0.256"
    )


def test_without_ranges_there_are_no_ends():
    with pytest.raises(Skipped, match="it declares no ranges"):
        finite_in_range.measure(subject("ce"))


@pytest.mark.parametrize("spec", ["ce", "pml:NPairsLoss"])
def test_a_loss_without_hyper_parameters_is_skipped(spec):
    with pytest.raises(Skipped, match="it has none"):
        parameters_matter.measure(subject(spec))


NEAR_AN_END = ["arcface:margin=0", "arcface:margin=3.1", "sphereface2:balance=0.99", "adaface:t_alpha=0"]


@pytest.mark.parametrize("spec", NEAR_AN_END)
def test_hyper_parameters_matter_near_the_ends_of_their_ranges(spec):
    assert parameters_matter.measure(subject(spec))


def test_one_that_accepts_no_other_value_counts_as_used(tmp_path):
    file = Path(plugin(tmp_path, "mine", FORWARD, ", *, kind: int = 1"))
    file.write_text(file.read_text().replace("super().__init__()", "super().__init__(); assert kind == 1"))
    assert parameters_matter.measure(subject(str(file))) == "kind"


def test_one_that_is_never_used_is_named(tmp_path):
    file = plugin(tmp_path, "mine", '    ranges = "unused >= 0"\n' + FORWARD, ", *, unused: float = 1.0")
    with pytest.raises(Broken, match=r"^ignored: unused = 1.0: turned up and down, nothing changes$"):
        parameters_matter.measure(subject(file))
