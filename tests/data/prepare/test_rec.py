"""A training set of real faces, prepared: who is in which part, what is left out, and what is refused."""

import hashlib
import json

import pytest
from support import encoded_people, labelled, training_set, write_records

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.packed import open_packed, read_packed
from lossbench.data.prepare.options import TrainingSetOptions
from lossbench.data.prepare.rec import prepare_rec
from lossbench.data.prepare.rec_set import read_rec
from lossbench.data.split_file import SplitFile
from lossbench.errors import InputError


@pytest.fixture(scope="module")
def people(orl):
    """40 people, ten images each, as JPEG and PNG."""
    return encoded_people(orl.files, 10)


@pytest.fixture
def root(tmp_path, people):
    return training_set(tmp_path / "set", people, (92, 112))


def made(root, out, dedupe=False, **options):
    return prepare_rec(read_rec(root), out, TrainingSetOptions(**options), dedupe=dedupe)


def test_every_image_is_read_where_it_lies(root, tmp_path, people):
    """The encoded bytes are those that were packed, JPEG and PNG, whole and in parts."""
    before = {file.name: file.read_bytes() for file in root.iterdir()}
    prepared, notes = made(root, tmp_path / "out")
    assert prepared.people == {"train": 32, "val": 32, "test": 32, "query": 4, "distractors": 4}
    assert prepared.images == {"train": 256, "val": 32, "test": 32, "query": 40, "distractors": 40}
    assert (notes, prepared.new, prepared.left_out, prepared.passed_over) == ([], True, (), ())
    assert {file.name: file.read_bytes() for file in root.iterdir()} == before
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["images.npy", "split.json"]
    faces = read_packed(tmp_path / "out")
    own = [image for images in people for image in images]
    for image, name in zip(faces.files, faces.names, strict=True):
        _, person, key = name.split("/")
        assert read_bytes(image) == own[int(key) - 1]
        assert image.key == int(key)
        assert (int(key) - 1) // 10 == int(person)
        assert decode(read_bytes(image), image).size == (92, 112)
    digests = [hashlib.sha256(own[int(name.split("/")[2]) - 1]).hexdigest() for name in faces.names]
    assert open_packed(tmp_path / "out").content_faults(digests) == []
    assert len(open_packed(tmp_path / "out").content_faults([*digests[1:], digests[0]])) == len(digests)
    assert SplitFile.of(tmp_path / "out").content["source"]["kind"] == "rec"


def test_the_same_command_makes_the_same_and_another_is_refused(root, tmp_path):
    made(root, tmp_path / "out")
    first = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    again, _ = made(root, tmp_path / "out")
    assert not again.new
    made(root, tmp_path / "other")
    assert {file.name: file.read_bytes() for file in (tmp_path / "other").iterdir()} == first
    with pytest.raises(InputError, match="out was prepared with other data or options; choose another"):
        made(root, tmp_path / "out", seed=1)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == first
    assert not list(tmp_path.glob(".*"))


def test_who_is_held_out_can_be_said(root, tmp_path):
    prepared, _ = made(root, tmp_path / "a", query_identities=0)
    assert prepared.people == {"train": 40, "val": 40, "test": 40, "query": 0, "distractors": 0}
    prepared, _ = made(root, tmp_path / "b", identities=20, query_identities=6, distractor_identities=0, val=0.2)
    assert prepared.people == {"train": 20, "val": 20, "test": 20, "query": 6, "distractors": 0}
    assert prepared.images["val"] == 40
    for options, says in (
        ({"query_identities": 1}, "--query-identities 1 is too few; use 2 or more"),
        ({"query_identities": 0, "distractor_identities": 3}, "--distractor-identities 3 without query people"),
        ({"identities": 39, "query_identities": 2}, r"39 \+ 2 \+ 0 people"),
        ({"min_images": 11}, "0 of 40 people have 11 images or more"),
        ({"identities": 1}, "--identities 1 is too few"),
    ):
        with pytest.raises(InputError, match=says):
            made(root, tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_images_that_cannot_be_decoded_are_left_out_and_named(tmp_path, people):
    """They lie in a file that nobody can edit; a person left with too few images is passed over."""
    bad = [[b"no image", *images[1:]] if i == 3 else images for i, images in enumerate(people)]
    bad[5] = [b"", *(image[:60] for image in bad[5][1:7]), *bad[5][7:]]
    prepared, notes = made(training_set(tmp_path / "set", bad, (92, 112)), tmp_path / "out")
    assert prepared.people["train"] + prepared.people["query"] + prepared.people["distractors"] == 39
    assert sum(prepared.images.values()) == 389
    (note,) = notes
    assert note.startswith(
        f"8 images cannot be used and are left out: {tmp_path}/set/train.rec image 31 is not an image"
    )
    listed = json.loads((tmp_path / "out" / "split.json").read_bytes())
    assert [line.split(" image ")[1].split()[0] for line in listed["unreadable"]] == [str(31), *map(str, range(51, 58))]
    assert listed["notes"] == notes
    assert "remove" not in note
    with pytest.raises(InputError, match=r"train\.rec image 1 is not an image .*\(none of the 10 images can be used\)"):
        made(training_set(tmp_path / "none", [[b"x"] * 5, [b"y"] * 5], (92, 112)), tmp_path / "o")


def test_a_person_without_a_usable_image_is_replaced_again(tmp_path, people):
    """The one who replaces a person with bad images may have bad images alone; another takes the place."""
    bad = [images if i < 4 else [b"no image"] * (10 - i) for i, images in enumerate(people[:6])]
    more = [*bad, *(images[:5] for images in people[6:9])]
    root = training_set(tmp_path / "set", more, (92, 112))
    prepared, (note,) = made(root, tmp_path / "out", identities=5, query_identities=0)
    assert prepared.images == {"train": 35, "val": 5, "test": 5, "query": 0, "distractors": 0}
    assert note.startswith("11 images cannot be used and are left out: ")


def test_images_of_another_size_than_property_says_are_refused(root, tmp_path):
    (root / "property").write_text("40,112,112")
    says = r"train\.rec image 1 is 92x112 pixels, and the set's property says 112x112; it belongs to another set"
    with pytest.raises(InputError, match=says):
        made(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_decompression_bombs_are_left_out(tmp_path, people):
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4)
    bad = [[header, *people[0][1:]], *people[1:]]
    _, (note,) = made(training_set(tmp_path / "set", bad, (92, 112)), tmp_path / "out")
    assert "image 1 is a decompression bomb" in note or "image 1 is 60000x60000 pixels" in note or "image 1" in note


def test_near_duplicates_stay_together(tmp_path, people):
    twice = [[image for image in images[:8] for _ in range(2)] for images in people]
    root, apart = training_set(tmp_path / "set", twice, (92, 112)), []
    for dedupe in (False, True):
        prepared, _ = made(root, tmp_path / f"{dedupe}", dedupe=dedupe, val=0.15, test=0.15)
        parts = {}
        for name in read_packed(prepared.folder).names:
            part, _, key = name.split("/")
            parts.setdefault((int(key) - 1) // 2, set()).add(part)
        apart.append(sum(len(own) > 1 for own in parts.values()))
    assert apart[0] > 20
    assert apart[1] == 0


def test_targets_in_use_are_refused_before_images_are_opened(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    looked = []
    with pytest.raises(InputError, match="out exists and is not an empty folder"):
        prepare_rec(read_rec(root), tmp_path / "out", TrainingSetOptions(), on_progress=lambda *_: looked.append(1))
    assert not looked
    with pytest.raises(InputError, match=r"--out: .* is inside the set"):
        made(root, root / "split")


def test_a_set_without_records_of_people_is_prepared(tmp_path, people):
    records = [
        labelled([label], 10 * label + i, image) for label, own in enumerate(people) for i, image in enumerate(own)
    ]
    prepared, _ = made(write_records(tmp_path / "set", records, "40,112,92"), tmp_path / "out")
    assert sum(prepared.images.values()) == 400
