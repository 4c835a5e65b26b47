"""What is left of people, pairs and templates where images have no embedding."""

import numpy as np
import pytest

from lossbench.data.pairs import read_pairs
from lossbench.data.templates import read_templates
from lossbench.data.tree import read_unseen_people
from lossbench.errors import InputError
from lossbench.evaluation.available import Measured, with_embeddings
from lossbench.evaluation.model_files import read_embeddings_file
from lossbench.evaluation.pair_lists import PairList


@pytest.fixture
def measured(tree):
    (tree / "pairs.txt").write_text(
        "2\t2\np4\t0\t1\np4\t2\t3\np4\t0\tp5\t1\np4\t1\tp5\t0\np5\t0\t1\np5\t2\t3\np4\t2\tp5\t3\np4\t3\tp5\t2\n"
    )
    rows = [(f"query/{p}/{i}.jpg", f"{p}{i // 2}", p) for p in ("p4", "p5") for i in range(4)]
    (tree / "t.csv").write_text("image,template,media,person,score\n" + "".join(
        f"{image},{template},{i},{person},0.{i + 1}\n" for i, (image, template, person) in enumerate(rows)
    ))  # fmt: skip
    (tree / "list.txt").write_text("p40 p41 1\np50 p51 1\np40 p50 0\np41 p51 0\n")
    lists = (PairList("faces", read_pairs(tree / "pairs.txt", tree)),)
    return Measured(read_unseen_people(tree), lists, read_templates(tree / "t.csv", tree / "list.txt"))


def test_images_are_left_out_of_all_that_is_measured(measured):
    gone = {
        file for file in measured.files() if file.as_posix().endswith(("p4/0.jpg", "p6/2.jpg", "p5/0.jpg", "p5/1.jpg"))
    }
    assert len(gone) == 4
    left = measured.without(gone)
    unseen = left.unseen
    assert set(measured.unseen.files) - set(unseen.files) == gone
    query = zip(unseen.query.rows, unseen.query.labels, strict=True)
    assert [(unseen.names[row], unseen.query.people[label]) for row, label in query] == [
        ("query/p4/1.jpg", "p4"), ("query/p4/2.jpg", "p4"), ("query/p4/3.jpg", "p4"),
        ("query/p5/2.jpg", "p5"), ("query/p5/3.jpg", "p5"),
    ]  # fmt: skip
    assert [unseen.names[row][-5:] for row in unseen.distractors.rows] == [f"{i}.jpg" for i in (0, 1, 3, 0, 1, 2, 3)]
    pairs = left.lists[0].pairs
    shown = [(f"{pairs.files[a].parent.name}{pairs.files[a].stem}", pairs.files[b].stem, same, fold)
             for a, b, same, fold in zip(pairs.a, pairs.b, pairs.same, pairs.folds, strict=True)]  # fmt: skip
    assert shown == [("p42", "3", True, 0), ("p52", "3", True, 1), ("p42", "3", False, 1), ("p43", "2", False, 1)]
    templates = left.templates
    assert templates.ids == ("p40", "p41", "p51")
    assert templates.people == ("p4", "p4", "p5")
    assert [templates.files[row].as_posix()[-8:] for row in templates.rows] == [
        "p4/1.jpg", "p4/2.jpg", "p4/3.jpg", "p5/2.jpg", "p5/3.jpg",
    ]  # fmt: skip
    assert templates.templates.tolist() == [0, 1, 1, 2, 2]
    assert templates.weights.tolist() == [0.2, 0.3, 0.4, 0.7, 0.8]
    assert [(templates.ids[a], templates.ids[b]) for a, b in zip(templates.a, templates.b, strict=True)] == [
        ("p40", "p41"), ("p41", "p51"),
    ]  # fmt: skip
    assert templates.same.tolist() == [True, False]


def test_a_person_without_images_is_gone(measured):
    unseen = Measured(measured.unseen, (), None).without({f for f in measured.files() if "p6" in f.as_posix()}).unseen
    assert unseen.distractors.people == ("p7",)
    assert set(unseen.distractors.labels) == {0}


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ((True, False, False), r"embeddings of 12 of the 16 images of --data, of fewer than two query people; name"),
        ((False, True, False), r"embeddings of 4 of the 8 images of --pairs faces, too few to verify any"),
        ((False, False, True), r"embeddings of 4 of the 8 images of --templates, too few to compare any"),
    ],
)
def test_too_little_to_measure_is_one_line(measured, kept, says):
    parts = (measured.unseen, measured.lists, measured.templates)
    own = [part if keep else empty for part, keep, empty in zip(parts, kept, (None, (), None), strict=True)]
    with pytest.raises(InputError, match=says):
        Measured(*own).without({file for file in measured.files() if "p4/" in file.as_posix()})


def test_what_is_left_out_is_counted_and_said(measured, tmp_path):
    notes = []
    assert with_embeddings(["a network"], measured, on_note=notes.append) is measured
    names = [file.as_posix() for file in measured.files()]
    for name, rows in {"all": slice(0, 16), "some": slice(2, 16), "few": slice(1, 16)}.items():
        own = names[rows]
        np.savez(tmp_path / f"{name}.npz", embeddings=np.ones((len(own), 2), np.float32), files=own)
    models = [read_embeddings_file(tmp_path / f"{name}.npz", measured.unseen) for name in ("all", "some", "few")]
    left = with_embeddings(models, measured, on_note=notes.append)
    assert len(left.files()) == 14
    end = "they are left out for every model"
    assert notes == [
        f"note: {tmp_path / 'some.npz'} has no embedding of 2 of 16 images ({names[0]}, ...); {end}",
        f"note: {tmp_path / 'few.npz'} has no embedding of 1 of 16 images ({names[0]}); {end}",
    ]
