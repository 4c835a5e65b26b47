"""tests/perf/growth.py: which phases it finds to grow faster than the images."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "perf"))
from growth import judged

BEFORE = {"images": 100, "phases": {"open": (1.0, 300), "decode": (2.0, 300), "reopen": (0.01, 300)}}


def now(**seconds):
    return {"images": 700, "phases": {name: (value, 900) for name, value in seconds.items()}}


def test_phases_that_grow_with_the_images_are_fine_up_to_a_tenth():
    line, fine = judged(BEFORE, now(open=7.6, decode=3.0, reopen=0.9))
    assert fine
    assert line == "grew faster than the images, in seconds: open no, decode no, reopen too short to tell"


def test_a_phase_that_grows_faster_is_named_and_fails():
    line, fine = judged(BEFORE, now(open=7.8, decode=14.0, reopen=1.0))
    assert not fine
    assert line.endswith("open FASTER, decode no, reopen FASTER")
