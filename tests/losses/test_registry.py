"""Where plugins are found: shipped, in folders, and in installed packages."""

import os
import site
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import FORWARD, plugin

import lossbench
from lossbench.errors import InputError
from lossbench.losses.registry import find_plugins, installed_plugins, shipped_plugins

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


def test_shipped_losses_are_listed_by_file_stem():
    files = {path.stem for path in shipped_plugins().glob("*.py")}
    assert set(lossbench.heads()) == files
    assert {"ce", "arcface", "cosface", "sphereface", "triplet", "arcface_triplet"} <= files


def test_a_folder_adds_its_plugins_but_no_private_files(tmp_path):
    path = plugin(tmp_path, "mine", FORWARD)
    (tmp_path / "_helpers.py").write_text("raise SystemExit")
    assert set(find_plugins([tmp_path])) == {*find_plugins(), "mine"}
    assert find_plugins([tmp_path])["mine"].path == Path(path)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no plugin folder '.*nowhere'; --plugins takes a folder"):
        find_plugins([tmp_path / "nowhere"])


def test_two_plugins_of_one_name_are_an_error_that_names_both(tmp_path):
    plugin(tmp_path, "arcface", FORWARD)
    with pytest.raises(InputError) as error:
        find_plugins([tmp_path])
    assert str(tmp_path / "arcface.py") in str(error.value)
    assert "plugins/arcface.py" in str(error.value)


def test_listing_runs_no_plugin_and_imports_no_torch(tmp_path):
    path = Path(plugin(tmp_path, "mine", FORWARD, ", *, margin: float = 0.1"))
    path.write_text("raise SystemExit('I was run')\n" + path.read_text())
    script = f"""
        import sys, lossbench
        assert lossbench.heads(["{tmp_path}"])["mine"].parameters[0].default == "0.1"
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        print("listed")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.stdout == "listed\n", done.stderr


def _install(folder: Path) -> None:
    """Write what an installer leaves of a package with a plugin."""
    (folder / "nearby.py").write_text(PLUGIN.read_text())
    metadata = folder / "nearby-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nearby\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[lossbench.plugins]\nnearby = nearby\n")


def test_an_unreadable_folder_on_the_path_hides_no_other(tmp_path, monkeypatch):
    closed, package = tmp_path / "closed", tmp_path / "package"
    closed.mkdir()
    package.mkdir()
    _install(package)
    scandir = os.scandir

    def refuse(folder):
        if str(folder) == str(closed):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # as root, no folder is unreadable
    monkeypatch.setattr(sys, "path", [str(closed), "", str(tmp_path / "missing"), *sys.path])
    before = installed_plugins()
    monkeypatch.setattr(sys, "path", [str(closed), str(package), *sys.path])
    assert set(installed_plugins()) == {*before, package / "nearby.py"}


def test_an_entry_point_without_a_file_is_one_line(tmp_path, monkeypatch):
    _install(tmp_path)
    (tmp_path / "nearby.py").unlink()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InputError, match=r"the installed plugin 'nearby' .* reinstall or remove its package"):
        installed_plugins()


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
