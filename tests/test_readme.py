"""The README's commands and code, executed as written (as far as a test can: installing is .ci/run's work)."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(name):
    found = re.search(rf"<!-- {name} -->\n(?:```\w*\n)?(.*?)(?:```\n)?<!-- end -->", README, re.DOTALL)
    assert found, name
    return found[1].strip()


FAST = ["--epochs", "1", "--image-size", "32", "--repeats", "1"]


def test_the_main_command_runs_as_written(lossbench, tmp_path, monkeypatch):
    """Everything after the installation, with fewer epochs so that it takes seconds."""
    monkeypatch.chdir(tmp_path)
    make, install, run, report = block("main command").split(" && ")
    assert make == "python3 -m venv .venv"
    assert install == ".venv/bin/pip install ."
    assert run.startswith(".venv/bin/lossbench run --losses ce,arcface,cosface")
    assert lossbench(*shlex.split(run)[1:], *FAST)[0] == 0
    assert lossbench(*shlex.split(report)[1:])[0] == 0
    assert (tmp_path / "results" / "orl" / "report.md").is_file()


def test_the_ten_line_plugin_runs_as_written(lossbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = block("plugin")
    (tmp_path / "normal.py").write_text(source)
    code, out, _ = lossbench(*shlex.split(block("plugin command"))[1:], *FAST)
    assert code == 0
    assert "normal:scale=16.0" in out


def test_the_tutorial_runs_as_written(lossbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in block("tutorial").splitlines()]
    for command in commands[:-1]:
        assert lossbench(*command)[0] == 0
    code, out, _ = lossbench(*commands[-1], *FAST)
    assert code == 0
    assert "arcface+0.5*triplet" in out


def test_own_faces_run_as_written(lossbench, tmp_path, monkeypatch, orl):
    monkeypatch.chdir(tmp_path)
    for name, file in list(zip(orl.names, orl.files, strict=True))[:80]:
        target = tmp_path / "photos" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    prepare, check, run = (shlex.split(line)[1:] for line in block("own faces").replace("\\\n", "").splitlines())
    assert lossbench(*prepare)[0] == 0
    assert lossbench(*check)[0] == 0
    code, out, err = lossbench(*run, *FAST)
    assert code == 0, err
    assert "my_faces: one repeat" in out


def test_ci_runs_the_readmes_test_command():
    assert block("test command") == (
        "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest"
    )
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()


def test_the_table_is_that_of_the_published_report():
    table = block("table")
    assert table.count("\n") >= 8
    words = ["git", "-C", str(ROOT), "show", ":results/orl/report.md"]  # the main command may have written its own
    assert table in subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert link.startswith("https://") or (ROOT / link).exists()


@pytest.mark.parametrize("word", sorted(set(re.findall(r"(--[a-z][a-z-]+)", README)) - {"--help"}))
def test_options_that_are_named_exist(lossbench, word):
    commands = (["run"], ["report"], ["list"], ["check"], ["data", "prepare", "folder"], ["data", "prepare", "bin"])
    assert any(word in lossbench(*command, "--help")[1] for command in commands)


def test_the_published_figures_show_no_face():
    """Figures are drawn from numbers; a photograph would have many more colours than a plot's palette."""
    files = list((ROOT / "results" / "orl" / "figures").glob("*.png"))
    assert len(files) >= 5
    for file in files:
        with Image.open(file) as image:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(-1, 3)
        white = (pixels == 255).all(1).float().mean()
        assert white > 0.5, file.name
