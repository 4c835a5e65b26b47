"""Errors that a user sees as a single line."""

from collections.abc import Sequence

CONTINUE = "run the same command again to continue"  # the end of every message about a command that can be resumed


class InputError(ValueError):
    """Invalid user input. The message names the value, the rule and the cure, in one line."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it (IPython asks for this): the line, without the calls that led there."""
        return [f"{type(self).__name__}: {self}"]


class RunDamaged(InputError):
    """A file of a run is missing or damaged. Callers that handle several runs leave this one out and continue."""

    def __init__(self, what: str):
        self.what = what
        super().__init__(f"{what}; delete the run's folder and run its command again, which trains only this run")


class RunsDamaged(RunDamaged):
    """Files of several runs, or several files of one: all are named at once."""

    def __init__(self, damaged: Sequence[RunDamaged]):
        self.what = "; ".join(error.what for error in damaged)
        InputError.__init__(
            self,
            f"{len(damaged)} files of runs are damaged: {self.what}; delete the folders of these runs and run their "
            "command again, which trains only these runs",
        )


def refuse_damaged(damaged: Sequence[RunDamaged]) -> None:
    """Raise what is damaged, all of it in one error; do nothing where nothing is.

    Raises:
        RunDamaged: the list is not empty.
    """
    if damaged:
        raise damaged[0] if len(damaged) == 1 else RunsDamaged(damaged)


class ProcessLost(InputError):
    """One of several processes that train together has ended or failed alone. `said`: another has reported it."""

    def __init__(self, what: str, *, said: bool = False):
        self.said = said
        super().__init__(what)


class NobodyListens(BaseException):
    """Standard output is closed, as in ``lossbench run | head``. A `BaseException`: it is no failure of a run."""


def stopped(words: list[str]) -> str:
    """Return the message for a stopped command, given as its `words`: how to continue, if it can be continued."""
    if words[:1] == ["run"] and "--force" in words:  # which would train finished runs again
        return "stopped; run the same command without --force to continue"
    resumable = words[:1] == ["run"] or words[:2] == ["data", "prepare"]
    return f"stopped; {CONTINUE}" if resumable else "stopped"


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of `known`, or an empty string if none is close."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
