"""The plugins ship: wheel, sdist -> wheel, checkout. Built for real, installed elsewhere, listed from there."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOSSES = {"ce", "arcface", "cosface", "sphereface", "triplet", "arcface_triplet"}


def run(*words, cwd, **env):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist of this checkout, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


def test_the_wheel_made_from_the_sdist_carries_the_plugins(built):
    wheel = next(built.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"lossbench/plugins/{loss}.py" for loss in LOSSES} <= set(names)
    assert "lossbench/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lossbench"}


def test_the_readme_renders_on_a_package_index(built):
    said = run("-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    assert said.count("PASSED") == 2, said


def test_the_sdist_is_whole(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "plugins/ce.py", "tests/test_package.py", "pyproject.toml"} <= names
    assert not any(name.startswith(("results", ".ci", ".git/")) for name in names)


def test_the_wheel_of_the_checkout_is_that_of_the_sdist(built, tmp_path):
    run("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    wheels = [zipfile.ZipFile(next(folder.glob("*.whl"))) for folder in (built, tmp_path)]
    of_sdist, of_checkout = ({name: wheel.read(name) for name in wheel.namelist()} for wheel in wheels)
    assert of_checkout == of_sdist


def test_an_installed_wheel_lists_and_builds_the_losses(built, tmp_path):
    run(
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        tmp_path / "site",
        next(built.glob("*.whl")),
        cwd=tmp_path,
    )
    env = {"PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "200"}
    where = run("-c", "import lossbench; print(lossbench.__file__)", cwd=tmp_path, **env)
    assert str(tmp_path / "site") in where
    listed = run("-m", "lossbench", "list", "losses", cwd=tmp_path, **env)
    assert all(loss in listed for loss in LOSSES)
    script = "import lossbench; print(lossbench.load_head('arcface_triplet', num_classes=3, embedding_dim=4))"
    assert "ArcFaceTriplet" in run("-c", script, cwd=tmp_path, **env)


def test_a_bare_checkout_lists_the_losses(tmp_path):
    listed = run("-m", "lossbench", "list", "losses", cwd=tmp_path, PYTHONPATH=str(ROOT), COLUMNS="200")
    assert all(loss in listed for loss in LOSSES)


def test_an_editable_install_reads_the_checkouts_plugins(tmp_path):
    target = tmp_path / "site"
    options = ("-q", "--no-deps", "--no-build-isolation", "--target", target)
    run("-m", "pip", "install", *options, "-e", ROOT, cwd=tmp_path)
    assert (target / "_lossbench.pth").read_text().strip() == str(ROOT)
