"""The data sets by name: what suits them, and how they are opened."""

import subprocess
import sys

import pytest

from lossbench.data.catalogue import DATA, FOLDER, NAMES, data_info, open_data
from lossbench.errors import InputError


def test_a_name_is_a_data_set_and_anything_else_a_folder():
    assert (NAMES, FOLDER) == (("orl",), "DIR")
    orl = data_info("orl")
    assert orl is DATA["orl"]
    assert (orl.is_folder, orl.backbone, orl.epochs, orl.batch_size, orl.repeats) == (False, "tiny", 60, 32, 5)
    for path in ("faces", "./orl", "ORL", "DIR", "/"):
        info = data_info(path)
        settings = (info.is_folder, info.backbone, info.epochs, info.batch_size, info.repeats)
        assert settings == (True, "small", 30, 64, 3)


def test_orl_is_repeated_until_everybody_was_a_query_person_once(orl):
    query = [person for repeat in range(data_info("orl").repeats) for person in orl.split(repeat).query.people]
    assert len(query) == len(set(query)) == 40


def test_both_are_opened(tree):
    assert open_data("orl").name == "orl"
    assert open_data(str(tree)).name == "faces"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "no data called 'nowhere'; --data takes 'orl' or a folder"),
        ("or", r"no data called 'or'; did you mean 'orl'\?; --data takes"),
        ("a\nb", r"no data called 'a\\nb'; --data takes"),
    ],
)
def test_what_is_not_there_is_one_line(name, says):
    with pytest.raises(InputError, match=rf"\A{says}[^\n]*\Z"):
        open_data(name)


def test_the_catalogue_is_imported_without_what_opens_the_data():
    code = (
        "import sys, lossbench.data.catalogue; print([m for m in sys.modules if m.startswith(('numpy', 'torch', 'PIL'))"
    )
    code += " or m in ('hashlib', 'lossbench.data.orl', 'lossbench.data.tree')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
