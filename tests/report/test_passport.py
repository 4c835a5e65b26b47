"""The passport's three files."""

import math

import pytest
import torch
from support import small_disk

from lossbench.conformance.passport import STEPS, Curve, Passport
from lossbench.errors import InputError
from lossbench.report.passport import write_passport


def passport(name, height):
    theta = torch.linspace(0, math.pi, STEPS, dtype=torch.float64)
    return Passport((Curve(name, theta, height + theta, height * theta.cos(), theta.sin()),), (), ())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_name_with_odd_characters_is_a_file_name(tmp_path):
    paths = write_passport(passport("./x:margin=0.5*y", 1), tmp_path)
    assert [path.name for path in paths] == [f"passport-._x_margin=0.5_y.{kind}" for kind in ("csv", "svg", "png")]
    assert all(path.stat().st_size for path in paths)


def test_a_full_disk_leaves_the_files_of_an_earlier_passport(tmp_path):
    write_passport(passport("arcface", 1), tmp_path)
    before = contents(tmp_path)
    with (
        small_disk(4000),
        pytest.raises(InputError, match=r"cannot be written \(File too large\); choose another --out"),
    ):
        write_passport(passport("arcface", 2), tmp_path)
    assert contents(tmp_path) == before
