"""What `lossbench new --backbone` writes."""

import pytest

from lossbench.conformance.check import check_network
from lossbench.errors import InputError
from lossbench.models.backbones import backbone_info
from lossbench.models.template import write_network


def test_the_template_satisfies_the_contract(tmp_path):
    path = write_network("two_words.py", tmp_path)
    assert "class TwoWords(nn.Module)" in path.read_text()
    info = backbone_info(str(path))
    assert (info.image_size, info.embedding_dim, info.lr, info.dropout) == (64, 128, 3e-3, 0.2)
    assert [f for f in check_network(str(path)) if f.status != "pass"] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Net", "cannot name a network; use lower-case letters, digits and _, such as my_network"),
        ("class", "cannot name a network: it is a word of Python"),
        ("../sneaky", "cannot name a network"),
        ("iresnet18", "a backbone called 'iresnet18' exists already; choose another name"),
        ("mine", "mine.py exists already"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_writes_nothing(tmp_path, name, message):
    (tmp_path / "mine.py").write_text("precious")
    with pytest.raises(InputError, match=message):
        write_network(name, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]
    assert (tmp_path / "mine.py").read_text() == "precious"
