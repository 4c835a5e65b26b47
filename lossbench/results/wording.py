"""The parts of a sentence about several losses: figures named with their numbers, groups, and the same said once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from lossbench.results.metric_fields import Metric, fewest_above
from lossbench.results.study import Study
from lossbench.utils.text import listed, rate_text

MOST = 3  # clauses of a sentence, and numbers given one by one
_MANY = 6  # so many losses are named, one by one
_LEFT = 5  # so many that others are not


@dataclass(frozen=True)
class Clause:
    """What is said of some losses, such as "a is ahead of b", at one figure, in numbers, of so many pairs."""

    said: str
    figure: Metric
    numbers: str
    pairs: int


def are(names: Sequence[str]) -> str:
    """Return the verb that goes with so many losses."""
    return "is" if len(names) == 1 else "are"


def named(names: Sequence[str], among: Sequence[str], joint: str = "and", every: str = "all losses") -> str:
    """Name losses in a sentence: where they are many, by those that are left out, or the first ones and a count.

    Args:
        names: the losses.
        among: all there are.
        joint: what stands before the last one.
        every: what all of them are called.

    Example:
        >>> named("abc", "abcdefghij"), named("abcdefgh", "abcdefghij"), named("abcdefgh", "abcdefghijklmnop")
        ('a, b and c', 'all losses other than i and j', 'a, b, c and 5 more')
    """
    left = [name for name in among if name not in names]
    if len(names) <= _MANY:
        return listed(list(names), joint)
    if len(left) <= _LEFT:
        but = "except" if every.endswith("others") else "other than"
        return f"{every} {but} {listed(left)}" if left else every
    return listed([*names[:MOST], f"{len(names) - MOST} more"], joint)


def joined(clauses: Sequence[Clause], study: Study) -> str:
    """Return clauses as one: what is said at several figures is said once, and beyond `MOST` only counted."""
    by_said: dict[str, list[tuple[Metric, str]]] = {}
    for clause in clauses:
        by_said.setdefault(clause.said, []).append((clause.figure, clause.numbers))
    shown = list(by_said)[:MOST]
    texts = [f"{said} in {places(by_said[said], study)}" for said in shown]
    if more := sum(clause.pairs for clause in clauses if clause.said not in shown):
        texts.append(f"{more} more in the verdicts")
    return "; ".join(texts)


def places(found: Sequence[tuple[Metric, str]], study: Study) -> str:
    """Name figures with their numbers, of several operating points only the first in full; thin ones are marked."""
    texts, named = [], False
    for figure, numbers in found:
        name = f"@ {rate_text(figure.point)}" if figure.point is not None and named else title(figure)
        named = named or figure.point is not None
        fewest = fewest_above(figure, study.records)
        thin = "" if fewest is None else f"thin: {fewest} negative{'s' * (fewest != 1)} above the threshold"
        inside = "; ".join(filter(None, [numbers, thin]))
        texts.append(f"{name} ({inside})" if inside else name)
    return listed(texts)


def title(figure: Metric) -> str:
    """Return a figure's title without brackets, as numbers in brackets may follow: accuracy by class means."""
    return figure.title.replace(" (", " by ").rstrip(")")


def means(study: Study, names: Sequence[str], figure: Metric) -> list[float]:
    """Return each loss's mean over the repeats that all of them have; over its own where they share none."""
    there = [{r for r, v in study.values(name, figure.key).items() if not math.isnan(v)} for name in names]
    return [study.mean(name, figure.key, there[0].intersection(*there) or None) for name in names]


def numbers(study: Study, names: Sequence[str], figure: Metric, against: Sequence[str] = ()) -> str:
    """Return the means of some losses, or their range where they are many, against those of others."""
    found = means(study, [*names, *against], figure)
    sides = found[: len(names)], found[len(names) :]
    return " against ".join(_span(side, figure.digits) for side in sides if side)


def _span(values: Sequence[float], digits: int) -> str:
    if len(values) <= MOST:
        return listed([f"{value:.{digits}f}" for value in values])
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def groups(order: Sequence[str], pairs: set[frozenset[str]]) -> list[tuple[list[str], int]]:
    """Cover pairs by groups of names, every two of which are a pair.

    Args:
        order: all names; groups grow in this order.
        pairs: of names.

    Returns:
        Each group, and how many of its pairs no group before it holds.

    Example:
        >>> groups("abcd", {frozenset(pair) for pair in ("ab", "bc", "ac", "cd")})
        [(['a', 'b', 'c'], 3), (['c', 'd'], 1)]
    """
    found, left = [], set(pairs)
    for first in combinations(order, 2):
        if frozenset(first) not in left:
            continue
        group = list(first)
        for name in order:
            if name not in group and all(frozenset((name, other)) in pairs for other in group):
                group.append(name)
        own = {frozenset(pair) for pair in combinations(group, 2)}
        found.append((sorted(group, key=list(order).index), len(own & left)))
        left -= own
    return found
