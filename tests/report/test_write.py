"""A report on disk: only of runs with the same settings, whole or as it was, and damaged files in one line."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from support import FORWARD, WORDS, bench, plugin

from lossbench.errors import InputError
from lossbench.report.write import latest_benchmark, write_report
from lossbench.results.store import load_records

FAST = ("--epochs", 1, "--image-size", 32, "--repeats", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished benchmark: two losses and untrained, one repeat."""
    return bench(tmp_path_factory.mktemp("finished"), "ce,cosface", epochs=1, repeats=1)[0]


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "orl")


@pytest.fixture
def undrawn(monkeypatch):
    """No figure but the faces: tests/report/figures/ draws the others, which take most of the time."""
    monkeypatch.setattr("lossbench.report.figures.write.FIGURES", ())


def test_other_settings_are_left_out_and_said(lossbench, tmp_path, undrawn):
    lossbench("run", "--losses", "ce", "--out", tmp_path, *FAST)
    lossbench("run", "--losses", "cosface", "--out", tmp_path, *FAST, "--lr", "0.001")
    write_report(tmp_path / "orl")
    text = (tmp_path / "orl" / "report.md").read_text()
    assert "| cosface |" in text
    assert "| ce |" not in text
    assert "2 runs with other settings in this folder are left out." in text
    assert "AT&amp;T Laboratories Cambridge" in text
    assert latest_benchmark(tmp_path) == tmp_path / "orl"


def test_the_answer_comes_first_everywhere(lossbench, tmp_path, undrawn):
    code, out, _ = lossbench("run", "--losses", "ce,ce+0.5*triplet", "--out", tmp_path, *FAST)
    assert code == 0
    sentences = json.loads((tmp_path / "orl" / "verdicts.json").read_text())["answer"]
    answer = sentences[-1]  # before it stands what one epoch has not improved
    assert answer.startswith("ce and ce+0.5*triplet cannot be compared yet (ID rate @ FPR 0.1: ")
    lines = out.splitlines()
    first = lines.index(answer)
    assert lines[first + 1].startswith("ID rate @ FPR (TAR @ FAR): ")
    assert not any("│" in line or "─" in line for line in lines[:first]), "the table comes later"
    (tmp_path / "orl" / "verdicts.json").unlink()
    code, out, _ = lossbench("report", tmp_path / "orl")
    assert f"wrote {tmp_path / 'orl' / 'verdicts.json'}" in out
    assert json.loads((tmp_path / "orl" / "verdicts.json").read_text())["answer"] == sentences
    text = (tmp_path / "orl" / "report.md").read_text()
    assert text.splitlines()[1 + len(sentences)] == "- " + answer.replace("*", "\\*")
    with (tmp_path / "orl" / "tables" / "disagreements.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert {first["loss_a"], first["loss_b"]} == {"ce", "ce+0.5*triplet"}
    page = (tmp_path / "orl" / "report.html").read_text()
    assert "Where the two best losses disagree" in page
    assert f"{first['image_1']} – {first['image_2']}" in page


def test_faces_are_shown_on_request_alone_and_taken_away_again(lossbench, folder, undrawn):
    assert lossbench("report", folder, "--faces")[0] == 0
    assert {file.name for file in folder.glob("figures/faces.*")} == {"faces.svg", "faces.png"}
    assert "Faces on which two losses disagree most" in (folder / "report.html").read_text()
    assert lossbench("report", folder)[0] == 0
    assert not list(folder.glob("figures/faces.*"))
    assert "Faces on which" not in (folder / "report.html").read_text()


def test_a_file_of_an_older_lossbench_names_what_it_trained_with(folder, undrawn):
    """There was no choice: AdamW and the cosine."""
    file = folder / "benchmark.toml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(("optimizer", "schedule"))))
    write_report(folder)
    assert "AdamW at 0.003 (cosine schedule)" in (folder / "report.md").read_text()


def test_damaged_embeddings_are_one_line(folder):
    next(folder.glob("runs/ce-*/embeddings.npz")).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match=r"\A[^\n]*embeddings.npz cannot be read[^\n]*delete the run's folder[^\n]*\Z"):
        write_report(folder)


def test_without_embeddings_all_else_is_reported(lossbench, folder):
    next(folder.glob("runs/ce-*/embeddings.npz")).unlink()
    code, out, _ = lossbench("report", folder)
    assert code == 0
    said = "1 of 3 finished runs have no embeddings.npz: the figures drawn from embeddings are left out"
    assert out.startswith(said)
    text = (folder / "report.md").read_text()
    assert text.count(said) == 1
    assert {file.stem for file in (folder / "figures").iterdir()} == {
        "accuracy_id_rate", "training_curves", "angles",
    }  # fmt: skip
    assert all((f"figures/{stem}.png" in text) == (stem == "angles") for stem in ("angles", "tpr_fpr", "query_map"))
    assert said in (folder / "report.html").read_text()
    assert "| ce | 1 |" in text


@pytest.mark.parametrize("damage", [("test_accuracy", "high"), ("tpr@0.1", [5]), ("timings", None)])
def test_a_record_with_strange_figures_is_one_line(folder, damage):
    path = next(folder.glob("runs/ce-*/run.json"))
    record = json.loads(path.read_text())
    name, value = damage
    (record if name == "timings" else record["metrics"])[name] = value
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"\A[^\n]*run.json[^\n]*delete the run's folder[^\n]*\Z"):
        write_report(folder)


def test_a_report_shows_a_changed_plugin_once(lossbench, tmp_path, undrawn):
    path = Path(plugin(tmp_path, "mine", FORWARD))
    out = tmp_path / "out"
    lossbench("run", "--losses", path, "--out", out, *WORDS)
    path.write_text(path.read_text().replace("0.1, 30.0", "0.2, 20.0"))
    lossbench("run", "--losses", path, "--out", out, *WORDS)
    assert len(load_records(out / "orl")) == 3
    assert lossbench("report", out / "orl")[0] == 0
    text = (out / "orl" / "report.md").read_text()
    assert "| mine | 1 |" in text
    assert "1 run with other settings in this folder is left out" in text


def test_each_table_is_csv_and_latex(folder, undrawn):
    write_report(folder)
    kinds = {kind: {file.stem for file in (folder / "tables").glob(f"*.{kind}")} for kind in ("csv", "tex")}
    assert kinds["csv"] == kinds["tex"] >= {"summary", "runs", "verdicts", "ranks", "disagreements"}
    for text in ((folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert all(f"tables/{stem}.{kind}" in text for kind, stems in kinds.items() for stem in stems)


def test_progress_counts_figures_and_cards(folder, undrawn):
    counted = []
    write_report(folder, on_progress=lambda done, total: counted.append((done, total)))
    assert counted == [(0, 3), (1, 3), (2, 3), (3, 3)], "no figure, and the cards of ce, cosface and untrained"


def test_progress_counts_figures_that_cannot_be_drawn(folder, monkeypatch):
    from lossbench.report.figures import write

    monkeypatch.setattr(write, "FIGURES", [one for one in write.FIGURES if one.stem in ("ranks", "sphere")])
    counted = []
    write_report(folder, on_progress=lambda done, total: counted.append((done, total)))
    assert counted[-1] == (5, 5)
