"""Whether a benchmark that adds repeats is settled, and why it stops: pure functions of the looks and of the runs."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from lossbench.results.looks import Decision, Look, Looks
from lossbench.results.metric_fields import Metric, metric, shown_in
from lossbench.results.people_error import people_limit
from lossbench.results.study import Study
from lossbench.results.verdicts import SMALLEST, Verdict, verdicts
from lossbench.utils.text import listed

_NAMED = 3  # so many open pairs a sentence names


@dataclass(frozen=True)
class Comparison:
    """Two trained entrants at a figure that is to be settled; no verdict where they share no finished repeat."""

    figure: Metric
    a: str
    b: str
    verdict: Verdict | None

    @property
    def settled(self) -> bool:
        """Whether a look has decided it."""
        return self.verdict is not None and self.verdict.settled

    @property
    def repeats(self) -> int:
        """How many repeats both have finished."""
        return self.verdict.difference.count if self.verdict else 0


def figures_to_settle(study: Study) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys of the figures at which every pair is to be settled, and of those that no run supports.

    They are the figures that a report's verdicts show: accuracy by class means and the operating points chosen by
    ``--fpr``, four at most; without it, FPR 0.1 and 0.01.
    """
    wanted = [figure.key for figure in shown_in("highlights", fprs=study.fprs)]
    if all(record["status"] == "failed" for record in study.records):
        return tuple(wanted), ()
    supported = [key for key in wanted if any(study.estimate(name, key).count for name in study.trained)]
    supported = supported or wanted  # every trained run has failed
    return tuple(supported), tuple(key for key in wanted if key not in supported)


def look(looks: Looks, study: Study) -> Looks:
    """Look at all repeats of the study, unless a look has seen as many: every pair, at every figure of the verdicts."""
    repeats = study.repeats
    if repeats <= looks.repeats:
        return looks
    level = looks.plan.level_of_look(repeats, looks.repeats)
    decided = []
    for found in verdicts(study, level=level, smallest=looks.plan.smallest_difference):
        before = looks.decided(found.figure.key, found.a, found.b)
        ahead = None if before.ahead else found.ahead
        equivalent = found.equivalent and not before.equivalent
        if ahead or equivalent:
            decided.append(Decision(found.figure.key, found.a, found.b, ahead, equivalent))
    return replace(looks, taken=(*looks.taken, Look(repeats, level, tuple(decided))), ended="")


def judged(study: Study, looks: Looks | None, smallest: float = SMALLEST) -> list[Verdict]:
    """Return the verdicts, decided by the looks where there are any: a difference that none of them found is not ahead.

    Losses that the looks do not cover have no verdict then, see `uncovered_text`.

    Args:
        study: the runs.
        looks: those at these runs, see `results.looks.looks_at`; None where repeats were not added until settled.
        smallest: the difference of shares that matters; that of the looks wins.
    """
    if looks is None:
        return verdicts(study, smallest=smallest)
    found = verdicts(study, level=looks.level, smallest=looks.plan.smallest_difference)
    covered = [v for v in found if {v.a, v.b} <= set(looks.plan.plugins)]
    return [replace(v, decided=looks.decided(v.figure.key, v.a, v.b)) for v in covered]


def uncovered_text(looks: Looks | None, study: Study) -> str:
    """Return which losses of a study the looks have not seen; empty where there are none."""
    others = [name for name in study.trained if looks and name not in looks.plan.plugins]
    if not others:
        return ""
    return (
        f"The looks of --until-settled do not cover {listed(others)}, so no verdict is given on "
        f"{'it' if len(others) == 1 else 'them'}; to have one, run --until-settled with all losses."
    )


def comparisons(looks: Looks, study: Study) -> list[Comparison]:
    """Return every pair of trained entrants at every figure that is to be settled."""
    found = {(v.figure.key, v.a, v.b): v for v in judged(study, looks)}
    return [
        Comparison(metric(key), a, b, found.get((key, a, b)))
        for key in looks.figures
        for a, b in combinations(study.trained, 2)
    ]


def progress_text(looks: Looks, study: Study) -> str:
    """Return how far the looks are, in a line."""
    every = comparisons(looks, study)
    return (
        f"look {len(looks.taken)}, after {looks.repeats} repeats of at most {looks.plan.max_repeats}: "
        f"{sum(c.settled for c in every)} of {len(every)} comparisons settled"
    )


def why_stop(looks: Looks, study: Study, minutes: str = "") -> str:
    """Return the sentence in which the command ends, or nothing while another repeat is to be added.

    Args:
        looks: those taken, the last one at the repeats of the study.
        study: the runs.
        minutes: how the budget of minutes is spent, if it is.
    """
    every, repeats = comparisons(looks, study), study.repeats
    left = [c for c in every if not c.settled]
    if not left:
        return _settled_text(every, repeats, looks.plan.smallest_difference)
    failing = [c for c in left if c.repeats < 2 and repeats - c.repeats >= 2]
    few_people = [c for c in left if c.verdict and _only_people_help(looks, study, c.verdict)]
    still = f"{len(left)} of {len(every)} comparisons {'are' if len(left) > 1 else 'is'} open"
    if len(failing) == len(left):
        return f"Stopped after {repeats} repeats: {still}, because {_failing(study, left)}."
    if len(failing) + len(few_people) == len(left):
        failed = f"; {_failing(study, failing)}" if failing else ""
        return (
            f"Stopped after {repeats} repeats: {still}, and more repeats alone could not settle "
            f"{_named(few_people)}: more people are needed{failed}."
        )
    people = f"; only more people would help for {_named(few_people)}" if few_people else ""
    if repeats >= looks.plan.max_repeats:
        return f"Stopped at the limit of {repeats} repeats (--max-repeats): {still} ({_named(left)}){people}."
    return f"Stopped after {repeats} repeats {minutes}: {still} ({_named(left)}){people}." if minutes else ""


def _settled_text(every: Sequence[Comparison], repeats: int, smallest: float) -> str:
    ahead = sum(c.verdict is not None and c.verdict.ahead is not None for c in every)
    parts = [f"in {ahead} one loss is ahead"] * (ahead > 0)
    if ahead < len(every):
        parts.append(f"in {len(every) - ahead} the two are equivalent (within {smallest:g})")
    titles = listed(list(dict.fromkeys(c.figure.title for c in every)))
    what = f"all {len(every)} comparisons" if len(every) > 1 else "the one comparison"
    return f"Settled after {repeats} repeats: of {what} at {titles}, {' and '.join(parts)}."


def _named(left: Sequence[Comparison]) -> str:
    titles: dict[str, list[str]] = {}
    for c in left:
        titles.setdefault(f"{c.a} and {c.b}", []).append(c.figure.title)
    more = f"; and {len(titles) - _NAMED} more pairs" if len(titles) > _NAMED + 1 else ""
    pairs = [f"{pair} at {listed(own)}" for pair, own in titles.items()]
    return "; ".join(pairs[:_NAMED] if more else pairs) + more


def _failing(study: Study, left: Sequence[Comparison]) -> str:
    """Return which losses cannot be compared, and the cure."""
    finished = Counter(record["entrant"] for record in study.records if record["status"] == "finished")
    losses = [name for name in study.trained if finished[name] < 2]
    if all(c.a in losses or c.b in losses for c in left):
        what = f"{listed(losses)} {'have' if len(losses) > 1 else 'has'} finished fewer than two runs"
    else:
        what = f"fewer than two repeats have been finished by both losses ({_named(left)})"
    return f"{what}; --retry-failed repeats failed runs"


def _only_people_help(looks: Looks, study: Study, verdict: Verdict) -> bool:
    """Return whether no number of repeats would settle a pair, at the level of the next look: no later one has more.

    The people's error alone must be too large for equivalence whatever the difference, and too large for the difference
    seen, even if that is larger by one standard error of all that is not the people's.
    """
    limit = people_limit(study, verdict.a, verdict.b, verdict.figure.key)
    difference = verdict.difference
    if difference.count < 2 or math.isnan(limit):
        return False
    most = looks.plan.max_repeats
    level = looks.plan.level_of_look(min(looks.repeats + 1, most), min(looks.repeats, most - 1))
    farthest = abs(difference.mean) + math.sqrt(max(0.0, difference.error**2 - limit))
    endless = replace(difference, mean=farthest, between=0.0, shared=limit)
    never_equivalent = not replace(endless, mean=0.0).within(verdict.smallest, level)
    return never_equivalent and endless.people_decide(verdict.each * level / verdict.level)
