"""The plugin author's path as typed: new, check, run, report, passport."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from lossbench.cli.main import app
from lossbench.errors import InputError
from lossbench.losses.plugin import describe

PLANTED = Path(__file__).parents[1] / "conformance" / "planted"
SHORT = ["--epochs", "2", "--repeats", "1", "--identities", "4", "--batch-size", "8", "--image-size", "32"]


def typed(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_from_an_idea_to_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = typed("new", "my_loss")
    commands = [line.split()[1:] for line in said.splitlines() if line.startswith("  lossbench ")]
    assert commands == [["check", "./my_loss.py"], ["run", "--losses", "ce,./my_loss.py"]]
    assert len(Path("my_loss.py").read_text().splitlines()) <= 25
    checked = typed(*commands[0], "--fast")
    assert "none failed" in checked
    assert "FAIL" not in checked
    table = typed(*commands[1], *SHORT)
    assert "my_loss" in table
    assert "failed" not in table.lower()
    assert "shuffle" in table


def test_the_template_is_a_plugin_that_can_be_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed("new", "two_words")
    plugin = describe(Path("two_words.py"))
    assert plugin.name == "two_words"
    assert [p.name for p in plugin.parameters] == ["margin", "scale"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Loss", "cannot name a loss; use lower-case"),
        ("class", "cannot name a loss"),
        ("untrained", "cannot name a loss"),
        ("../sneaky", "cannot name a loss"),
        ("arcface", "is there already .*choose another name"),
        ("mine", "mine.py is there already"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_writes_nothing(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("precious")
    with pytest.raises(InputError, match=message):
        typed("new", name)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]
    assert Path("mine.py").read_text() == "precious"


def test_check_exits_1_and_names_what_failed():
    said = typed("check", str(PLANTED / "ignored_m2.py"), "--fast", code=1)
    (line,) = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert "every hyper-parameter matters" in line
    assert "m2 = 0.3" in line
    assert "1 FAILED" in said


def test_passport_writes_a_figure_and_a_table_and_flags(tmp_path):
    said = typed("passport", str(PLANTED / "no_fallback.py"), "--out", str(tmp_path))
    assert "flag: non-monotone" in said
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".png", ".svg"]
    frame = pd.read_csv(tmp_path / "passport-no_fallback.csv")
    assert list(frame["name"].unique()) == ["no_fallback", "ce", "arcface"]
    at_pi = frame[frame["degrees"] == 180].set_index("name")["loss"]
    at_150 = frame[frame["degrees"] == 150].set_index("name")["loss"]
    assert at_pi["no_fallback"] < at_150["no_fallback"]  # the bug, in the figure
    assert at_pi["arcface"] > at_150["arcface"]


def test_passport_measures_the_margin_that_is_really_applied(tmp_path):
    """The target logit of ArcFace at 60 degrees is s·cos(60 degrees + m), found from its loss alone."""
    typed("passport", "arcface", "--out", str(tmp_path))
    frame = pd.read_csv(tmp_path / "passport-arcface.csv").set_index(["name", "degrees"])
    assert frame.loc[("arcface", 60.0), "target_logit"] == pytest.approx(64 * math.cos(math.pi / 3 + 0.5), rel=1e-6)


def test_passport_of_a_loss_without_centers_is_one_line(tmp_path):
    with pytest.raises(InputError, match="'triplet' has no class centers"):
        typed("passport", "triplet", "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "losses", "--pml"], ["new", "--help"]])
def test_reading_about_plugins_imports_no_torch(arguments):
    code = (
        "import sys; from lossbench.cli.main import main; sys.argv = ['lossbench', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_degrees_are_labelled_in_the_list():
    said = typed("list", "losses", "--pml")
    assert "margin = 28.6 degrees" in said
    assert "it is self-supervised" in said
