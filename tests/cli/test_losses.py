"""What a plugin author types: new, check, run, passport, list."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import FORWARD, draw_face, network, plugin
from typer.testing import CliRunner

from lossbench.cli.main import app
from lossbench.errors import InputError

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
    checked = typed(*commands[0], "--fast")
    assert "none failed" in checked
    assert "FAIL" not in checked
    table = typed(*commands[1], *SHORT)
    assert "my_loss" in table
    assert "failed" not in table.lower()
    assert "shuffle" in table


def test_from_a_network_to_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = typed("new", "--backbone", "my_net")
    commands = [line.split()[1:] for line in said.splitlines() if line.startswith("  lossbench ")]
    assert commands == [["check", "--backbone", "./my_net.py"], ["run", "--backbone", "./my_net.py"]]
    assert "my_net: 13 properties hold, 0 skipped, none failed" in typed(*commands[0])
    typed(*commands[1], "--losses", "ce", *SHORT)
    typed("report", "results/orl")
    assert "Backbone my_net, 32 px, embeddings of 128;" in Path("results/orl/report.md").read_text()
    run = next(Path("results/orl/runs").glob("ce-*"))
    faces = tmp_path / "faces" / "someone"
    faces.mkdir(parents=True)
    for seed in range(3):
        draw_face(seed)[0].save(faces / f"{seed}.png")
    with pytest.raises(InputError, match="was trained with a network of your own, my_net; name its file with --back"):
        typed("embed", str(run), "faces")
    assert "embeddings [3, 128]" in typed("embed", str(run), "faces", "--backbone", "./my_net.py")
    twice = faces.with_name("other")
    shutil.copytree(faces, twice)
    assert "wrote" in typed("evaluate", str(run), "--data", "faces", "--backbone", "./my_net.py")


def test_check_of_a_network_exits_1_and_names_what_failed(tmp_path):
    path = network(
        tmp_path, ("        self.dropout =", "        self.unused = nn.Linear(2, 2)\n        self.dropout =")
    )
    said = typed("check", "--backbone", path, code=1)
    (line,) = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert "none reaches 2 of 18 parameter tensors: unused.weight, unused.bias" in line
    with pytest.raises(
        InputError, match=r"my_net\.py must .* Head subclass; it defines Block, Net; a network is named with --backb"
    ):
        typed("check", path)
    with pytest.raises(InputError, match="takes num_classes, as a loss does"):
        typed("check", "--backbone", str(PLANTED / "ignored_m2.py"))


@pytest.mark.parametrize("words", [("--fast",), ("--plugins", "folder")])
def test_check_of_a_network_refuses_what_only_losses_take(words):
    with pytest.raises(
        InputError, match=rf"\A{words[0]} is for losses, and --backbone checks a network; leave out one"
    ):
        typed("check", "--backbone", "tiny", *words)


def test_a_name_that_is_taken_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"a loss called 'arcface' exists already \(.*arcface.py\); choose another name"
    ):
        typed("new", "arcface")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(("name", "code"), [("degrees", 1), ("../../../plugins/arcface", 0)])
def test_the_document_of_check_holds_every_property(lossbench, name, code):
    ended, out, err = lossbench("check", "--fast", (PLANTED / f"{name}.py").resolve(), "--json")
    found = json.loads(out)
    assert ended == code
    assert found["name"] == Path(name).name
    statuses = [one["status"] for one in found["properties"]]
    assert (found["passed"], found["failed"], found["skipped"]) == tuple(map(statuses.count, ("pass", "fail", "skip")))
    assert bool(found["failed"]) == bool(code)
    assert all(one["figure"] in err for one in found["properties"])


def test_passport_of_a_loss_without_centers_is_one_line(tmp_path):
    with pytest.raises(InputError, match="'triplet' has no class centers"):
        typed("passport", "triplet", "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def imports_no_torch(arguments, code):
    """Run the command in a process of its own and return what it writes to stderr."""
    script = (
        "import sys; from lossbench.cli.main import main; sys.argv = ['lossbench', *sys.argv[1:]]\n"
        f"try: main()\nexcept SystemExit as e: assert (e.code or 0) == {code}, e.code\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "losses", "--pml"], ["new", "--help"]])
def test_reading_about_plugins_imports_no_torch(arguments):
    imports_no_torch(arguments, 0)


@pytest.mark.parametrize("arguments", [["run", "--losses"], ["check"], ["passport"]])
def test_an_impossible_value_is_one_line_before_torch_is_imported(arguments):
    said = imports_no_torch([*arguments, "arcface:scale=-1"], 2)
    assert said == "error: arcface's scale is -1; it must be above 0 (default 64)\n"


@pytest.mark.parametrize("arguments", [["check", "{file}"], ["list", "losses", "--plugins", "{folder}"]])
def test_broken_ranges_are_one_line(tmp_path, arguments):
    file = plugin(tmp_path, "mine", '    ranges = "margin < -1"\n' + FORWARD, ", *, margin: float = 0.5")
    with pytest.raises(
        InputError, match=r"\A[^\n]*mine.py has ranges .* 'margin < -1' excludes the default, 0.5; write"
    ):
        typed(*(word.format(file=file, folder=tmp_path) for word in arguments))


def test_the_list_shows_defaults_and_ranges_as_declared():
    lines = typed("list", "losses").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  arcface "))
    assert lines[at + 1].strip() == "margin: float = 0.5  scale: float = 64.0"
    assert lines[at + 2].strip() == "ranges: 0 <= margin < pi, scale > 0"


def test_degrees_are_labelled_in_the_list():
    said = typed("list", "losses", "--pml")
    assert "margin: number (degrees) = 28.6" in said
    assert "it is self-supervised" in said
