"""Several verification lists: what each is called, whose images it has, and the deviation of its folds."""

import statistics
from pathlib import Path

import pytest
import torch

from lossbench.errors import InputError
from lossbench.evaluation.measure import figures_of
from lossbench.evaluation.pair_lists import name_of, read_pair_lists, standard_deviation
from lossbench.metrics import verification
from lossbench.results.metric_inputs import Values


def test_a_list_is_called_as_its_folder_or_its_file(tree, monkeypatch):
    (tree / "agedb_30").mkdir()
    monkeypatch.chdir(tree / "agedb_30")
    names = {
        tree / "agedb_30": "agedb_30",
        Path(): "agedb_30",
        Path("..") / "agedb_30": "agedb_30",
        tree / "pairs.txt": "faces",
        Path("pairs.csv"): "agedb_30",
        tree / "calfw.txt": "calfw",
    }
    assert {path: name_of(path) for path in names} == names


def test_a_list_in_a_tree_of_its_own_is_of_the_people_there(tree, tmp_path):
    """Both trees have a person p4: each list is of the one beside it."""
    other = tmp_path / "other"
    for person in ("p4", "p5"):
        (other / "query" / person).mkdir(parents=True)
        for image in ("0.jpg", "1.jpg"):
            (other / "query" / person / image).write_bytes((tree / "distractors" / "p6" / image).read_bytes())
    text = "1\np4\t0\t1\np4\t0\tp5\t1\n"
    for place in (tree, other):
        (place / "pairs.txt").write_text(text)
    (tmp_path / "flat.txt").write_text(text)
    own, others, flat = read_pair_lists([tree / "pairs.txt", other / "pairs.txt", tmp_path / "flat.txt"], tree)
    assert [one.name for one in (own, others, flat)] == ["faces", "other", "flat"]
    assert (
        own.pairs.files == flat.pairs.files == tuple(tree / "query" / p for p in ("p4/0.jpg", "p4/1.jpg", "p5/1.jpg"))
    )
    assert others.pairs.files[0] == other / "query" / "p4" / "0.jpg"


def test_a_list_beside_its_people_is_of_these_and_not_of_the_data(tree, tmp_path):
    for image in ("0.jpg", "1.jpg"):
        (tmp_path / "lfw" / "p4").mkdir(parents=True, exist_ok=True)
        (tmp_path / "lfw" / "p5").mkdir(parents=True, exist_ok=True)
        for person in ("p4", "p5"):
            (tmp_path / "lfw" / person / image).write_bytes((tree / "distractors" / "p6" / image).read_bytes())
    for name, text in {"tabs": "1\np4\t0\t1\np4\t0\tp5\t1\n", "blanks": "1\np4 0 1\np4 0 p5 1\n"}.items():
        (tmp_path / "lfw" / f"{name}.txt").write_text(text)
        (one,) = read_pair_lists([tmp_path / "lfw" / f"{name}.txt"], tree)
        assert one.pairs.files[0] == tmp_path / "lfw" / "p4" / "0.jpg"
    for name, text in {"empty": "", "bytes": "\xff\n", "path": "1\n../p4\t0\t1\n"}.items():
        (tmp_path / "lfw" / f"{name}.txt").write_text(text, encoding="latin1")
        with pytest.raises(InputError):
            read_pair_lists([tmp_path / "lfw" / f"{name}.txt"], tree)


def test_two_lists_of_one_name_are_refused(tree):
    for name in ("a", "b"):
        (tree / name).mkdir()
    with pytest.raises(InputError, match=r"a/lfw.txt and --pairs .*b/lfw.txt are both called 'lfw'"):
        read_pair_lists([tree / "a" / "lfw.txt", tree / "b" / "lfw.txt"], None)


def test_of_several_lists_it_is_said_which_one_is_wrong(tree):
    texts = {"good": "1\np4\t0\t1\np4\t0\tp5\t1\n", "bad": "1\np4\t0\t9\np4\t0\tp5\t1\n",
             "twice": "1\t2\np4\t0\t1\np4\t0\t1\np4\t0\tp5\t1\np4\t0\tp5\t1\n"}  # fmt: skip
    for name, text in texts.items():
        (tree / name).mkdir()
        (tree / name / "pairs.txt").write_text(text)
    good, bad, twice = (tree / name / "pairs.txt" for name in texts)
    with pytest.raises(InputError, match=r"\A--pairs \S*/bad/pairs.txt: pairs.txt line 2: no image '9'"):
        read_pair_lists([good, bad], tree)
    with pytest.raises(InputError, match=r"\Apairs.txt line 2: no image '9'"):
        read_pair_lists([bad], tree)
    one, other = read_pair_lists([good, twice], tree)
    assert one.pairs.notes == ()
    assert other.pairs.notes == (f"--pairs {twice}: pairs.txt: 2 of 4 pairs repeat another; each counts",)


def test_the_deviation_is_that_of_the_folds():
    generator = torch.Generator().manual_seed(3)
    scores, same = torch.randn(200, generator=generator), torch.arange(200) % 2 == 0
    folds = torch.arange(200) // 20
    figures = figures_of(Values({"pair_scores": scores, "pair_same": same, "pair_folds": folds}))
    expected = statistics.stdev(verification(scores, same, folds).fold_accuracies)
    assert standard_deviation(figures) == pytest.approx(expected)
