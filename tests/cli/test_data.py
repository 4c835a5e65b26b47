"""The commands as a user types them, and a run on a prepared tree with pairs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import encoded_people, training_set, write_scenes

from lossbench.benchmark.driver import run_benchmark
from lossbench.cli.main import main
from lossbench.cli.progress import BenchProgress
from lossbench.config import Config
from lossbench.data.catalogue import open_data
from lossbench.errors import InputError
from lossbench.report.write import write_report


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Eight people in colours of their own, eight images each."""
    root = tmp_path_factory.mktemp("faces") / "faces"
    rng = np.random.default_rng(0)
    for i in range(12):
        (root / f"p{i:02d}").mkdir(parents=True)
        own = rng.integers(0, 256, (4, 4, 3))
        for j in range(8):
            noisy = np.kron(own, np.ones((6, 6, 1), int)) + rng.integers(-60, 60, (24, 24, 3))
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
            image.save(root / f"p{i:02d}" / f"{j}.png")
    return root


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def lossbench(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["lossbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code, *capsys.readouterr()


PREPARE = ("--identities", 6, "--query-identities", 3, "--distractor-identities", 3, "--size", 32)


@pytest.fixture
def tree(faces, monkeypatch, capsys):
    code, _, _ = lossbench(monkeypatch, capsys, "data", "prepare", "folder", "--root", faces, "--out", "tree", *PREPARE)
    assert code == 0


@pytest.mark.usefixtures("tree")
def test_prepare_check_show_and_cache(monkeypatch, capsys):
    code, out, _ = lossbench(monkeypatch, capsys, "data", "check", "tree", "--json", "check.json")
    assert code == 0, out
    assert "split.json" in out
    assert len(json.loads(Path("check.json").read_text(encoding="utf-8"))["findings"]) == 12
    code, out, _ = lossbench(monkeypatch, capsys, "data", "show", "tree", "--people", 1)
    assert (code, "tree-faces.png" in out) == (0, True)
    open_data_store()
    assert "1 stores" in lossbench(monkeypatch, capsys, "data", "cache")[1]
    assert lossbench(monkeypatch, capsys, "data", "cache", "--clear")[0] == 0
    assert "0 stores" in lossbench(monkeypatch, capsys, "data", "cache")[1]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("option", "lines"), [("-q", 0), ("-v", 21)])
def test_commands_that_count_are_quiet_or_verbose(monkeypatch, capsys, option, lines):
    """120 images: a line at every twentieth, and one with the seconds."""
    code, out, _ = lossbench(monkeypatch, capsys, "data", "check", "tree", option)
    assert code == 0
    assert out.count("looking at images: ") == lines
    assert "split.json" in out, "the findings are the result"


def open_data_store():
    from lossbench.data.images.store import open_store

    return open_store(open_data("tree").files, 32)


@pytest.mark.usefixtures("tree")
def test_check_ends_with_1_where_something_leaks(monkeypatch, capsys):
    first("test").write_bytes(first("train").read_bytes())
    code, out, _ = lossbench(monkeypatch, capsys, "data", "check", "tree")
    assert code == 1
    assert "leak" in out


def remove_all_but_one(person):
    for image in sorted(person.iterdir())[1:]:
        image.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: Path("tree/split.json").write_text("{"),
        lambda: first("val").unlink(),
        lambda: first("val").write_bytes(b"broken"),
        lambda: remove_all_but_one(first("query").parent),
        lambda: first("val").parent.rename("tree/val/nobody"),
        lambda: shutil.rmtree("tree/distractors"),
        lambda: shutil.rmtree("tree/train"),
        lambda: [shutil.rmtree(person) for person in Path("tree/val").iterdir()],
    ],
    ids=[
        "split file",
        "file missing",
        "no image",
        "one of a query person",
        "not in train",
        "no part",
        "no train",
        "empty part",
    ],
)
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.usefixtures("tree")
def test_check_and_run_refuse_the_same_trees(monkeypatch, capsys, spoil, listed):
    spoil()
    if not listed:
        Path("tree/split.json").unlink()
    checked, out, _ = lossbench(monkeypatch, capsys, "data", "check", "tree")
    ran, _, err = lossbench(
        monkeypatch, capsys, "run", "--data", "tree", "--losses", "ce", "--epochs", 1, "--repeats", 1
    )
    assert (checked, ran) in ((1, 2), (0, 0)), (out, err)
    assert ("refuses this tree" in out) == (checked == 1)
    assert checked == 1 or not listed


def first(part):
    return min(Path("tree", part).glob("*/*.jpg"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "prepare", "celeba", "--root", "nowhere", "--out", "out"),
        ("data", "prepare", "folder", "--root", "nowhere", "--out", "out"),
        ("data", "prepare", "lfw", "--root", ".", "--out", "out"),
        ("data", "prepare", "bin", "--file", "nowhere.bin", "--out", "out"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--size", "5"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--crop", "huge"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--identities", "99"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "x" * 300),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--landmarks", "x" * 300),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--identities", "0"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--face", "centre"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--keep-undetected"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--detect", "--min-face", "5"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--detect", "--face", "any"),
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--detect", "--landmarks", "nowhere.csv"),
        # where the extra is not installed, since it is not; elsewhere, since no face is in these
        ("data", "prepare", "folder", "--root", "{faces}", "--out", "out", "--detect", "--min-images", "4"),
        ("data", "check", "nowhere"),
        ("data", "show", "nowhere"),
        ("run", "--data", "tree", "--flip"),
        ("run", "--data", "tree", "--pairs", "nowhere.txt"),
        ("run", "--data", "tree", "--min-images", "99"),
        ("run", "--data", "tree", "--images-per-identity", "1"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, faces, arguments):
    before = sorted(Path().iterdir())
    code, _, err = lossbench(monkeypatch, capsys, *(a.format(faces=faces) for a in arguments))
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


def test_start_up_imports_nothing_heavy():
    code = "import sys, lossbench.cli.main; print([m for m in ('torch', 'numpy', 'PIL', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def config(**changes):
    settings = {"losses": "ce", "data": "tree", "backbone": "tiny", "image_size": 32, "embedding_dim": 8, "epochs": 1}
    return Config(**(settings | {"batch_size": 16, "repeats": 1, "device": "cpu", "out": "results"} | changes))


@pytest.mark.usefixtures("tree")
def test_a_run_with_pairs_records_them_and_the_report_shows_them(monkeypatch):
    with BenchProgress(1) as listener:
        folder, plain = run_benchmark(config(), listener)
        _, records = run_benchmark(config(pairs="tree/pairs.txt"), listener)
        _, flipped = run_benchmark(config(pairs="tree/pairs.txt", flip=True), listener)
    assert {r["status"] for r in records} == {"finished"}
    found, other = records[1]["metrics"], flipped[1]["metrics"]
    header = Path("tree/pairs.txt").read_text(encoding="utf-8").split()
    assert found["verification_same"] == found["verification_different"] == int(header[0]) * int(header[1])
    assert 0 <= found["verification_accuracy"] <= 1
    assert [r[1]["measuring"]["config"]["flip"] for r in (plain, records, flipped)] == [False, False, True]
    assert "verification_accuracy" not in plain[1]["metrics"]
    assert found["verification_threshold"] != other["verification_threshold"]
    assert len({r[1]["hash"] for r in (plain, records, flipped)}) == 1, "one training, measured three times"
    assert len({r[1]["protocol_hash"] for r in (plain, records, flipped)}) == 3
    assert plain[1]["metrics"].items() <= found.items()
    assert len(records[1]["split_file"]) == 64
    monkeypatch.setattr(
        "lossbench.report.figures.write.write_figures", lambda *_: []
    )  # they take long and are not ours
    write_report(folder)
    assert "<summary>Verification</summary>" in (folder / "report.html").read_text(encoding="utf-8")
    assert "verification_accuracy" in (folder / "tables" / "runs.csv").read_text(encoding="utf-8")


@pytest.mark.usefixtures("tree")
def test_a_run_with_pairs_prints_their_figures(monkeypatch, capsys):
    words = (
        "--losses",
        "ce",
        "--data",
        "tree",
        "--epochs",
        1,
        "--repeats",
        1,
        "--image-size",
        32,
        "--backbone",
        "tiny",
    )
    for pairs in ((), ("--pairs", "tree/pairs.txt")):
        code, out, err = lossbench(monkeypatch, capsys, "run", *words, *pairs)
        assert (code, err) == (0, "")
        assert ("verification pairs of tree/pairs.txt" in out) == ("TAR @ FAR 0.001" in out) == bool(pairs)


@pytest.mark.usefixtures("tree")
def test_a_moved_file_stops_a_run_unless_told_otherwise():
    moved = first("train")
    moved.rename(Path("tree", "test", *moved.parts[2:]))
    with BenchProgress(1) as listener:
        with pytest.raises(InputError, match="its split was changed later"):
            run_benchmark(config(), listener)
        assert not Path("results").exists()
        _, records = run_benchmark(config(), listener, verify=False)
    assert records[1]["status"] == "finished"
    assert records[1]["split_file"] is None


@pytest.mark.usefixtures("tree")
def test_a_changed_file_stops_a_run():
    first("train").write_bytes(first("query").read_bytes())
    with BenchProgress(1) as listener, pytest.raises(InputError, match="it now holds what was query/"):
        run_benchmark(config(), listener)


@pytest.mark.usefixtures("tree")
def test_selection_is_deterministic_and_nested():
    def train(**options):
        faces = open_data("tree", **options)
        part = faces.folds[0].train
        return {(part.people[label], faces.names[row]) for row, label in zip(part.rows, part.labels, strict=True)}

    everything, four, two = train(), train(images_per_identity=4), train(images_per_identity=2)
    assert two < four < everything
    assert train(images_per_identity=2) == two
    for most, found in ((4, four), (2, two)):
        counts = [sum(person == p for p, _ in found) for person in {p for p, _ in everything}]
        assert set(counts) == {most}
    assert len({person for person, _ in train(identities=3)}) == 3
    with BenchProgress(1) as listener:
        _, records = run_benchmark(config(images_per_identity=3), listener)
    assert records[1]["protocol"]["config"]["images_per_identity"] == 3
    assert records[1]["images"]["train"] == 18
    assert open_data("tree", images_per_identity=3).folds[0].val == open_data("tree").folds[0].val


def test_min_images_keeps_who_has_enough(monkeypatch, capsys, faces, tmp_path):
    assert lossbench(monkeypatch, capsys, "data", "prepare", "folder", "--root", faces, "--out", "t", *PREPARE)[0] == 0
    people = sorted(p.name for p in Path("t/train").iterdir())
    for person in people[:4]:
        folder = tmp_path / "t" / "train" / person
        for file in sorted(folder.iterdir())[3:]:
            file.unlink()
    assert open_data("t", min_images=4).folds[0].train.people == tuple(people[4:])
    assert open_data("t", min_images=3, identities=3).folds[0].train.people == (people[0], *people[4:])
    with pytest.raises(InputError, match="--min-images 9 leaves 0 training people; use at most"):
        open_data("t", min_images=9)
    with pytest.raises(InputError, match="this data has 2 to 2 training people with 4 images"):
        open_data("t", min_images=4, identities=3)


@pytest.fixture
def training(orl, tmp_path):
    """An InsightFace training set of 30 people, and a verification file beside it."""
    root = training_set(tmp_path / "faces_orl", encoded_people(orl.files[:300], 10), (92, 112))
    (root / "lfw.bin").write_bytes(b"no pickle")
    return root


SHORT = ("--backbone", "tiny", "--epochs", 1, "--image-size", 32, "--repeats", 1, "--losses", "ce")


def test_a_training_set_is_prepared_checked_shown_trained_and_evaluated(monkeypatch, capsys, training):
    def lossbench_(*words):
        code, out, err = lossbench(monkeypatch, capsys, *words)
        assert (code, err) == (0, ""), out
        return out

    out = lossbench_("data", "prepare", "rec", "--root", training, "--out", "rec", "--dedupe", "--val", 0.1)
    assert "note: not read, since they are pickles of verification pairs: lfw.bin; lossbench data prepare bin" in out
    assert "check it with: lossbench data check rec" in out
    checked = lossbench_("data", "check", "rec", "--json", "check.json")
    assert " files are in place and have the listed SHA-256" in checked
    lossbench_("data", "show", "rec", "--people", 1)
    assert "No query people" not in lossbench_("run", "--data", "rec", *SHORT)
    (record,) = [json.loads(file.read_bytes()) for file in Path("results/rec/runs").glob("ce-*/run.json")]
    assert record["people"] == {"train": 24, "val": 24, "test": 24, "query": 3, "distractors": 3}
    assert record["metrics"]["tpr@0.1"] > 0
    lossbench_("evaluate", *Path("results/rec/runs").glob("ce-*"), "--data", "rec")
    out = lossbench_("embed", *Path("results/rec/runs").glob("ce-*"), "rec", "--out", "e.npz")
    assert "left out" not in out
    assert "names also occur in the training set of ce r0" in out
    found, kept = np.load("e.npz"), np.load(*Path("results/rec/runs").glob("ce-*/embeddings.npz"))
    assert found["files"].tolist() == list(open_data("rec").names)
    assert found["embeddings"].shape == (300, 128)
    rows = [found["files"].tolist().index(name) for name in kept["query_files"]]
    np.testing.assert_allclose(found["embeddings"][rows], kept["query"], atol=1e-5)
    assert not [file for file in Path().rglob("*") if file.suffix in (".jpg", ".png") and "results" not in str(file)][
        1:
    ]


def test_without_query_people_a_run_says_what_it_cannot_measure(monkeypatch, capsys, training):
    words = ("--root", training, "--out", "all", "--query-identities", 0)
    code, out, _ = lossbench(monkeypatch, capsys, "data", "prepare", "rec", *words)
    assert (code, "nobody is held out: a run measures accuracy and angles of training people" in out) == (0, True)
    code, out, err = lossbench(monkeypatch, capsys, "run", "--data", "all", *SHORT, "--track")
    assert (code, err) == (0, "")
    assert out.count("obody is held out (no query people): identification rates, gallery search, retrieval,") == 2
    (record,) = [json.loads(file.read_bytes()) for file in Path("results/all/runs").glob("ce-*/run.json")]
    figures = record["metrics"]
    assert (figures["tpr@0.1"], figures["r_precision"], figures["query_intra"]) == (None, None, None)
    assert (figures["positives"], figures["negatives"], record["people"]["query"]) == (0, 0, 0)
    assert figures["test_accuracy"] > 0
    assert figures["train_intra"] > 0
    code, out, err = lossbench(monkeypatch, capsys, "report", "results/all")
    assert (code, err) == (0, "")
    text = Path("results/all/report.md").read_text()
    assert "nobody is held out (no query people)" in text
    page = Path("results/all/report.html").read_text()
    assert "nobody is held out (no query people)" in page
    assert not any(title in page for title in ("Can the data support", "Search in a gallery", "Retrieval and"))
    assert sorted(file.name for file in Path("results/all/figures").glob("*.svg")) == [
        "angles.svg",
        "training_curves.svg",
    ]
    assert lossbench(monkeypatch, capsys, "evaluate", *Path("results/all/runs").glob("ce-*"), "--data", "all") == (
        2, "", "error: all has no query people; prepare it with --query-identities 2 or more\n"
    )  # fmt: skip


def test_a_training_set_that_changes_stops_a_run(monkeypatch, capsys, training):
    assert lossbench(monkeypatch, capsys, "data", "prepare", "rec", "--root", training, "--out", "rec")[0] == 0
    data = bytearray((training / "train.rec").read_bytes())
    data[200:204] = bytes(4)  # in the second image's JPEG or the first's PNG: the same size, another content
    (training / "train.rec").write_bytes(data)
    code, _, err = lossbench(monkeypatch, capsys, "run", "--data", "rec", *SHORT)
    assert (code, err.count("\n")) == (2, 1)
    assert "its content changed" in err or "cannot be read as an image" in err
    code, _, err = lossbench(monkeypatch, capsys, "run", "--data", training, *SHORT)
    assert err == (
        f"error: --data {training} is an InsightFace training set that is not prepared; first: lossbench data prepare "
        f"rec --root {training} --out DIR\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run",), "a folder from data prepare"),
        (("data", "prepare"), "or a table of the images in train.rec"),
        (("data", "prepare", "rec"), "of split.json and images.npy"),
        (("data", "check"), "A prepared set, or a tree"),
        (("data", "show"), "A prepared set."),
        (("embed",), "at any depth; or a prepared set"),
    ],
)
def test_help_says_that_a_set_need_not_be_folders(monkeypatch, capsys, words, says):
    code, out, _ = lossbench(monkeypatch, capsys, *words, "--help")
    assert (code, says in " ".join(out.split())) == (0, True), out


@pytest.mark.extra("align")
def test_photos_are_prepared_by_detection_checked_shown_and_the_points_given_back(monkeypatch, capsys, orl, tmp_path):
    write_scenes(orl, tmp_path / "photos")
    words = ("--identities", 2, "--min-images", 4, "--query-identities", 2, "--distractor-identities", 2, "--size", 32)
    prepare = ("data", "prepare", "folder", "--root", "photos", *words, "--out")
    code, out, err = lossbench(monkeypatch, capsys, *prepare, "found", "--detect")
    assert code == 0, err
    assert "looking for faces: 30 of 30\n" in out
    assert "note: 1 of 30 photos show no face and are left out: p0/0.png\n" in out
    assert "look at the doubtful photos: found/doubtful.jpg\n" in out
    assert lossbench(monkeypatch, capsys, "data", "check", "found")[0] == 0
    assert lossbench(monkeypatch, capsys, "data", "show", "found")[0] == 0
    code, out, err = lossbench(monkeypatch, capsys, *prepare, "back", "--landmarks", "found/landmarks.csv")
    assert code == 0, err
    assert "doubtful" not in out
    crops = [{f.relative_to(root): f.read_bytes() for f in Path(root).rglob("p*/*.jpg")} for root in ("found", "back")]
    assert crops[0] == crops[1]
    assert len(crops[0]) == 29
