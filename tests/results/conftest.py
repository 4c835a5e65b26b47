"""A benchmark whose files tests spoil."""

import shutil

import pytest
from support import bench


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A benchmark whose records hold all there is but verification pairs; tests spoil copies of it."""
    folder, _, _ = bench(tmp_path_factory.mktemp("made"), "ce,arcface", repeats=1, track=True, deconfound=True)
    return folder


@pytest.fixture
def benchmark(made, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lossbench.report.figures.write.write_figures", lambda *_: []
    )  # drawing takes seconds each time
    return shutil.copytree(made, tmp_path / "orl")
