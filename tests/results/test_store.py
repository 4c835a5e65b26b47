"""Records on disk: read whole, or refused in one line."""

import shutil

import pytest
from support import WORDS, bench

from lossbench.errors import InputError
from lossbench.results.store import load_records


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text.replace('"schema": 2', '"schema": 99'), "has schema 99, this lossbench reads 2; upgrade"),
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "", "cannot be read"),
    ],
    ids=["newer", "half", "empty"],
)
def test_a_record_that_cannot_be_read_is_one_line_for_run_and_report(lossbench, tmp_path, damage, says):
    lossbench("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS)
    path = next(tmp_path.glob("orl/runs/ce-*/run.json"))
    whole = path.read_text()
    path.write_text(damage(whole))
    for words in (("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS), ("report", tmp_path / "orl")):
        code, _, err = lossbench(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
        assert str(path) in err
    code, out, _ = lossbench("run", "--losses", "cosface", "--out", tmp_path, *WORDS)  # does not need it
    assert code == 0
    shutil.rmtree(path.parent)  # what the line told
    code, out, _ = lossbench("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS)
    assert code == 0
    assert "training 1 run of" in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 1, "entr', "cannot be read"),
        ("[]", "not a lossbench record"),
        ('{"schema": 99}', "has schema 99, this lossbench reads 2; upgrade"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, text, says):
    folder, _, _ = bench(tmp_path, "ce", repeats=1)
    next(folder.glob("runs/ce-*/run.json")).write_text(text)
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        load_records(folder)
