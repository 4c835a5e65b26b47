"""One image that cannot be used is a line; several are a line and a list."""

import pytest

from lossbench.data.images.unreadable import LIST, unreadable
from lossbench.errors import InputError


def test_one_reason_is_the_error_and_writes_nothing(tmp_path):
    error = unreadable(["a.png is not an image"], tmp_path)
    assert (type(error), str(error)) == (InputError, "a.png is not an image")
    assert list(tmp_path.iterdir()) == []


def test_several_reasons_are_listed_in_a_file(tmp_path):
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    reasons = [f"Zoë/{number}.png is not an image" for number in range(1200)]
    error = unreadable(reasons, folder, "photos")
    assert str(error) == f"{reasons[0]} (1,200 such photos in {tmp_path}/two\\nlines/unreadable.txt)"
    assert (folder / LIST).read_text(encoding="utf-8").splitlines() == reasons
    assert "(2 such images in " in str(unreadable(reasons[5:7], folder))
    assert (folder / LIST).read_text(encoding="utf-8").splitlines() == reasons[5:7]


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        unreadable(["one", "two"], tmp_path / "nowhere")
