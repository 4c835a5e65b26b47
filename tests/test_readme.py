"""The README's commands and code, executed as written; only .ci/run installs. And the facts of CONTRIBUTING."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from lossbench.config import Config
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import spelled_out

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def block(name):
    found = re.search(rf"<!-- {name} -->\n(?:```\w*\n)?(.*?)(?:```\n)?<!-- end -->", README, re.DOTALL)
    assert found, name
    return found[1].strip()


FAST = ["--epochs", "1", "--image-size", "32", "--repeats", "1"]


def test_the_main_command_runs_as_written(lossbench, tmp_path, monkeypatch):
    """Everything after the installation, with fewer epochs to save time."""
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


def test_two_tasks_of_the_array_do_each_run_once(lossbench, tmp_path):
    """As SLURM starts them, with one loss, less training and one run of two left, to save time."""
    script, folder = block("sbatch"), tmp_path / "bin"
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert "--losses ce,arcface,cosface" in script
    folder.mkdir()
    (folder / "lossbench").write_text(f'#!/bin/sh\nexec {sys.executable} -m lossbench "$@" {" ".join(FAST)}\n')
    (folder / "lossbench").chmod(0o755)
    (tmp_path / "job.sh").write_text(script.replace("ce,arcface,cosface", "ce"))
    words = ("--losses", "ce", "--threads", 1, "--out", tmp_path / "results", *FAST)
    assert lossbench("run", "--once", *words)[0] == 0
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(ROOT)}
    tasks = [
        subprocess.Popen(
            ["bash", "job.sh"], cwd=tmp_path, env={**os.environ, **given, "SLURM_ARRAY_TASK_ID": str(number)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in (1, 2)
    ]  # fmt: skip
    outs = [task.communicate(timeout=300)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outs
    assert "".join(outs).count("ce · repeat 1/1 · test accuracy") == 1
    assert "nothing is left to do: all 2 runs are complete" in "".join(outs)
    runs = [json.loads(file.read_text()) for file in tmp_path.glob("results/orl/runs/*/run.json")]
    assert sorted((run["entrant"], run["status"]) for run in runs) == [("ce", "finished"), ("untrained", "finished")]


def test_ci_runs_the_readmes_test_command():
    assert block("test command") == (
        "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest"
    )
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()


PUBLISHED = ("orl", "celeba200")


def published(name):
    """A file of a published benchmark as git has it: the main command may have overwritten it in the clone."""
    words = ["git", "-C", str(ROOT), "show", f":results/{name}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_figures_of_a_published_benchmark_are_those_of_its_report(name):
    said = re.findall(r"\d\.\d{3}", block(name))
    assert len(said) >= 6
    assert [number for number in said if number not in published(f"{name}/report.md")] == []


def test_the_command_beside_the_benchmark_is_the_one_that_made_it():
    said = re.search(r"made by `lossbench run --losses (\S+) --threads (\d+)` and `lossbench report`", README)
    settings, usual = tomllib.loads(published("orl/benchmark.toml")), asdict(Config().resolved())
    unusual = {name: value for name, value in settings.items() if name in usual and value != usual[name]}
    unusual.pop("device", None)  # auto, where there is no GPU
    assert unusual == {"losses": spelled_out(said[1], find_plugins()), "threads": int(said[2])}


def test_the_number_of_losses_is_that_of_the_list():
    assert f"{len(find_plugins())} losses are" in README


def test_a_newcomer_reads_one_page():
    assert len(README.splitlines()) <= 182


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert link.startswith("https://") or (ROOT / link).exists()


OPTIONS = set(re.findall(r"(--[a-z][a-z-]+)", re.sub("#SBATCH.*|torchrun [^`]* -m", "", README))) - {"--help"}


@pytest.mark.parametrize("word", sorted(OPTIONS))
def test_options_that_are_named_exist(lossbench, word):
    commands = (["run"], ["report"], ["list"], ["check"], ["data", "prepare", "folder"], ["data", "prepare", "bin"])
    assert any(word in lossbench(*command, "--help")[1] for command in commands)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("check", "central differences"),
        ("passport", "degrees taken for radians"),
        ("evaluate", "LFW's protocol"),
        ("embed", "not normalised"),
        ("data check", "near-duplicates"),
        ("data cache", "LOSSBENCH_CACHE"),
        ("data prepare", ".webp"),
        ("data prepare bin", "no code in it is ever executed"),
    ],
)
def test_reference_that_left_the_readme_is_in_the_help(lossbench, command, says):
    assert says in " ".join(lossbench(*command.split(), "--help")[1].split())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figures_show_no_face(name):
    """Figures are drawn from numbers; a photograph would have many more colours than a plot's palette."""
    files = list((ROOT / "results" / name / "figures").glob("*.png"))
    assert len(files) >= 5
    for file in files:
        with Image.open(file) as image:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(-1, 3)
        white = (pixels == 255).all(1).float().mean()
        assert white > 0.5, file.name


def test_contributing_names_every_room_and_the_contract_that_holds():
    rooms = {path.parent.name for path in (ROOT / "lossbench").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", CONTRIBUTING, re.MULTILINE)) == rooms
    said = re.search(r"^    (cli -> .*?)\n\n", CONTRIBUTING, re.MULTILINE | re.DOTALL)[1].split("->")
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    held = [layer.replace("lossbench.", "") for layer in contract["layers"][1:]]  # above all stands __main__
    assert [" ".join(layer.split()) for layer in said] == held


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([\w/]+\.py)`", CONTRIBUTING))))
def test_files_that_contributing_names_exist(file):
    assert any((ROOT / place / file).is_file() for place in (".", "lossbench", "tests/perf"))
