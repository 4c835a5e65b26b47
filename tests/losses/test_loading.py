"""A plugin package, installed from a folder into an environment of its own, is an entrant like any other."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

import lossbench
from lossbench.losses.registry import shipped_plugins

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "faraway-losses"
version = "1"

[project.entry-points."lossbench.plugins"]
faraway = "faraway_losses.faraway"
"""
PLUGIN = shipped_plugins() / "cosface.py"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh virtual environment that borrows torch and the rest, with the package installed by pip, offline."""
    root = tmp_path_factory.mktemp("third")
    package = root / "source" / "faraway_losses"
    package.mkdir(parents=True)
    (root / "source" / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text("raise RuntimeError('listing plugins must not import their package')\n")
    (package / "faraway.py").write_text(PLUGIN.read_text().replace("CosFace", "Faraway"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "env"], check=True)
    python = next(p for p in (root / "env/bin/python", root / "env/Scripts/python.exe") if p.exists())
    (own,) = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
    ).stdout.split()
    (Path(own) / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", root / "source"]
    subprocess.run([*pip, *offline], check=True)
    return python, root


def run(environment, *arguments):
    python, root = environment
    code = Path(lossbench.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.run(
        [python, "-m", "lossbench", *arguments], capture_output=True, text=True, cwd=root, env=env, check=False
    )


def test_it_is_listed_without_being_imported(environment):
    done = run(environment, "list", "losses")
    assert done.returncode == 0, done.stderr
    assert "faraway" in done.stdout


def test_it_trains(environment):
    short = ["--epochs", "2", "--repeats", "1", "--identities", "4", "--batch-size", "8", "--image-size", "32"]
    done = run(environment, "run", "--losses", "ce,faraway:margin=0.2", *short)
    assert done.returncode == 0, done.stderr
    assert "faraway:margin=0.2" in done.stdout
    assert "FAILED" not in done.stdout


def test_a_second_plugin_of_its_name_is_an_error_that_names_both(environment):
    mine = environment[1] / "mine"
    mine.mkdir()
    (mine / "faraway.py").write_text(PLUGIN.read_text())
    done = run(environment, "list", "losses", "--plugins", str(mine))
    assert done.returncode == 2
    assert "two plugins are called 'faraway'" in done.stderr
    assert str(mine / "faraway.py") in done.stderr
    assert str(Path("faraway_losses") / "faraway.py") in done.stderr
