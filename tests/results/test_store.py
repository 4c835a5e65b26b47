"""Records on disk: read whole, or refused in one line."""

import shutil

import pytest
from support import WORDS, copied_bench

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
    copied_bench(tmp_path, "ce,cosface", repeats=1)
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


def test_all_damaged_files_are_named_at_once_by_run_and_report(lossbench, tmp_path):
    words = ("run", "--losses", "ce,cosface", "--out", tmp_path, *WORDS)
    copied_bench(tmp_path, "ce,cosface", repeats=1)
    folder = {name: next(tmp_path.glob(f"orl/runs/{name}-*")) for name in ("ce", "cosface", "untrained")}
    (folder["ce"] / "run.json").write_text('{"schema"')
    (folder["cosface"] / "resamples.npz").unlink()
    (folder["untrained"] / "embeddings.npz").write_bytes(b"junk")
    gone = f"{folder['cosface'] / 'resamples.npz'} cannot be read (No such file or directory)"
    junk = f"{folder['untrained'] / 'embeddings.npz'} cannot be read (it is cut, or holds no arrays)"
    for command, count, named in ((words, 2, (gone,)), (("report", tmp_path / "orl"), 3, (gone, junk))):
        code, _, err = lossbench(*command)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(f"error: {count} files of runs are damaged: {folder['ce'] / 'run.json'} cannot be read")
        assert all(fault in err for fault in named)
        assert "pickle" not in err
        assert err.endswith("run their command again, which trains only these runs\n")
    shutil.rmtree(folder["ce"])
    code, out, err = lossbench(*words)
    assert (code, "training" in out) == (2, False), "said before any training"
    assert err.startswith(f"error: {gone}; delete the run's folder")
    assert lossbench(*words, "--force")[0] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 1, "entr', "cannot be read"),
        ("[]", "not a lossbench record"),
        ('{"schema": 99}', "has schema 99, this lossbench reads 2; upgrade"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, text, says):
    folder, _, _ = copied_bench(tmp_path, "ce", repeats=1)
    next(folder.glob("runs/ce-*/run.json")).write_text(text)
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        load_records(folder)
