"""evaluate as a command: what it says, the files it writes, and bad input in one line."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import TREE_WORDS, run_of

from lossbench.results.metric_fields import own_fprs


def test_a_folder_per_person_with_pairs_and_known_people(lossbench, trained, tree, tmp_path):
    (tmp_path / "pairs.txt").write_text("2\t1\np0\t0\t1\np0\t0\tp1\t1\np1\t2\t3\np2\t0\tp3\t1\n")
    arguments = ("--data", tree / "train", "--pairs", tmp_path / "pairs.txt", "--flip", "--out", tmp_path / "e.json")
    code, out, err = lossbench("evaluate", run_of(trained, "ce"), *arguments)
    assert (code, err) == (0, "")
    assert "note: 4 names also occur in the training set of ce r0 (p0, p1, p2, ...); if they are the same people" in out
    (found,) = json.loads((tmp_path / "e.json").read_text())
    assert found["metrics"]["verification_same"] == 2
    assert found["metrics"]["positives"] == 4 * 15


def test_known_people_of_any_run_are_pointed_out(lossbench, orl, tmp_path):
    """Each repeat has another fold: whom one has not seen, another was trained on."""
    assert lossbench("run", *TREE_WORDS[:-1], 2, "--data", "orl", "--out", tmp_path)[0] == 0
    for row in orl.split(0).query.rows:
        target = tmp_path / "people" / orl.names[row]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(orl.files[row], target)
    code, out, _ = lossbench("evaluate", tmp_path / "orl", "--data", tmp_path / "people")
    assert code == 0
    assert "names also occur in the training sets of ce r1, triplet r1 (s" in out
    assert re.search(
        r"^(ce is|triplet is|No loss is) ahead of (ce|triplet|another) in ID rate @ FPR 0\.1", out, re.MULTILINE
    )
    assert "people: ce, triplet compared" in out
    assert out.count("ce − triplet") == 2, "at FPR 0.1 and 0.01"
    code, out, _ = lossbench("evaluate", *(tmp_path / "orl" / "runs").glob("*-r0-*"), "--data", tmp_path / "people")
    assert code == 0
    assert "note" not in out
    assert " cannot be compared yet (ID rate @ FPR 0.1: " in out
    assert "compared\n" not in out, "no table"
    (untrained,) = (tmp_path / "orl" / "runs").glob("untrained-r1-*")
    for run in (untrained, os.path.relpath(untrained)):
        code, out, _ = lossbench("evaluate", untrained, run, "--data", tmp_path / "people")
        assert (code, out.count("untrained r1")) == (0, 1)
        assert "note" not in out


def test_bad_input_is_one_line(lossbench, trained, tree, tmp_path):
    (tmp_path / "empty").mkdir()
    run = run_of(trained, "ce")
    for words, says in [
        (("evaluate", tmp_path / "empty", "--data", tree), "no finished run"),
        (("evaluate", run, "--data", tmp_path / "nowhere"), "no folder"),
        (("evaluate", run, "--data", tmp_path / "empty"), "holds 0 people"),
        (("evaluate", run, "--data", tree.parent), "--data takes DIR/PERSON/FILE"),
        (("evaluate", trained.parent, "--data", tree), f"holds benchmarks, not runs; name one: {trained}"),
        (("evaluate", run, "--data", tree, "--flip"), "--pairs"),
        (("evaluate", run, "--data", tree, "--backbone", "./my_net.py"), "is no file of your own; drop it"),
        (("evaluate", run, "--data", tree, "--out", run / "run.json"), "is a run's own file; choose another place"),
        (("evaluate", run, "--data", tree, "--out", tmp_path), "it is a folder"),
        (("evaluate", run, "--data", tree, "--out", run / "run.json" / "x.json"), "a file is in the way"),
    ]:
        code, _, err = lossbench(*words)
        assert code == 2
        assert says in err
        assert len(err.splitlines()) == 1


def test_a_damaged_run_is_left_out_and_said(lossbench, trained, tree, tmp_path):
    weights = run_of(trained, "ce") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    code, out, err = lossbench("evaluate", trained, "--data", tree, "--out", tmp_path / "e.json")
    assert code == 1
    assert "triplet r0" in out
    assert err.startswith(f"error: left out: {weights} is damaged (")
    assert err.count("\n") == 1
    assert [one["entrant"] for one in json.loads((tmp_path / "e.json").read_text())] == ["triplet", "untrained"]
    code, _, err = lossbench("evaluate", run_of(trained, "ce"), "--data", tree)
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("delete the run's folder and run its command again, which trains only this run\n")
    record = run_of(trained, "triplet") / "run.json"
    record.write_text(record.read_text()[:300])
    code, out, err = lossbench("evaluate", trained, "--data", tree)
    assert code == 1
    assert "untrained r0" in out
    assert [line.partition(" (")[0] for line in err.splitlines()] == [
        f"error: left out: {record} cannot be read",
        f"error: left out: {weights} is damaged",
    ]
    for record in trained.glob("runs/*/run.json"):
        record.write_text("{")
    code, _, err = lossbench("evaluate", trained, "--data", tree)
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be read" in err


def test_the_document_of_evaluate_holds_what_its_files_hold(lossbench, trained, tree):
    weights = run_of(trained, "ce") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    code, out, err = lossbench("evaluate", trained, "--data", tree, "--json", "-q")
    assert code == 1
    found = json.loads(out)
    assert found.keys() == {"answer", "runs", "left_out"}
    assert [(one["entrant"], one["repeat"]) for one in found["runs"]] == [("triplet", 0), ("untrained", 0)]
    for one in found["runs"]:
        (file,) = Path(one["run"]).glob("evaluations/*.json")
        assert json.loads(file.read_text()) == one
    (reason,) = found["left_out"]
    assert reason.startswith(f"{weights} is damaged (")
    assert all(sentence in err for sentence in found["answer"])
    assert "models: " not in err, "no progress"
    code, out, err = lossbench("evaluate", run_of(trained, "ce"), "--data", tree, "--json")
    assert (code, out) == (2, "")


def test_another_way_of_measuring_replaces_no_figures(lossbench, trained, tree, lists):
    run, pairs = run_of(trained, "ce"), ("--pairs", lists[0])
    before = set(run.glob("evaluations/*.json"))
    for options in ((), ("--flip",), ("--flip",)):
        assert lossbench("evaluate", run, "--data", tree, *pairs, *options)[0] == 0
    plain, mirrored = sorted(set(run.glob("evaluations/*.json")) - before, key=lambda file: file.stat().st_mtime)
    assert [json.loads(file.read_text())["flip"] for file in (plain, mirrored)] == [False, True]


def test_operating_points_are_chosen_and_thin_ones_marked(lossbench, trained, tree, tmp_path):
    words = ("evaluate", run_of(trained, "ce"), "--data", tree, "--out", tmp_path / "e.json")
    code, out, _ = lossbench(*words, "--fpr", "0.01,0.2,0.05")
    assert code == 0
    header = next(line for line in out.splitlines() if "ID rate @ FPR 0.2" in line)
    cells = [cell.strip() for cell in header.strip("┃").split("┃")]
    assert cells[1:4] == ["ID rate @ FPR 0.2", "@ 0.05 †", "@ 0.01"], "80 negatives: 16 and 4 above, and none"
    assert "so few pairs decide it: ID rate @ FPR 0.05 (4)\n" in out
    assert "(TAR @ FAR)" in out
    (found,) = json.loads((tmp_path / "e.json").read_text())
    assert own_fprs(found["metrics"]) == (0.2, 0.05, 0.01)
    assert found["metrics"]["tpr@0.01"] is None
    assert own_fprs(found["spread_over_people"]) == (0.2, 0.05, 0.01)
    record = json.loads((run_of(trained, "ce") / "run.json").read_text())
    assert found["metrics"]["tpr@0.05"] == record["metrics"]["tpr@0.05"], "the run's own people, at the usual points"


def test_the_table_shows_what_the_file_holds(lossbench, trained, tree, tmp_path):
    """± is 1.96 standard deviations over resampled people; the model is untrained, so that figures are not all 1."""
    words = ("evaluate", run_of(trained, "untrained"), "--data", tree / "train", "--out", tmp_path / "e.json")
    code, out, _ = lossbench(*words)
    assert code == 0
    (found,) = json.loads((tmp_path / "e.json").read_text())
    metrics, spread = found["metrics"], found["spread_over_people"]
    rows = {
        line[0]: [cell.strip() for cell in line[1:-1].split(line[0])] for line in out.splitlines() if line[0] in "┃│"
    }
    shown = dict(zip(rows["┃"], rows["│"], strict=True))
    rate, half = metrics["tpr@0.1"], 1.96 * spread["tpr@0.1"]
    assert 0 < half < 1
    assert shown["ID rate @ FPR 0.1"] == f"{rate:.3f} ± {half:.3f}"
    assert (shown["MAP@R"], "map_at_r" in spread) == (f"{metrics['map_at_r']:.3f}", False)
    assert (shown["@ 0.001"], metrics["tpr@0.001"]) == ("–", None), "216 negatives do not support it"


def test_runs_of_one_name_are_told_apart_by_their_folders(lossbench, trained, tree, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run_of(trained, "ce"), other / "runs" / "ce")
    shutil.copytree(run_of(trained, "ce"), other / "runs" / "again")
    one, two = run_of(trained, "ce"), run_of(trained, "triplet")
    words = "--data", tree, "--out", tmp_path / "e.json"
    code, out, err = lossbench("evaluate", one, two, other / "runs" / "ce", *words)
    assert (code, err) == (0, "")
    names = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert names == [f"ce r0 ({one.parent.parent})", "triplet r0", f"ce r0 ({other})"]
    code, out, _ = lossbench("evaluate", one, other, *words)
    names = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert sorted(names) == sorted(
        [f"ce r0 ({one.parent.parent})", *(f"ce r0 ({other / 'runs' / name})" for name in ("ce", "again"))]
    )


@pytest.fixture
def lists(tree, tmp_path):
    """Two verification lists of ORL people, from image folders of their own, and a list of their own tree."""
    for name, people in {"lfw": ("p4", "p5"), "cfp": ("p6", "p7")}.items():
        part = "query" if name == "lfw" else "distractors"
        for person in people:
            shutil.copytree(tree / part / person, tmp_path / name / person)
        a, b = people
        (tmp_path / name / "pairs.txt").write_text(
            f"2\t2\n{a}\t0\t1\n{a}\t0\t2\n{a}\t0\t{b}\t1\n{a}\t1\t{b}\t0\n"
            f"{b}\t0\t1\n{b}\t2\t3\n{a}\t2\t{b}\t3\n{a}\t3\t{b}\t2\n"
        )
    return [tmp_path / "lfw" / "pairs.txt", tmp_path / "cfp" / "pairs.txt"]


def cells_of(out, title):
    """Return the rows of a printed table, each as the texts of its cells."""
    lines = out[out.index(title) :].splitlines()
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith("└"))]
    return [[cell.strip() for cell in line[1:-1].split(line[0])] for line in lines if line[:1] in ("┃", "│")]


def test_lists_stand_side_by_side_each_as_if_it_were_alone(lossbench, trained, lists, tmp_path):
    both = [word for path in lists for word in ("--pairs", path)]
    code, out, err = lossbench("evaluate", trained, *both, "--flip", "--out", tmp_path / "both.json")
    assert (code, err) == (0, "")
    headers, *rows = cells_of(out, "verification pairs")
    assert headers == ["run", "lfw", "cfp"]
    assert "lfw: 4 pairs of one person, 4 of two; 2 folds, 8 images; too few pairs of two people for TAR" in out
    found = json.loads((tmp_path / "both.json").read_text())
    assert [row[0] for row in rows] == ["ce r0", "triplet r0", "untrained r0"]
    assert [one["metrics"] for one in found] == [{}, {}, {}], "no unseen people were named"
    for name, path in zip(("lfw", "cfp"), lists, strict=True):
        assert lossbench("evaluate", trained, "--pairs", path, "--flip", "--out", tmp_path / "one.json")[0] == 0
        alone = json.loads((tmp_path / "one.json").read_text())
        assert [one["pairs"][name] for one in found] == [one["pairs"][name] for one in alone]
        assert [one["pairs"][name] for one in alone] == [one["metrics"] for one in alone]
        for one, row in zip(found, rows, strict=True):
            figures = one["pairs"][name]
            deviation = figures["verification_standard_error"] * 2**0.5
            assert row[headers.index(name)] == f"{figures['verification_accuracy']:.4f} ± {deviation:.4f}"


def test_lists_beside_unseen_people_have_a_table_of_their_own(lossbench, trained, tree, lists):
    both = [word for path in lists for word in ("--pairs", path)]
    code, out, _ = lossbench("evaluate", run_of(trained, "ce"), "--data", tree, *both)
    assert code == 0
    assert cells_of(out, "verification pairs")[0] == ["run", "lfw", "cfp"]
    assert cells_of(out, "faces: ")[0][1] == "ID rate @ FPR 0.1 †"
    assert "accuracy over folds" not in cells_of(out, "faces: ")[0]
    code, out, _ = lossbench("evaluate", run_of(trained, "ce"), "--data", tree, *both[:2])
    assert "accuracy over folds" in cells_of(out, "faces: ")[0], "a single list, as before"
    assert "verification pairs" not in out
    (folder,) = run_of(trained, "ce").glob("evaluations")
    assert len(list(folder.glob("faces-*.json"))) == 2, "of two lists, and of one"
    assert lossbench("evaluate", run_of(trained, "ce"), *both)[0] == 0
    assert len(list(folder.glob("lfw+cfp-*.json"))) == 1


def test_lists_that_cannot_be_told_apart_or_nothing_to_measure_are_one_line(lossbench, trained, lists, tmp_path):
    shutil.copytree(lists[0].parent, tmp_path / "again" / "lfw")
    other = tmp_path / "again" / "lfw" / "pairs.txt"
    run = run_of(trained, "ce")
    for words, says in [
        (("--pairs", lists[0], "--pairs", other), f"--pairs {lists[0]} and --pairs {other} are both called 'lfw'"),
        ((), "nothing to measure: name unseen people with --data, verification pairs with --pairs, or templates"),
        (("--flip",), "--flip applies to verification pairs and templates only"),
        (("--pairs", lists[0], "--fpr", "0.01"), "--fpr 0.01 applies to unseen people and templates only; add --data"),
    ]:
        code, _, err = lossbench("evaluate", run, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_templates_are_listed_as_ijb_ships_them_or_with_people(lossbench, trained, tree, tmp_path):
    images = [(p, i) for p in ("p4", "p5") for i in range(4)]
    (tmp_path / "tid_mid.txt").write_text("".join(f"{p}/{i}.jpg {p[1]}{i // 2} {i}\n" for p, i in images))
    (tmp_path / "label.txt").write_text("40 41 1\n50 51 1\n40 50 0\n40 51 0\n41 50 0\n41 51 0\n")
    words = ["evaluate", run_of(trained, "ce"), "--out", tmp_path / "e.json", "--fpr", "0.5,0.01"]
    lists = ["--template-pairs", tmp_path / "label.txt", "--template-images", tree / "query"]
    code, out, err = lossbench(*words, "--templates", tmp_path / "tid_mid.txt", *lists)
    assert (code, err) == (0, "")
    headers, row = cells_of(out, "templates: label")
    (found,) = json.loads((tmp_path / "e.json").read_text())
    assert headers == ["run", "TAR @ FAR 0.5 †", "@ 0.01"]
    assert row == ["ce r0", f"{found['metrics']['template_tar@0.5']:.3f}", "–"]
    assert "4 templates: 8 media, 8 images; 2 same-person pairs, 4 different-person pairs, which support no FAR" in out
    assert "no ±: the list does not say who is on each template" in out
    rows = "".join(f"{p}/{i}.jpg,{p[1]}{i // 2},{i},{p}\n" for p, i in images)
    (tmp_path / "t.csv").write_text(f"image,template,media,person\n{rows}")
    code, out, _ = lossbench(*words, "--templates", tmp_path / "t.csv", *lists, "--data", tree, "--template-norms")
    assert code == 0
    assert "4 templates of 2 people: " in out
    assert out.count("± is 1.96 standard deviations over resamples of these people") == 2
    (found,) = json.loads((tmp_path / "e.json").read_text())
    assert {"tpr@0.5", "template_tar@0.5"} <= found["spread_over_people"].keys()
    for given, says in [
        (["--templates", tmp_path / "t.csv"], "--templates needs --template-pairs, the other of the two lists"),
        (lists[:2], "--template-pairs needs --templates"),
        (["--data", tree, *lists[2:]], f"--template-images {tree / 'query'} applies to templates only"),
        (["--data", tree, "--template-norms"], "--template-norms applies to templates only"),
        (["--templates", tmp_path / "t.csv", *lists[:2]], "name the folder of the images with --template-images"),
    ]:
        code, _, err = lossbench(*words, *given)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_embeddings_from_elsewhere_stand_beside_the_run_and_say_what_it_says(lossbench, trained, tree, lists, tmp_path):
    """Those that the run itself gives; without some, every model is measured without these."""
    run = run_of(trained, "ce")
    assert lossbench("embed", run, tmp_path, "--out", tmp_path / "whole.npz")[0] == 0
    both = [word for path in lists for word in ("--pairs", path)]
    words = ("evaluate", run, tmp_path / "whole.npz", "--data", tree, *both)
    code, out, err = lossbench(*words, "--out", tmp_path / "e.json")
    assert (code, err) == (0, "")
    own, other = json.loads((tmp_path / "e.json").read_text())
    assert other["run"] == str(tmp_path / "whole.npz")
    assert (other["entrant"], other["people_with_names_of_the_training"]) == (None, None)
    for kind in ("metrics", "pairs", "spread_over_people"):
        assert other[kind] == pytest.approx(own[kind], nan_ok=True) if kind != "pairs" else other[kind] == own[kind]
    for title in ("faces: ", "verification pairs"):
        _, first, second = cells_of(out, title)
        assert (first[0], second[0], first[1:]) == ("ce r0", "whole.npz", second[1:])
    assert "note: whole.npz does not list the people of its training: these may be among them" in out
    assert "no embedding" not in out
    saved = dict(np.load(tmp_path / "whole.npz"))
    kept = [not name.endswith(("query/p4/0.jpg", "lfw/p5/3.jpg")) for name in saved["files"]]
    np.savez(tmp_path / "some.npz", **{name: array[kept] for name, array in saved.items()})
    code, out, _ = lossbench(
        "evaluate", run, tmp_path / "some.npz", "--data", tree, *both, "--out", tmp_path / "e.json"
    )
    assert code == 0
    assert "some.npz has no embedding of 2 of 32 images (" in out
    own, other = json.loads((tmp_path / "e.json").read_text())
    assert own["metrics"]["positives"] == other["metrics"]["positives"] == 3 + 6
    assert [own[key] for key in ("images_left_out", "flip", "template_norms")] == [2, False, False]
    assert own["pairs"]["lfw"]["verification_same"] == other["pairs"]["lfw"]["verification_same"] == 3


def test_files_are_written_where_it_is_asked_for(lossbench, trained, tree, tmp_path):
    run = run_of(trained, "ce")
    assert lossbench("embed", run, tree, "--out", tmp_path / "e.npz")[0] == 0
    code, out, _ = lossbench("evaluate", tmp_path / "e.npz", "--data", tree)
    assert code == 0
    assert out.endswith("figures of models' files are written with --out alone, or printed with --json\n")
    assert "wrote" not in out
    code, out, err = lossbench("evaluate", tmp_path / "e.npz", "--data", tree, "--json", "-q")
    assert json.loads(out)["runs"][0]["run"] == str(tmp_path / "e.npz")
    for words, says in [
        (("--mean", "127.5"), "--mean 127.5 is not used: no ONNX file from elsewhere is named; drop it"),
        (("--channels", "rbg"), "--channels 'rbg' is unknown"),
        (("--pairs", tree / "pairs.txt", "--flip"), "--flip cannot mirror the images of"),
    ]:
        (tree / "pairs.txt").write_text("2\t1\np4\t0\t1\np4\t0\tp5\t1\np5\t2\t3\np4\t2\tp5\t3\n")
        code, _, err = lossbench("evaluate", tmp_path / "e.npz", "--data", tree, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_what_an_exported_model_does_with_mirrored_images_is_said(lossbench, trained, lists, tmp_path):
    run, file = run_of(trained, "ce"), tmp_path / "m.safetensors"
    assert lossbench("export", run, "--format", "safetensors", "--out", file)[0] == 0
    said = f"note: {file} gives embeddings of length 1: mirrored images' are added at that length\n"
    words = ("evaluate", run, file, "--pairs", lists[0], "--out", tmp_path / "e.json")
    assert said in lossbench(*words, "--flip")[1]
    assert [one["flip"] for one in json.loads((tmp_path / "e.json").read_text())] == [True, True]
    assert "of length 1" not in lossbench(*words)[1]


@pytest.mark.extra("onnx")
def test_a_model_without_its_metadata_is_foreign_and_says_what_the_run_says(lossbench, trained, tree, lists, tmp_path):
    import onnx

    run, file = run_of(trained, "ce"), tmp_path / "m.onnx"
    assert lossbench("export", run, "--out", file)[0] == 0
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    words = ("--data", tree, "--pairs", lists[0], "--pairs", lists[1])
    code, out, err = lossbench("evaluate", run, file, tmp_path / "foreign.onnx", *words)
    assert (code, err) == (0, "")
    assert f"note: {tmp_path / 'foreign.onnx'} is fed with images of 32 px, RGB, pixels as uint8" in out
    for title in ("faces: ", "verification pairs"):
        _, *rows = cells_of(out, title)
        assert [row[0] for row in rows] == ["ce r0", "m.onnx", "foreign.onnx"]
        assert rows[0][1:] == rows[1][1:] == rows[2][1:], "to the printed digits"
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:999])
    for name, options, says in [
        ("cut.onnx", (), "cut.onnx is damaged, or no ONNX file"),
        ("none.onnx", (), "none.onnx cannot be read"),
        ("m.onnx", ("--std", "128"), "--std 128 is not used: no ONNX file from elsewhere is named"),
        ("foreign.onnx", ("--std", "128"), "--std does not apply to"),
        ("foreign.onnx", ("--image-size", "112"), "--image-size 112 contradicts"),
    ]:
        code, _, err = lossbench("evaluate", tmp_path / name, *words, *options)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
