"""The sheet of doubtful photos: one section per kind of doubt, with marks where the faces are."""

import io

import numpy as np
from PIL import Image

from lossbench.data.prepare.doubtful import doubtful_sheet
from lossbench.data.prepare.face_choice import Choice
from lossbench.data.prepare.mtcnn import Face

FACE = Face((100, 40, 80, 120), 0.9, (120, 80, 160, 80, 140, 110, 125, 130, 155, 130))


def sheet_of(tmp_path, choices):
    Image.new("RGB", (320, 160), "navy").save(tmp_path / "a.png")
    data = doubtful_sheet(dict.fromkeys(choices, tmp_path / "a.png"), choices)
    assert data == doubtful_sheet(dict.fromkeys(choices, tmp_path / "a.png"), choices)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def coloured(pixels, red, green):
    """Where pixels are green or red."""
    return ((pixels[..., 0] > 150) == red) & ((pixels[..., 1] > 150) == green) & (pixels[..., 2] < 110)


def test_used_faces_are_green_others_red(tmp_path):
    used = sheet_of(tmp_path, {"p/1.png": Choice(FACE, "unsure", "confidence 0.90"), "p/2.png": Choice(FACE)})
    unused = sheet_of(tmp_path, {"p/1.png": Choice(FACE, "too small", "too small: 40 px")})
    assert used.shape == unused.shape, "the photo without a doubt is not shown"
    assert coloured(used, red=False, green=True).sum() > 100
    assert coloured(used, red=True, green=False).sum() == 0
    assert coloured(unused, red=True, green=False).sum() > 100
    assert coloured(unused, red=False, green=True).sum() == 0


def test_the_box_lies_where_the_face_is(tmp_path):
    green = np.argwhere(coloured(sheet_of(tmp_path, {"p/1.png": Choice(FACE, "unsure")}), red=False, green=True))
    (top, left), (bottom, right) = green.min(axis=0), green.max(axis=0)
    assert abs(left - 50) <= 2, "half the size: 320 pixels are shown on 160"
    assert abs(right - 90) <= 2
    assert abs((bottom - top) - 60) <= 2


def test_kinds_follow_each_other_and_a_kind_is_not_shown_beyond_thirty(tmp_path):
    one = sheet_of(tmp_path, {"p/1.png": Choice(None, "no face", "no face")})
    both = sheet_of(tmp_path, {"p/1.png": Choice(None, "no face"), "p/2.png": Choice(FACE, "several")})
    assert both.shape[0] == 2 * one.shape[0]
    names = [f"p/{i}.png" for i in range(40)]
    thirty, forty = (sheet_of(tmp_path, dict.fromkeys(names[:n], Choice(None, "no face"))) for n in (30, 40))
    assert thirty.shape == forty.shape
    assert not np.array_equal(thirty, forty), "of forty it says that only thirty are shown"


def test_names_of_any_script_and_length_are_shown(tmp_path):
    sheet_of(tmp_path, {"Zoë Müller 李/" + "x" * 200 + ".png": Choice(None, "no face", "no face")})
