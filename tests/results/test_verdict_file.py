"""verdicts.json: the sentences and a row a verdict, in JSON that any reader takes."""

import json

import pytest
from support import STUDY, small_disk

from lossbench.errors import InputError
from lossbench.results.answer import answer
from lossbench.results.study import Study
from lossbench.results.verdict_file import FILE, write_verdicts
from lossbench.results.verdicts import verdict_rows, verdicts


def strict(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_file_holds_the_answer_and_every_verdict(tmp_path):
    found = verdicts(STUDY)
    assert write_verdicts(tmp_path, STUDY, found) == answer(STUDY, found)
    whole = strict(tmp_path / FILE)
    assert whole["schema"] == 1
    assert whole["answer"] == answer(STUDY, found)
    assert whole["entrants"] == ["a", "b", "c", "untrained"]
    assert (whole["level"], whole["smallest_difference"]) == (0.05, 0.02)
    assert len(whole["verdicts"]) == len(found)
    for row, told in zip(whole["verdicts"], verdict_rows(found), strict=True):
        assert all(row[name] == (None if value != value else value) for name, value in told.items())


def test_without_verdicts_it_says_why(tmp_path):
    alone = Study(tuple(r for r in STUDY.records if r["entrant"] in ("a", "untrained")), {})
    write_verdicts(tmp_path, alone, verdicts(alone))
    whole = strict(tmp_path / FILE)
    assert whole["verdicts"] == []
    assert whole["answer"][-1].startswith("There is nothing to compare: a is the only loss")


def test_on_a_full_disk_the_old_file_stays(tmp_path):
    (tmp_path / FILE).write_text("{}")
    with small_disk(100), pytest.raises(InputError, match=r"verdicts.json cannot be written"):
        write_verdicts(tmp_path, STUDY, verdicts(STUDY))
    assert (tmp_path / FILE).read_text() == "{}"
    assert len(list(tmp_path.iterdir())) == 1
