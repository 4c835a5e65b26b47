"""The errors that reach a user as a single line."""


class InputError(ValueError):
    """Something a user gave is wrong. The message names the value, the rule and the cure, in one line."""


class RunDamaged(InputError):
    """A file that a run wrote is missing or damaged: what needs other runs can go on without this one."""

    def __init__(self, what: str):
        super().__init__(f"{what}; delete the run's folder and give its command again: that trains this run alone")


class NobodyListens(BaseException):
    """What is printed goes nowhere, as in ``lossbench run | head``. No `Exception`: it is nobody's result."""


def stopped(words: list[str]) -> str:
    """Return what to say when a command, `words`, was stopped: whether it goes on when it is given again."""
    if words[:1] == ["run"] and "--force" in words:  # which begins again with what it has finished
        return "stopped; without --force the same command finishes the run that this one was at"
    goes_on = words[:1] == ["run"] or words[:2] == ["data", "prepare"]
    return "stopped; the same command goes on where this one ended" if goes_on else "stopped"


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of `known`, or an empty string when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
