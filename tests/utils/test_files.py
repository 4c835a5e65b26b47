"""Files that are written whole or not at all."""

import pytest
from support import small_disk

from lossbench.errors import InputError
from lossbench.utils.files import (
    check_name,
    fenced,
    heed_fence,
    is_file,
    is_folder,
    listed,
    whole_file,
    write_bytes,
)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
        file.write(b", two")
    assert path.read_bytes() == b"one, two"
    write_bytes(path, memoryview(b"three"))
    assert path.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [path]


def written(path, pieces):
    with whole_file(path) as file:
        for piece in pieces:
            file.write(piece)


@pytest.mark.parametrize("older", [None, b"older"])
def test_a_full_disk_leaves_what_was_there(tmp_path, older):
    path = tmp_path / "file"
    if older:
        path.write_bytes(older)
    with small_disk(10_000), pytest.raises(OSError, match="too large"):
        written(path, [bytes(1000)] * 100)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([older] if older else [])


def test_an_error_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match="invalid literal"):
        written(path, (bytes(int(size)) for size in ("3", "half")))
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"older"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "file"):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError), whole_file(tmp_path / "file" / "file"):
        pass


def test_what_is_there_and_what_is_not(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "lost").symlink_to(tmp_path / "none")
    (tmp_path / ".hidden").mkdir()
    assert [entry.name for entry in listed(tmp_path)] == ["file", "link", "loop", "lost"]
    assert [is_folder(entry) for entry in listed(tmp_path)] == [False, True, False, False]
    assert [is_file(entry) for entry in listed(tmp_path)] == [True, False, False, False]
    for odd in ("n" * 300, "file/none", "null\0"):
        assert not is_folder(tmp_path / odd)
        assert not is_file(tmp_path / odd)


@pytest.mark.parametrize(
    ("name", "message"), [("loop", "in a circle"), ("lost", "leads nowhere"), ("a\nb", "line break")]
)
def test_names_and_links_that_are_refused(tmp_path, name, message):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "lost").symlink_to(tmp_path / "none")
    with pytest.raises(InputError, match=message):
        check_name(tmp_path / name)


def test_a_fence_stops_what_is_not_renamed_yet_and_marks_temporary_names(tmp_path):
    class Closed(BaseException): ...

    opened = True

    def check():
        if not opened:
            raise Closed

    with fenced("mark", check):
        with whole_file(tmp_path / "file") as file:
            assert [entry.name for entry in tmp_path.iterdir()] == [".file.mark"]
            file.write(b"one")
        heed_fence()
        opened = False
        with pytest.raises(Closed):
            write_bytes(tmp_path / "file", b"two")
        with pytest.raises(Closed):
            heed_fence()
    heed_fence()
    assert (tmp_path / "file").read_bytes() == b"one"
    write_bytes(tmp_path / "file", b"three")
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"three"]


def test_a_temporary_file_that_was_deleted_is_the_fences_matter_and_else_an_os_error(tmp_path):
    class Closed(BaseException): ...

    def deleted():
        with whole_file(tmp_path / "file"):
            next(tmp_path.iterdir()).unlink()

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:  # before the renaming all was well
            raise Closed

    with pytest.raises(Closed), fenced("mark", check):
        deleted()
    with pytest.raises(FileNotFoundError):
        deleted()
