"""What the data cannot tell: how many pairs are open at each figure, and what would settle the nearest one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from lossbench.report.gains import signed
from lossbench.results.metric_fields import Metric
from lossbench.results.verdicts import Verdict

_MORE_PEOPLE = (2, 3, 5, 10, 20, 50)  # times as many
_MOST_REPEATS = 100  # a plan for more is none


class Plan(NamedTuple):
    """What would settle a pair with an even chance: times as many people (1: the same), and further repeats."""

    people: int
    repeats: int

    @property
    def text(self) -> str:
        """The plan in words."""
        repeats = f"{self.repeats} more repeat{'s' * (self.repeats != 1)}"
        if self.people == 1:
            return repeats
        times = "twice" if self.people == 2 else f"{self.people} times"
        return f"{times} as many people" + (f" and {repeats}" if self.repeats else "")


class Unsettled(NamedTuple):
    """The open pairs at a figure: how many of those compared, the one nearest to a verdict, and what would settle it.

    `repeats` counts the open pairs that more repeats alone would settle, `people` those that need more people.
    """

    figure: Metric
    open: int
    compared: int
    a: str
    b: str
    difference: str
    settled_by: str
    repeats: int
    people: int


def unsettled(found: Sequence[Verdict]) -> list[Unsettled]:
    """Return a row per figure that has open pairs, operating points first."""
    made = []
    figures = dict.fromkeys(v.figure for v in found)
    for figure in sorted(figures, key=lambda figure: figure.point is None):
        compared = [v for v in found if v.figure == figure and v.difference.count > 1]
        still = [v for v in compared if not v.settled]
        if not still:
            continue
        plans = {i: own for i, v in enumerate(still) if (own := plan(v))}
        if plans:
            nearest = min(plans, key=lambda i: plans[i])
            by = plans[nearest].text
        else:
            nearest = min(range(len(still)), key=lambda i: still[i].difference.p_value)
            by = f"not even {_MORE_PEOPLE[-1]} times as many people and {_MOST_REPEATS} repeats"
        v, alone = still[nearest], sum(own.people == 1 for own in plans.values())
        made.append(
            Unsettled(
                figure, len(still), len(compared), v.a, v.b, signed(v.difference, True), by, alone, len(still) - alone
            )
        )
    return made


def plan(v: Verdict) -> Plan | None:
    """Return the least that would settle a pair if the difference seen is the true one, as far as this data tells.

    With k times the people their part of the variance is a k-th; that of the seeds is taken to stay as it is, which is
    cautious. None where 50 times the people and 100 repeats would not do.
    """
    for times in (1, *_MORE_PEOPLE):
        more = replace(v.difference, shared=v.difference.shared / times)
        enough = replace(v, difference=more, lasting=v.lasting / times).repeats_to_settle
        if enough and enough <= _MOST_REPEATS:
            return Plan(times, enough - v.difference.count)
    return None
