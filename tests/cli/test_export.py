"""export and verify as commands: what they say, the document, and bad input in one line."""

import json
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import bench, run_of, scene

from lossbench.results.store import read_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A benchmark of ce in two repeats, the second of which has failed."""
    folder, _, _ = bench(tmp_path_factory.mktemp("results"), "ce", epochs=1)
    (second,) = (folder / "runs").glob("ce-r1-*")
    record = {**read_record(second), "status": "failed", "reason": "the loss became nan", "metrics": {}}
    (second / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def pair(orl, tmp_path):
    files = [tmp_path / f"{name}.pgm" for name in "ab"]
    for file, row in zip(files, orl.split(0).query.rows, strict=False):
        shutil.copy(orl.files[row], file)
    return files


@pytest.mark.parametrize(
    ("kind", "ending"), [pytest.param("onnx", "onnx", marks=pytest.mark.extra("onnx")), ("safetensors",) * 2]
)
def test_from_a_run_to_a_decision(lossbench, finished, pair, tmp_path, monkeypatch, kind, ending):
    monkeypatch.chdir(tmp_path)
    code, out, err = lossbench("export", finished, "--loss", "ce", "--repeat", 0, "--format", kind)
    assert (code, err) == (0, "")
    assert f"wrote ce-r0.{ending}: ce r0, 1." in out
    assert "read back and compared with the run: largest difference " in out
    assert "note: the licence of the data that this model was trained on is for you to check" in out
    code, out, err = lossbench("verify", *pair, "--model", f"ce-r0.{ending}", "--fpr", 0.05)
    assert (code, err) == (0, "")
    record = read_record(run_of(finished, "ce"))
    assert " is 92x112: only its centre square is compared, as in training" in out
    assert f"the threshold {record['metrics']['threshold@0.05']:.4f}" in out
    assert "at FPR 0.05: " in out
    assert "threshold: set on 9,200 different-person pairs of 16 people whom the model was not trained on" in out
    assert "threshold: the data supports no rate below 0.00011" in out
    code, out, err = lossbench("verify", *pair, "--model", f"ce-r0.{ending}", "--json")
    found = json.loads(out)
    assert (code, found["fpr"], found["negatives"], found["deciding"]) == (0, 0.01, 9200, 92)
    assert found["same"] == (found["cosine"] > found["threshold"])
    assert "note: no face is searched for" in err


@pytest.mark.extra("align")
def test_photos_are_compared_by_the_faces_in_them(lossbench, finished, orl, tmp_path):
    model, a, b = (tmp_path / name for name in ("m.safetensors", "a.png", "b.png"))
    assert lossbench("export", run_of(finished, "ce"), "--format", "safetensors", "--out", model, "-q")[0] == 0
    code, _, err = lossbench("verify", orl.files[0], orl.files[1], "--model", model, "--detect")
    assert (code, err.count("\n")) == (2, 1), "of ORL, which is not aligned"
    assert "names no template to align with" in err
    with safe_open(model, "pt") as file:
        facts = json.loads(file.metadata()["lossbench"])
    facts["alignment"] = {"template": "arcface", "said": "as the photos here"}
    save_file(load_file(model), model, {"lossbench": json.dumps(facts)})
    scene((orl.files[0], (20, 20), 2.0), (orl.files[10], (290, 60), 1.0)).save(a)
    scene((orl.files[5], (100, 40), 1.5)).save(b)
    code, out, err = lossbench("verify", a, b, "--model", model, "--detect")
    assert (code, err) == (0, "")
    assert f"{a}: face of " in out
    assert "; it shows 2 faces, of which this is the largest\n" in out
    assert "note: " not in out
    code, out, _ = lossbench("verify", a, b, "--model", model, "--detect", "--json")
    found = json.loads(out)
    assert (code, [face["remark"] for face in found["faces"]]) == (0, ["2 faces", ""])
    assert len(found["faces"][0]["points"]) == 10


def test_a_run_is_chosen_by_its_folder_or_from_its_benchmark(lossbench, finished, tmp_path):
    file = tmp_path / "m.safetensors"
    words = ("--format", "safetensors", "--out", file)
    assert lossbench("export", run_of(finished, "untrained"), *words)[0] == 0
    (failed,) = (finished / "runs").glob("ce-r1-*")
    for place, chosen, says in [
        (finished, (), "holds 4 such runs; choose one with --loss (untrained, ce) and --repeat (0, 1), or"),
        (
            finished,
            ("--loss", "ce"),
            "holds 2 such runs; choose one with --repeat (0, 1), or name one of the folders in",
        ),
        (finished, ("--loss", "cee"), "--loss cee has no run in"),
        (finished, ("--loss", "ce", "--repeat", 7), "--repeat 7 is not in"),
        (finished, ("--loss", "ce", "--repeat", 1), "has failed (the loss became nan); it has no model to use"),
        (failed, (), "has failed; there is no model to use"),
        (failed, ("--loss", "ce"), "--loss chooses a run of a benchmark"),
        (tmp_path, (), "no finished run in"),
    ]:
        code, _, err = lossbench("export", place, *chosen, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_bad_input_is_one_line(lossbench, finished, pair, tmp_path):
    run, model = run_of(finished, "ce"), tmp_path / "m.safetensors"
    assert lossbench("export", run, "--out", model, "-q")[0] == 0  # whose ending says the format
    (tmp_path / "torn.safetensors").write_bytes(model.read_bytes()[:500])
    (tmp_path / "none.jpg").write_text("no image")
    for words, says in [
        (("export", run, "--format", "tflite"), "--format 'tflite' is unknown; choose onnx, safetensors or torch"),
        (("export", run, "--format", "torch", "--out", "m.pt"), "does not end in .pt2"),
        (("export", run, "--format", "safetensors", "--out", "m.pt2"), "does not end in .safetensors"),
        (("export", run, "--format", "torch", "--backbone", "./my_net.py"), "--backbone ./my_net.py is not used"),
        (("export", run, "--format", "safetensors", "--out", run / "weights.safetensors"), "is a run's own file"),
        (("verify", *pair, "--model", tmp_path / "torn.safetensors"), "is damaged, or no safetensors file"),
        (("verify", *pair, "--model", run / "weights.safetensors"), "has no metadata of lossbench"),
        (("verify", *pair, "--model", tmp_path / "m.tflite"), "is in no format that lossbench exports"),
        (("verify", *pair, "--model", model, "--fpr", 1e-6), "below what the data of this run supports, 0.00011"),
        (("verify", pair[0], tmp_path / "none.jpg", "--model", model), "is not an image in a known format"),
    ]:
        code, _, err = lossbench(*words)
        assert (code, err.count("\n")) == (2, 1), err
        assert says in err
