"""Figures as files: SVG and PNG, whose bytes repeat, whole or as they were."""

import io

import pytest
from PIL import Image
from support import STUDY, small_disk

from lossbench.report.figures import write
from lossbench.report.figures.look import WIDTH
from lossbench.report.figures.write import write_figures
from lossbench.report.theme import DPI
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts


def test_figures_are_files_whose_text_is_text_and_whose_bytes_repeat(study, tmp_path, monkeypatch):
    written = write_figures(study, [], tmp_path)
    names = [stem for stem, _ in written]
    assert names == ["tpr_fpr", "similarities", "training_curves", "angles", "query_map"], "nothing is compared"
    assert all(caption.endswith(".") for _, caption in written)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert b">a:tag=$x$<" in before["angles.svg"]
    for name in names:
        with Image.open(io.BytesIO(before[f"{name}.png"])) as image:
            assert image.size[0] == WIDTH * DPI
    monkeypatch.setattr(write, "FIGURES", write.FIGURES[:1])
    write_figures(study, [], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    fewer = Study(study.records[:2], {})
    with small_disk(2000), pytest.raises(OSError, match="File too large"):
        write_figures(fewer, [], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_figure_that_has_nothing_to_show_any_more_is_removed(study, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "FIGURES", [one for one in write.FIGURES if one.stem in ("ranks", "sphere")])
    old = [tmp_path / f"{stem}.{kind}" for stem in ("ranks", "sphere", "faces") for kind in ("svg", "png")]
    for path in (*old, tmp_path / "mine.svg"):
        path.touch()
    without = Study(tuple({**record, "folder": "gone"} for record in study.records), {})
    assert write_figures(without, [], tmp_path) == []
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"sphere.svg", "sphere.png", "mine.svg"}, "the embeddings of a sphere may be elsewhere"
    assert write_figures(study, [], tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {"mine.svg"}


def test_nobody_unseen_leaves_what_the_records_tell(study, tmp_path):
    alone = Study(tuple({**record, "people": {"query": 0, "test": 9}} for record in study.records), {})
    assert [stem for stem, _ in write_figures(alone, [], tmp_path)] == ["training_curves", "angles"]


def test_figures_of_verdicts_come_after_the_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "FIGURES", [one for one in write.FIGURES if one.stem in ("ranks", "accuracy_id_rate")])
    placed = Study(tuple({**record, "folder": str(tmp_path)} for record in STUDY.records), {})
    assert [stem for stem, _ in write_figures(placed, verdicts(placed), tmp_path)] == ["ranks", "accuracy_id_rate"]


def test_without_a_finished_run_nothing_is_drawn(study, tmp_path):
    failed = Study(tuple({**record, "status": "failed", "metrics": {}} for record in study.records), {})
    assert [stem for stem, _ in write_figures(failed, [], tmp_path)] == []
