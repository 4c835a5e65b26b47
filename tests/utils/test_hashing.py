"""Fingerprints of source: comments and docstrings change nothing, code does."""

import ast
from pathlib import Path

import pytest

import lossbench
from lossbench.utils.hashing import code_fingerprint, code_of

SOURCE = '''"""A module."""

import math  # of the library


class A:
    """A class.

    Of many lines.
    """

    text = "# no comment"
    words = """no
docstring"""  # but a comment
    parts = (
        "one"  # first
        "two"
    )
    names = f"""{words}\x20\x20
of {parts}"""  # two lines

    def f(self, x):  # one
        """Say ä."""; y = "ü"
        # two
        return x + math.pi, y
'''


def test_comments_docstrings_and_blank_lines_are_left_out_and_nothing_else():
    code = code_of(SOURCE)
    assert [line for line in code.split("\n") if "#" in line] == ['    text = "# no comment"']
    assert "A module" not in code
    assert "Of many lines" not in code
    assert "Say" not in code
    assert 'words = """no\ndocstring"""' in code
    assert '; y = "ü"' in code


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("# two", "# three"),
        SOURCE.replace("Of many lines.", "Of two lines.\n\n    And another."),
        SOURCE.replace("# first", "# of two"),
        SOURCE.replace('"one"  # first', '"one"'),
        SOURCE.replace('"one"  # first\n', '"one"\n        # and\n\n'),
        SOURCE.replace("  # two lines", ""),
        SOURCE.replace("import math  # of the library\n", "import math\n\n\n"),
    ],
)
def test_what_only_a_reader_sees_changes_no_fingerprint(tmp_path, other):
    assert fingerprint(tmp_path, SOURCE) == fingerprint(tmp_path, other)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("math.pi", "math.e"),
        SOURCE.replace("no comment", "comment"),
        SOURCE.replace('"two"', '"three"'),
        SOURCE.replace("{words}  \n", "{words}\n"),
    ],
)
def test_code_changes_the_fingerprint(tmp_path, other):
    assert fingerprint(tmp_path, SOURCE) != fingerprint(tmp_path, other)


def test_a_module_of_another_name_is_another(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    assert code_fingerprint([tmp_path / "a.py"], tmp_path) != code_fingerprint([tmp_path / "b.py"], tmp_path)


def fingerprint(folder, source):
    (folder / "module.py").write_text(source, encoding="utf-8")
    return code_fingerprint([folder / "module.py"], folder)


def test_the_code_that_is_left_computes_the_same():
    """Every module of ours, with docstrings taken away by ast on both sides."""

    def bare(source):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                del node.body[0]
        return ast.dump(tree)

    compared = 0
    for file in Path(lossbench.__file__).parent.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        try:
            code = ast.parse(code_of(source))
        except SyntaxError:  # a function that is a docstring alone has no body left
            continue
        assert ast.dump(code) == bare(source), file
        compared += 1
    assert compared > 80
