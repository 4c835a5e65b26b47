"""A plugin file as its source reads."""

import pytest
from support import FORWARD, plugin

from lossbench.errors import InputError
from lossbench.losses.plugin import Parameter, describe
from lossbench.losses.ranges import Range

EXTRA = ", *, margin: float = 0.1, hard: bool = False, bound: float = 1 / 3, needed: int"


def described(folder, methods="", extra=EXTRA):
    from pathlib import Path

    return describe(Path(plugin(folder, "mine", methods + FORWARD, extra)))


def test_parameters_are_keyword_only_typed_and_in_order(tmp_path):
    assert described(tmp_path).parameters == (
        Parameter("margin", "float", "0.1"),
        Parameter("hard", "bool", "False"),
        Parameter("bound", "float", "1 / 3"),
        Parameter("needed", "int", "required"),
    )


def test_a_default_is_a_value_unless_it_is_an_expression_or_missing(tmp_path):
    assert [p.default_value for p in described(tmp_path).parameters] == [0.1, False, None, None]


def test_name_and_docstrings(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""First line,\nand second.\n\nMore."""\nclass Mine(Head):\n    """What\n    it is."""\n')
    found = describe(path)
    assert (found.name, found.reference, found.summary) == ("mine", "First line, and second.", "What it is.")


@pytest.mark.parametrize(
    "line",
    ['ranges = "0 < margin < pi, needed >= 1"', 'ranges: str = "0 < margin < pi, needed >= 1"'],
)
def test_ranges_are_read_from_the_class(tmp_path, line):
    found = described(tmp_path, f"    {line}\n")
    assert found.parameter("margin").range == Range("0 < margin < pi", 0, 3.141592653589793, True, True)
    assert found.parameter("needed").range == Range("needed >= 1", 1)
    assert found.parameter("hard").range is None
    assert found.ranges == "0 < margin < pi, needed >= 1"


def test_ranges_are_optional(tmp_path):
    found = described(tmp_path)
    assert found.ranges == ""
    found.refuse_outside("margin", -1e9)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('ranges = "margin >"', "'margin >' cannot be read"),
        ('ranges = "margn > 0"', "'margn > 0' names none of its hyper-parameters (margin, hard, bound, needed)"),
        ('ranges = "margin > 1"', "'margin > 1' excludes the default, 0.1"),
        ('ranges = "hard >= 0"', "'hard >= 0' excludes the default, False"),
        ('ranges = "0 <= margin <= bound"', "does not compare one hyper-parameter with numbers"),
        ("ranges = 'margin' + '> 0'", "no plain string on a line of their own"),
        ('plain_at, ranges = "", "margin > 0"', "no plain string on a line of their own"),
        ("ranges = {'margin': (0, 1)}", "no plain string on a line of their own"),
        ("ranges: str", "no plain string on a line of their own"),
    ],
)
def test_broken_ranges_name_the_file_and_the_cure_in_one_line(tmp_path, line, says):
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        described(tmp_path, f"    {line}\n")
    assert f"plugin {tmp_path / 'mine.py'} has ranges that cannot be used: " in str(error.value)
    assert says in str(error.value)
    assert str(error.value).endswith('write, for example, ranges = "0 <= margin < pi, scale > 0"')


def test_a_value_outside_is_refused_and_none_is_not(tmp_path):
    found = described(tmp_path, '    ranges = "0 <= margin < 1, bound > 0"\n')
    for accepted in (0, 0.999, None):
        found.refuse_outside("margin", accepted)
    found.refuse_outside("no such thing", -1)
    with pytest.raises(InputError, match=r"^mine's margin is 1; it must be at least 0 and below 1 \(default 0.1\)$"):
        found.refuse_outside("margin", 1)
    with pytest.raises(InputError, match=r"^mine's margin is '0.5'; it must be at least 0"):
        found.refuse_outside("margin", "0.5")
    with pytest.raises(InputError, match=r"^mine's bound is -1; it must be above 0$"):
        found.refuse_outside("bound", -1)


def test_two_files_of_one_name_are_refused_and_two_paths_to_one_file_are_not(tmp_path):
    mine = described(tmp_path)
    mine.refuse_namesake(None)
    mine.refuse_namesake(mine._replace(path=tmp_path / "x" / ".." / "mine.py"))
    mine.refuse_namesake(mine._replace(name="other", path=tmp_path / "other.py"))
    with pytest.raises(InputError, match=f"two plugins are called 'mine': .*elsewhere.* and {mine.path}; rename one"):
        mine.refuse_namesake(mine._replace(path=tmp_path / "elsewhere" / "mine.py"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "exactly one public Head subclass; it defines none"),
        ("class One(Head): ...\nclass Two(Head): ...", "it defines One, Two"),
        ("class Mine(Head:", "(mine.py, line 1)"),
        ("x = '\0'", "cannot be read"),
    ],
)
def test_a_file_that_is_no_plugin_says_so_in_one_line(tmp_path, source, says):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        describe(tmp_path / "mine.py")
    assert says in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no plugin file '.*nowhere\.py'"):
        describe(tmp_path / "nowhere.py")


def test_an_edited_file_is_described_anew(tmp_path):
    for margin in ("0.5", "0.7"):
        (found,) = described(tmp_path, extra=f", *, margin: float = {margin}").parameters
        assert found.default == margin
