"""Losses that break one property each, beside the planted ones: it is named, and with what was measured."""

import pytest
from support import FORWARD, LOSS, forward, plugin, subject

from lossbench.conformance import numerics
from lossbench.conformance.property import Broken

pytestmark = pytest.mark.usefixtures("settled_soon")


def method(signature: str, returned: str) -> str:
    return f"{FORWARD}\n    def {signature}:\n        return {returned}\n"


COSINES = "torch.nn.functional.linear(embeddings, self.weight.to(embeddings.dtype))"
BROKEN = {
    "one_number": [
        (forward("embeddings.sum(1)"), r"forward returns shape \[8\], not one number: end it with \.mean\(\)"),
        (forward(LOSS, "embeddings = embeddings.detach()\n        self.weight.requires_grad_(False)"), "no gradient"),
        (method("logits(self, embeddings)", "embeddings @ self.weight[:5].T"), r"logits have shape \[8, 5\], not "),
        (method("class_centers(self)", "self.weight.T"), r"class_centers have shape \[24, 6\], not \[C, D\]"),
        (method("class_centers(self)", "self.weight * 2"), "class_centers are not unit rows"),
    ],
    "gradient_is_derivative": [(forward("(embeddings * embeddings.detach()).sum(1).mean()"), "largest relative error")],
    "finite_at_the_ends": [
        (forward(f"{LOSS} + torch.nn.functional.normalize(embeddings)[:, 0].sub(1).abs().sqrt().mean()"), "sqrt"),
        (forward(f"{LOSS} + (1 - torch.nn.functional.normalize(embeddings)[:, 0]).log().mean()"), "logarithm without"),
    ],
    "float32_under_autocast": [
        (forward(f"{LOSS}.to(embeddings.dtype)"), "the loss is torch.bfloat16 for torch.bfloat16 embeddings"),
        (forward(f"torch.nn.functional.cross_entropy({COSINES}.float(), labels)"), r"\Arelative error .* to half prec"),
    ],
    "own_dtype_kept": [
        (forward(LOSS, "self.epoch = self.epoch.to(embeddings.dtype)"), "turned epoch into torch.bfloat16 permanently"),
    ],
    "batch_of_one": [(forward(f"{LOSS} + embeddings.std(0).mean()"), r"\Athe loss is nan, its largest gradient nan\Z")],
    "absent_classes": [(forward(f"{LOSS} / (labels.unique().numel() - 1)"), r"\Athe loss is inf, its largest gradi")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "methods", "says"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
@pytest.mark.filterwarnings("ignore:std")
def test_a_loss_without_the_property_is_named_with_its_figure(tmp_path, name, methods, says):
    with pytest.raises(Broken, match=says):
        getattr(numerics, name).measure(subject(plugin(tmp_path, "mine", methods)))


@pytest.mark.parametrize("name", BROKEN)
def test_the_same_loss_without_the_fault_has_the_property(tmp_path, name):
    assert getattr(numerics, name).measure(subject(plugin(tmp_path, "mine", FORWARD)))
