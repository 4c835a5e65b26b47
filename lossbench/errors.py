"""The one error that reaches a user as a single line."""


class InputError(ValueError):
    """Something a user gave is wrong. The message names the value, the rule and the cure, in one line."""


class NobodyListens(BaseException):
    """What is printed goes nowhere, as in ``lossbench run | head``. No `Exception`: it is nobody's result."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of `known`, or an empty string when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
