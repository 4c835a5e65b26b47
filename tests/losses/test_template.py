"""What `lossbench new` writes."""

from pathlib import Path

import pytest

from lossbench.errors import InputError
from lossbench.losses.plugin import describe
from lossbench.losses.template import write_plugin


@pytest.mark.parametrize("name", ["two_words", "two_words.py"])
def test_the_template_is_a_plugin_of_one_screen(tmp_path, name):
    path = write_plugin(name, tmp_path)
    plugin = describe(path)
    assert plugin.name == "two_words"
    assert plugin.reference.startswith("TwoWords, ")
    assert [p.name for p in plugin.parameters] == ["margin", "scale"]
    assert len(path.read_text().splitlines()) <= 25


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Loss", "cannot name a loss; use lower-case"),
        ("class", "cannot name a loss: it is a word of Python"),
        ("untrained", "cannot name a loss"),
        ("../sneaky", "cannot name a loss"),
        ("arcface", "exists already .*choose another name"),
        ("mine", "mine.py exists already"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_writes_nothing(tmp_path, name, message):
    (tmp_path / "mine.py").write_text("precious")
    with pytest.raises(InputError, match=message):
        write_plugin(name, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]
    assert (tmp_path / "mine.py").read_text() == "precious"


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"mine.py cannot be written \(No such file or directory\)"):
        write_plugin("mine", Path(tmp_path, "nowhere"))
