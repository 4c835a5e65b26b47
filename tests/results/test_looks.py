"""The looks on disk: levels that add up, decisions that stay, and files that nobody need trust."""

import json
from dataclasses import replace

import pytest
from support import GONE, changed

from lossbench.errors import InputError
from lossbench.results.looks import FILE, Decision, Look, Looks, Plan, begun, looks_at, read_looks, write_looks
from lossbench.results.verdicts import LEVEL, Decided
from lossbench.utils.hashing import sha

PLAN = Plan("protocol", sha([{"lr": 0.1}]), {"ce": "1", "arcface": "2"}, max_repeats=8, smallest_difference=0.02)
FIGURE = "tpr@0.1"


def looks(*decided):
    """Looks after 3 and 5 repeats, which have decided this."""
    taken, before = [], 0
    for repeats, own in zip((3, 5), decided, strict=True):
        taken.append(Look(repeats, PLAN.level_of_look(repeats, before), tuple(own)))
        before = repeats
    return Looks(PLAN, (FIGURE,), ("tpr@0.01",), tuple(taken), ended="Stopped.")


AHEAD = Decision(FIGURE, "ce", "arcface", "ce", False)
LOOKS = looks([AHEAD], [Decision(FIGURE, "ce", "arcface", None, True)])


@pytest.mark.parametrize("when", [range(2, 9), (3, 5, 8), (8,), (2, 3, 7, 8)])
def test_all_looks_together_spend_the_level_and_no_more_whenever_they_are_taken(when):
    levels = [PLAN.level_of_look(now, before) for before, now in zip((0, *when), when, strict=False)]
    assert sum(levels) == pytest.approx(LEVEL)
    assert all(level > 0 for level in levels)


def test_another_limit_gives_the_same_look_another_level():
    longer = Plan("protocol", PLAN.training, PLAN.plugins, max_repeats=20, smallest_difference=0.02)
    assert longer.level_of_look(3, 0) == pytest.approx(0.0115, abs=5e-5)
    assert PLAN.level_of_look(3, 0) == pytest.approx(0.0249, abs=5e-5)


def test_what_a_look_decided_stays():
    assert LOOKS.decided(FIGURE, "arcface", "ce") == Decided("ce", True)
    later = looks([AHEAD], [Decision(FIGURE, "ce", "arcface", "arcface", False)])
    assert later.decided(FIGURE, "ce", "arcface") == Decided("ce", False)
    assert LOOKS.decided("tpr@0.01", "ce", "arcface") == Decided(None, False)


def test_looks_are_read_as_they_were_written(tmp_path):
    assert read_looks(tmp_path) is None
    (tmp_path / f".{FILE}.123").write_text("left by a killed process")
    write_looks(tmp_path, LOOKS)
    assert read_looks(tmp_path) == LOOKS
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def record(entrant, plugin, protocol="protocol"):
    return {"entrant": entrant, "plugin": plugin, "protocol_hash": protocol, "protocol": {"lr": 0.1}}


def test_looks_belong_to_runs_of_their_protocol_and_plugins(tmp_path):
    write_looks(tmp_path, LOOKS)
    ours = [record("ce", "1"), record("arcface", "2"), record("untrained", None), record("cosface", "3")]
    assert looks_at(tmp_path, ours) == LOOKS
    assert looks_at(tmp_path, [*ours, record("ce", "1", protocol="other")]) is None
    assert looks_at(tmp_path, [record("ce", "edited"), *ours]) is None
    assert looks_at(tmp_path, [record("cosface", "3"), record("triplet", "4"), record("ce", "1")]) is None, "others"
    assert Plan.of(ours[:3], 8, 0.02) == PLAN


def test_a_plan_notes_what_it_replaces_on_the_same_runs():
    longer = Plan("protocol", PLAN.training, PLAN.plugins, max_repeats=20, smallest_difference=0.02)
    new = begun(longer, (FIGURE,), (), LOOKS)
    assert new.replaced == (
        "2 looks of a plan for ce, arcface with at most 8 repeats and a smallest difference of 0.02",
    )
    assert new.taken == ()
    assert begun(PLAN, (FIGURE,), (), new).replaced == new.replaced, "it took no looks"
    assert len(begun(longer, (FIGURE,), (), replace(LOOKS, replaced=new.replaced)).replaced) == 2
    assert begun(Plan("other", "other", {}, 20, 0.02), (FIGURE,), (), LOOKS).replaced == (), "these are other runs"
    elsewhere = begun(replace(PLAN, protocol="other"), ("tpr@0.2",), (), LOOKS)
    assert elsewhere.replaced == (f"{new.replaced[0]}, measured otherwise",), "other points of the same runs"


SPOILT = {
    "schema": (["schema"], "1"),
    "plan": (["plan"], []),
    "protocol": (["plan", "protocol"], None),
    "training": (["plan", "training"], GONE),
    "plugins": (["plan", "plugins", "ce"], 7),
    "max_repeats": (["plan", "max_repeats"], True),
    "too_many": (["plan", "max_repeats"], 10**9),
    "smallest": (["plan", "smallest_difference"], float("nan")),
    "level": (["plan", "level"], 0.5),
    "figures": (["figures"], "tpr@0.1"),
    "figure": (["figures", 0], 1),
    "no_figure": (["figures"], []),
    "taken": (["taken"], {}),
    "repeats": (["taken", 0, "repeats"], 1),
    "spent": (["taken", 0, "level"], 0.04),
    "order": (["taken", 1, "repeats"], 3),
    "beyond": (["taken", 1, "repeats"], 9),
    "decided": (["taken", 0, "decided", 0, "a"], GONE),
    "stranger": (["taken", 0, "decided", 0, "b"], "mine"),
    "itself": (["taken", 0, "decided", 0, "b"], "ce"),
    "winner": (["taken", 0, "decided", 0, "ahead"], "cosface"),
    "equivalent": (["taken", 0, "decided", 0, "equivalent"], 1),
    "replaced": (["replaced"], [None]),
    "ended": (["ended"], GONE),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_no_looks_have_written_is_one_line(tmp_path, name):
    write_looks(tmp_path, LOOKS)
    path = tmp_path / FILE
    path.write_text(json.dumps(changed(json.loads(path.read_text()), *SPOILT[name])))
    with pytest.raises(InputError, match=r"\A[^\n]*settled.json[^\n]*; delete it and run the same command again"):
        read_looks(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_record_is_one_line(tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"\A[^\n]*settled.json[^\n]*; delete it"):
        read_looks(tmp_path)


def test_a_file_of_a_newer_version_is_one_line(tmp_path):
    (tmp_path / FILE).write_text('{"schema": 2}')
    with pytest.raises(InputError, match="has schema 2, this lossbench reads 1; upgrade lossbench"):
        read_looks(tmp_path)
