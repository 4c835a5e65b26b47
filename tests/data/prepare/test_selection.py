"""Who is chosen, from how many different images: near-duplicates are known only after cropping."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.data.prepare.collection import Collection, Photo, read_folder
from lossbench.data.prepare.crops import MadeCrop
from lossbench.data.prepare.options import CropOptions, SplitOptions
from lossbench.data.prepare.prepare import prepare
from lossbench.data.prepare.selection import choose, photos_of
from lossbench.errors import InputError

SPLIT = SplitOptions(identities=6, min_images=4, query_identities=3, distractor_identities=3)
CROP = CropOptions(size=48)


def collection_of(counts):
    """Return a collection of people with so many photos each."""
    photos = [Photo(Path(person, f"{i}.png"), person) for person, count in counts.items() for i in range(count)]
    return Collection("folder", Path(), tuple(photos))


def choice_of(counts, make, *, dedupe):
    """Choose of a collection of people with so many photos each."""
    return choose(counts, partial(photos_of, collection_of(counts)), SPLIT, make, dedupe=dedupe)


class Maker:
    """Makes crops without a disk: noise; one picture for all that are `same`; none of what is `bad`."""

    def __init__(self, same=(), bad=()):
        self.same, self.bad, self.asked = set(same), set(bad), []

    def __call__(self, photos, names):
        assert [f"{photo.person}/{photo.path.stem}.jpg" for photo in photos] == list(names)
        self.asked.append(list(names))
        seeds = [0 if name in self.same else sum(ord(c) * 31**i for i, c in enumerate(name)) for name in names]
        pictures = [np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8) for seed in seeds]
        crops = [MadeCrop(Path(name), name, "", one, None) for name, one in zip(names, pictures, strict=True)]
        return [None if name in self.bad else crop for name, crop in zip(names, crops, strict=True)]


@pytest.mark.parametrize("dedupe", [False, True])
def test_crops_are_made_of_the_people_who_are_chosen_and_all_are_in_a_part(dedupe):
    make = Maker()
    choice = choice_of({f"p{i:02d}": 8 - i // 5 for i in range(15)}, make, dedupe=dedupe)
    assert choice.people["closed"] == [f"p{i:02d}" for i in range(6)]
    chosen = sorted(person for people in choice.people.values() for person in people)
    assert len(chosen) == 12
    assert make.asked == [[f"{p}/{i}.jpg" for p in chosen for i in range(8 - int(p[1:]) // 5)]]
    assert set(choice.part_of) == set(choice.made) == set(make.asked[0])
    assert all(crop.sha256 == name for name, crop in choice.made.items())
    assert (choice.left_out, choice.passed_over) == ([], [])


def test_those_who_take_the_place_of_people_passed_over_are_cropped_alone():
    make = Maker(same=[f"p00/{i}.jpg" for i in range(8)])
    choice = choice_of({f"p{i:02d}": 9 - i // 7 for i in range(14)}, make, dedupe=True)
    assert choice.passed_over == ["p00"]
    assert choice.people["closed"] == [f"p{i:02d}" for i in range(1, 7)]
    assert {name.split("/")[0] for name in make.asked[1]}.isdisjoint(name.split("/")[0] for name in make.asked[0])
    assert {"p06"} <= {name.split("/")[0] for name in make.asked[1]}
    assert not any(name.startswith("p00/") for name in choice.part_of)
    untouched = choice_of({f"p{i:02d}": 9 - i // 7 for i in range(14)}, make, dedupe=False)
    assert (untouched.passed_over, "p00" in untouched.people["closed"]) == ([], True)


def test_images_that_cannot_be_used_do_not_count():
    """p00 and p01 have the most photos, and too few of them can be used: two others take their places."""
    make = Maker(bad=[f"p00/{i}.jpg" for i in range(6)] + ["p01/0.jpg", "p01/1.jpg"])
    choice = choice_of({f"p{i:02d}": 9 - i // 7 for i in range(14)}, make, dedupe=False)
    assert choice.people["closed"] == [f"p{i:02d}" for i in range(2, 8)]
    assert choice.passed_over == []
    assert not set(make.bad) & (set(choice.part_of) | set(choice.made))


def test_two_photos_of_one_crop_are_refused():
    people = collection_of({"a": 2, "b": 1})
    photos, names = photos_of(people, {"train": ["b"], "query": ["a"]})
    assert names == ["a/0.jpg", "a/1.jpg", "b/0.jpg"]
    assert photos == list(people.photos)
    assert photos_of(people, {"train": ["b"]}) == ([people.photos[2]], ["b/0.jpg"])
    twice = Collection("folder", Path(), (*people.photos, Photo(Path("a/1.webp"), "a")))
    with pytest.raises(InputError, match=r"\Atwo photos would both become a/1\.jpg; rename one of them\Z"):
        photos_of(twice, {"train": ["a"]})
    assert photos_of(twice, {"train": ["b"]})[1] == ["b/0.jpg"]


def test_dedupe_keeps_copies_together(face_tree, tmp_path):
    root = face_tree({f"p{i:02d}": 8 for i in range(12)})
    for person in root.iterdir():  # every image twice, the second brighter and smaller
        for file in sorted(person.iterdir())[:3]:
            with Image.open(file) as image:
                image.point(lambda v: min(255, v + 20)).resize((150, 184)).save(person / f"copy-{file.name}")
    options = SplitOptions(6, 4, 3, 3)
    prepare(read_folder(root), tmp_path / "apart", options, CROP)
    prepare(read_folder(root), tmp_path / "together", options, CROP, dedupe=True)

    def separated(tree):
        parts = {(f.parent.name, f.name): f.parts[-3] for f in tree.rglob("*.jpg")}
        return sum(parts[p, n] != parts[p, n.replace("copy-", "")] for p, n in parts if n.startswith("copy-"))

    assert separated(tmp_path / "apart") > 0
    assert separated(tmp_path / "together") == 0


def test_dedupe_leaves_out_a_query_image_that_is_in_the_closed_set(face_tree, tmp_path):
    counts = {f"p{i:02d}": 9 for i in range(6)} | {f"q{i:02d}": 5 for i in range(6)}
    root = face_tree(counts)
    (root / "q00" / "stolen.png").write_bytes((root / "p00" / "000.png").read_bytes())
    made = prepare(read_folder(root), tmp_path / "out", SPLIT, CROP, dedupe=True)
    assert made.left_out == ("q00/stolen.jpg",)
    assert not list((tmp_path / "out").rglob("stolen.jpg"))


def test_dedupe_passes_over_who_has_too_few_different_images(face_tree, tmp_path):
    root = face_tree({f"p{i:02d}": 9 for i in range(6)} | {f"q{i:02d}": 6 for i in range(8)})
    for i in range(1, 9):  # p00 has the most images, and nine times the same
        (root / "p00" / f"{i:03d}.png").write_bytes((root / "p00" / "000.png").read_bytes())
    options = SplitOptions(5, 4, 3, 3)
    drawn = sorted(
        p.name for p in (prepare(read_folder(root), tmp_path / "all", options, CROP).folder / "query").iterdir()
    )
    stolen = root / drawn[0]
    for i in range(5):  # one query person has a single image that is not somebody else's
        (stolen / f"{i:03d}.png").write_bytes((root / "p01" / f"{i:03d}.png").read_bytes())
    made = prepare(read_folder(root), tmp_path / "out", options, CROP, dedupe=True)
    assert made.passed_over == ("p00", stolen.name)
    assert sorted(p.name for p in (made.folder / "train").iterdir()) == ["p01", "p02", "p03", "p04", "p05"]
    assert made.people == {"train": 5, "val": 5, "test": 5, "query": 3, "distractors": 3}
    assert not {"p00", stolen.name} & {f.parent.name for f in made.folder.rglob("*.jpg")}
    again = prepare(read_folder(root), tmp_path / "out", options, CROP, dedupe=True)
    assert (again.new, again.passed_over) == (False, made.passed_over)
    with pytest.raises(InputError, match="--dedupe passed over 2 people with too few images that differ"):
        prepare(read_folder(root), tmp_path / "many", SplitOptions(6, 4, 4, 4), CROP, dedupe=True)
