"""The two slow properties, on a head that has them and on heads that have not."""

import pytest
from support import FORWARD, LOSS, plugin, subject

from lossbench.conformance import slow
from lossbench.conformance.check import PROPERTIES
from lossbench.conformance.property import Broken, Skipped


def test_these_are_the_properties_that_a_fast_check_leaves_out():
    assert [prop for prop in PROPERTIES if prop.slow] == [slow.compiles, slow.overfits]


def test_a_head_compiles_and_learns_faces_by_heart():
    assert slow.compiles.measure(subject("arcface")).startswith("relative error ")
    assert slow.overfits.measure(subject("arcface")).startswith("100 % after ")


def test_without_a_compiler_the_line_says_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Skipped, match=r"no C\+\+ compiler"):
        slow.compiles.measure(subject("ce"))


def test_a_head_that_computes_something_else_when_compiled_is_named(tmp_path):
    """Its loss is left to Python: compiling it would take seconds."""
    methods = FORWARD.replace("def forward(self, embeddings, labels)", "def plain(self, embeddings, labels, factor)")
    methods = "    @torch._dynamo.disable" + methods.replace(f"return {LOSS}", f"return {LOSS} * factor")
    methods += """
    def forward(self, embeddings, labels):
        return self.plain(embeddings, labels, 3.0 if torch.compiler.is_compiling() else 1.0)
"""
    with pytest.raises(Broken, match=r"\Acompiled, loss or gradient differ by 2\.0e\+00 \(relative\)\Z"):
        slow.compiles.measure(subject(plugin(tmp_path, "mine", methods)))


def test_a_loss_that_teaches_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(slow, "_MINUTE", 0.0)
    monkeypatch.setattr(slow, "_STEPS", 10)
    forward = FORWARD.replace(f"return {LOSS}", f"return {LOSS} * 0")
    with pytest.raises(Broken, match=r"\A\d+\.\d% after 10 steps: it does not even learn the images"):
        slow.overfits.measure(subject(plugin(tmp_path, "mine", forward)))
