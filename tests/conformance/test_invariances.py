"""Losses that depend on what must not matter, one property each; and those that say why they do."""

import pytest
from support import FORWARD, LOSS, forward, plugin, subject

from lossbench.conformance import invariances
from lossbench.conformance.invariances import draws
from lossbench.conformance.probe import CLASSES, scene
from lossbench.conformance.property import Broken, Skipped

pytestmark = pytest.mark.usefixtures("settled_soon")


OF_NORM = f"{LOSS} + embeddings.norm(dim=1).mean()"
COUNT = "self.calls = getattr(self, 'calls', 0) + 1"
REMEMBER = "self.past = [*getattr(self, 'past', []), embeddings.detach().norm()]"
BROKEN = {
    "sample_order": [(forward(f"{LOSS} + embeddings[0].sum()"), r"\Apermuting the batch changes the loss by \d")],
    "class_order": [
        (forward(LOSS.replace("0.1", f"0.1 * (labels == {number})")), r"\Arenaming the classes changes the loss by \d")
        for number in range(CLASSES)
    ],
    "embedding_norm": [(forward(OF_NORM), r"\Atripling the norm changes the loss by .* declare uses_norm = True\Z")],
    "evaluation_is_pure": [
        (forward(LOSS, "self.epoch += 1"), r"\Aevaluation changes epoch: guard it with `if self.training:`\Z"),
        (forward(LOSS, COUNT), r"\Aevaluation changes calls: "),
        (forward(f"{LOSS} * self.past[-2:][0]", REMEMBER), "the same batch has a different loss after other batches"),
    ],
    "state_round_trip": [(forward(f"{LOSS} * self.calls", COUNT), r"\Asaving and loading changes the loss by \d")],
    "labels_are_checked": [
        (
            forward(LOSS.replace("labels", "labels.clamp(0, 5)")),
            r"\Alabel -1 of 6 classes is accepted without an error",
        ),
        (forward(LOSS.replace("labels", "labels.clamp(max=5)")), r"\Alabel 6 of 6 classes is accepted without an err"),
    ],
}


@pytest.mark.parametrize(
    ("name", "methods", "says"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_loss_without_the_property_is_named_with_its_figure(tmp_path, name, methods, says):
    with pytest.raises(Broken, match=says):
        getattr(invariances, name).measure(subject(plugin(tmp_path, "mine", methods)))


@pytest.mark.parametrize("name", BROKEN)
def test_the_same_loss_without_the_fault_has_the_property(tmp_path, name):
    assert getattr(invariances, name).measure(subject(plugin(tmp_path, "mine", FORWARD)))


def test_a_declared_influence_of_the_norm_is_measured(tmp_path):
    said = invariances.embedding_norm.measure(
        subject(plugin(tmp_path, "mine", f"    uses_norm = True\n{forward(OF_NORM)}"))
    )
    assert said.startswith("declared: tripled, the loss goes from ")


def test_labels_of_a_loss_without_classes_are_not_checked():
    with pytest.raises(Skipped, match="no classes"):
        invariances.labels_are_checked.measure(subject("triplet"))


def test_a_loss_that_draws_random_numbers_is_recognised():
    for name, want in (("elasticface", True), ("arcface", False)):
        head = subject(name).laid_out()
        assert draws(head.train(), *scene(head)) is want
