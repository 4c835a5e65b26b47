"""Terms are found by any name, and a typing error names the closest."""

import pytest

from lossbench.errors import InputError
from lossbench.report.explain import explained, find, parts


@pytest.mark.parametrize(
    ("name", "topic"),
    [("fpr", "fpr"), ("FAR", "fpr"), ("  Plain   Twin ", "deconfound"), ("tpr@1e-05", "id-rate"), ("±", "interval"),
     ("transfer_fpr@0.1", "threshold-transfer"), ("cmc5_with_distractors", "rank-k"), ("people", "people-error"),
     ("training curves", "training-curve"), ("training_curves", "training-curve"), ("tpr_fpr", "id-rate"),
     ("similarities", "cosine"), ("t-SNE", "map"), ("query map", "map"), ("P x 4", "batches"), ("PxK", "batches"),
     ("IJB-C", "template"), ("template_tar@1e-05", "template")],
)  # fmt: skip
def test_a_term_has_many_names(name, topic):
    assert find(name).topic == topic


def test_a_typing_error_names_the_closest():
    with pytest.raises(InputError, match=r"\Ano topic 'verdct'; did you mean 'verdict'\? lossbench explain lists all"):
        explained("verdct")
    with pytest.raises(InputError, match=r"\Ano topic 'qqq'; lossbench explain lists all topics\Z"):
        explained("qqq")


def test_parts_say_where_a_figure_stands():
    found = dict(parts(find("id-rate")))
    assert found["in run.json"] == "tpr@RATE"
    assert "τ" in found["formula"]
    assert set(dict(parts(find("backbone")))) == set()


def test_the_command_lists_prints_and_refuses(lossbench):
    code, out, _ = lossbench("explain")
    assert code == 0
    assert all(f"  {topic} " in out for topic in ("fpr", "verdict", "threshold-transfer", "deconfound"))
    code, out, _ = lossbench("explain", "threshold-transfer")
    assert code == 0
    assert out.splitlines()[0] == "threshold transfer"
    assert "in run.json: transfer_fpr@RATE" in out
    code, out, error = lossbench("explain", "deconfoud")
    assert (code, out) == (2, "")
    assert "did you mean 'deconfound'?" in error
    assert lossbench("explain", "threshold", "transfer")[1].startswith("threshold transfer\n")
