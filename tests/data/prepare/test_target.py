"""The folder that a preparation makes: alone, whole or not at all, and kept where crops wait in it."""

import pytest

from lossbench.data.prepare.target import (
    alone,
    detections,
    finished_crops,
    put_in_place,
    refuse_in_use,
    waiting,
    work_folder,
)
from lossbench.errors import InputError


def leave(out, *names):
    """Leave finished crops of an interrupted preparation."""
    for name in names:
        file = work_folder(out) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"crop")


def test_the_work_folder_is_hidden_beside_the_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "out", tmp_path.relative_to(tmp_path) / "out"):
        with alone(out) as work:
            assert work == work_folder(out) == tmp_path / ".out.preparing"
            assert [path.name for path in tmp_path.iterdir()] == [".out.preparing"]
        assert list(tmp_path.iterdir()) == []


def test_what_another_process_has_taken_over_is_not_deleted(tmp_path):
    out, claims = tmp_path / "out", work_folder(tmp_path / "out") / "claims"
    with pytest.raises(InputError, match="was left to another process"), alone(out):  # noqa: PT012
        (claims / "1").rename(claims / "1.over")
        (claims / "2").touch()
    assert (claims / "2").exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_the_work_folder_stays_if_crops_wait_in_it(tmp_path, stopped):
    out = tmp_path / "out"
    try:
        with alone(out):
            leave(out, "crops/p0/a.jpg")
            if stopped:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert stopped
    assert finished_crops(out) == 1
    with alone(out) as work:  # and its lock was released
        assert (work / "crops" / "p0" / "a.jpg").read_bytes() == b"crop"
        (work / "crops" / "p0" / "a.jpg").unlink()
    assert not work.exists()


def test_finished_crops_are_counted_where_they_are_made_and_where_they_are_moved(tmp_path):
    out = tmp_path / "out"
    assert finished_crops(out) == 0
    leave(out, "crops/p0/a.jpg", "crops/p1/b.jpg", "tree/train/p0/c.jpg", "crops/unreadable.txt", "placed.json")
    assert finished_crops(out) == 3
    assert finished_crops(tmp_path / ("n" * 300)) == 0


def test_the_faces_found_so_far_stay_too_until_there_are_crops_of_them(tmp_path):
    out = tmp_path / "out"
    assert waiting(out) == waiting(tmp_path / ("n" * 300)) == ""
    with alone(out):
        detections(out).touch()
    assert not work_folder(out).exists(), "no face is in it"
    with alone(out):
        detections(out).write_text("{}\n")
    assert waiting(out) == f"the faces found so far wait in {work_folder(out)}"
    leave(out, "crops/p0/a.jpg")
    assert waiting(out) == f"1 finished crops wait in {work_folder(out)}"


def test_a_target_in_use_is_refused_and_left_as_it_is(tmp_path):
    refuse_in_use(tmp_path / "out")
    (tmp_path / "out").mkdir()
    refuse_in_use(tmp_path / "out")
    (tmp_path / "file").write_text("x")
    (tmp_path / "out" / "mine.txt").write_text("x")
    for name in ("file", "out"):
        with pytest.raises(
            InputError, match=rf"\A--out: [^\n]*/{name} exists and is not an empty folder; choose [^\n]*"
        ):
            refuse_in_use(tmp_path / name)
        with pytest.raises(InputError, match="exists and is not an empty folder"), alone(tmp_path / name):
            raise AssertionError("it was given away")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine.txt", "out"]


@pytest.mark.parametrize("there", [True, False])
def test_a_finished_folder_is_put_in_the_place_of_an_empty_one(tmp_path, there):
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    (made / "face.jpg").write_bytes(b"face")
    if there:
        out.mkdir()
    put_in_place(made, out)
    assert (out / "face.jpg").read_bytes() == b"face"
    assert not made.exists()


def test_two_at_once_do_not_meet(tmp_path):
    out = tmp_path / "out"
    with alone(out) as work:
        with (
            pytest.raises(InputError, match=r"\A--out: another process is preparing [^\n]*; wait until it"),
            alone(out),
        ):
            raise AssertionError("both have it")
        assert work.exists()
        (tmp_path / "whole").mkdir()
        put_in_place(tmp_path / "whole", out)
        (out / "face.jpg").write_bytes(b"face")
    with pytest.raises(InputError, match="exists and is not an empty folder"), alone(out):
        raise AssertionError("what the first made is given away")
