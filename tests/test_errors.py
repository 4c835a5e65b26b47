"""Messages that users see in one line."""

import pytest

from lossbench.errors import InputError, NobodyListens, RunDamaged, did_you_mean, stopped


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--losses", "ce"], "stopped; run the same command again to continue"),
        (["data", "prepare", "folder"], "stopped; run the same command again to continue"),
        (["run", "--losses", "ce", "--force"], "stopped; run the same command without --force to continue"),
        (["report"], "stopped"),
        (["data", "check", "run"], "stopped"),
        (["embed", "run", "--force"], "stopped"),
        ([], "stopped"),
    ],
)
def test_a_stopped_command_says_how_to_continue_if_it_can_be_continued(words, says):
    assert stopped(words) == says


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("arcfce", "; did you mean 'arcface'?"),
        ("cosfac", "; did you mean 'cosface'?"),
        ("arcface_tripet", "; did you mean 'arcface_triplet'?"),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_the_closest_known_word_is_suggested_if_one_is_close(word, says):
    assert did_you_mean(word, ["arcface", "arcface_triplet", "cosface", "ce"]) == says
    assert did_you_mean(word, []) == ""


def test_a_damaged_run_names_the_cure_and_is_bad_input():
    error = RunDamaged("x/run.json is damaged")
    assert isinstance(error, InputError)
    assert error.what == "x/run.json is damaged"
    assert str(error) == (
        "x/run.json is damaged; delete the run's folder and run its command again, which trains only this run"
    )


def test_a_closed_output_is_not_taken_for_the_failure_of_a_run():
    """What isolates runs from one another catches `Exception`."""
    assert not issubclass(NobodyListens, Exception)
