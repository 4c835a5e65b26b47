"""Choose X if: sentences that follow from the verdicts, by what matters to the reader."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lossbench.metrics.multiplicity import step_down
from lossbench.results.metric_fields import Metric, metric
from lossbench.results.study import Study
from lossbench.results.verdicts import LEVEL, Verdict
from lossbench.results.wording import are, means, named, numbers, places, title
from lossbench.utils.text import listed, rate_text

_SPEED = "images_per_second"
_NAMED = 5  # so many losses behind are named, more are counted
_MANY = 6  # so many losses to choose from are named; of more those that are not, where they are fewer


class Choice(NamedTuple):
    """What to choose, and when; `figures` are the keys of what it rests on, none where that is the runs themselves."""

    when: str
    text: str
    figures: tuple[str, ...]


def choices(study: Study, found: Sequence[Verdict]) -> list[Choice]:
    """Return what to choose by false-positive rate, by what is counted, by cost and by survival.

    A loss leads at a figure where no other is ahead of it. Nothing is recommended on means alone.

    Args:
        study: the runs.
        found: their verdicts.
    """
    compared = [v for v in found if v.difference.count > 1]
    figures = sorted(dict.fromkeys(v.figure for v in compared), key=lambda figure: figure.point is None)
    if not figures:
        return []
    lead = {figure: tuple(leaders(study, [v for v in compared if v.figure == figure])) for figure in figures}
    made = [_at(study, group, lead[group[0]], compared) for group in _groups(lead)]
    everywhere = [name for name in study.trained if all(name in own for own in lead.values())]
    if len(made) > 1:
        made.append(_whatever(study, everywhere, figures))
    if cost := _cost(study, everywhere or lead[figures[0]]):
        made.append(cost)
    return [*made, _survival(study)]


def uncompared(study: Study, found: Sequence[Verdict]) -> str:
    """Return a sentence on losses that no verdict is about, and why; empty where there are none."""
    compared = {name for v in found if v.difference.count > 1 for name in (v.a, v.b)}
    others = [name for name in study.trained if name not in compared]
    if not others or not compared:
        return ""
    finished = {name: sum(r["status"] == "finished" for r in study.of_entrant(name)) for name in others}
    why = [f"{name} ({finished[name]} finished run{'s' * (finished[name] != 1)})" for name in others]
    return f"Nothing is said of {listed(why)}: a verdict needs two repeats that both losses have finished."


def leaders(study: Study, own: Sequence[Verdict]) -> list[str]:
    """Return the losses that were compared at a figure and that no other is ahead of.

    Args:
        study: the runs.
        own: the verdicts at the figure.
    """
    there = {name for v in own for name in (v.a, v.b)}
    beaten = {name for v in own for name in (v.a, v.b) if v.ahead not in (None, name)}
    return [name for name in study.trained if name in there - beaten]


def _groups(lead: Mapping[Metric, tuple[str, ...]]) -> list[list[Metric]]:
    """Return the figures, operating points with the same leaders together: what holds for both is said once."""
    found: dict[tuple[bool, tuple[str, ...]], list[Metric]] = {}
    for figure, names in lead.items():
        found.setdefault((figure.point is None, names), []).append(figure)
    return list(found.values())


def _at(study: Study, figures: Sequence[Metric], lead: Sequence[str], compared: Sequence[Verdict]) -> Choice:
    there = {name for v in compared if v.figure in figures for name in (v.a, v.b)}
    behind = [name for name in study.trained if name in there and name not in lead]
    where = places([(figure, numbers(study, lead, figure, behind)) for figure in figures], study)
    if not behind:
        text = f"Any of the {len(lead)}: none is ahead of another in {where}."
    else:
        others = "no other is ahead of it" if len(lead) == 1 else "no other is ahead of them"
        which = f"which {are(behind)} behind"
        rest = (
            f" Not {listed(behind, 'or')}, {which}."
            if len(behind) <= _NAMED
            else f" The other {len(behind)} {which[6:]}."
        )
        if any_but := _any_but(lead, behind):
            text = f"{any_but}, {which}: {others} in {where}."
        else:
            text = f"{listed(lead, 'or')}: {others} in {where}.{rest}"
    return Choice(_counted(figures), text, tuple(figure.key for figure in figures))


def _any_but(names: Sequence[str], others: Sequence[str]) -> str:
    """Name the losses not to choose, where those to choose from are many, and more than these; else return nothing."""
    return f"Any but {listed(others, 'or')}" if others and _MANY < len(names) > len(others) else ""


def _counted(figures: Sequence[Metric]) -> str:
    rates = [figure.point for figure in figures if figure.point is not None]
    if not rates:
        return f"training people are to be recognised ({listed([title(figure) for figure in figures])})"
    times = [1 / rate for rate in rates]
    whole = all(math.isclose(one, round(one)) for one in times)
    spoken = f": one wrong match in {listed([f'{one:,.0f}' for one in times], 'or')}" if whole else ""
    return f"unseen people are to be told apart at FPR {listed([rate_text(rate) for rate in rates], 'or')}{spoken}"


def _whatever(study: Study, names: Sequence[str], figures: Sequence[Metric]) -> Choice:
    keys = tuple(figure.key for figure in figures)
    if not names:
        return Choice("all of these count", "No loss leads everywhere: decide which figure counts.", keys)
    others = "it" if len(names) == 1 else "them"
    chosen = _any_but(names, [name for name in study.trained if name not in names]) or listed(names, "or")
    return Choice("all of these count", f"{chosen}: no other is ahead of {others} at any figure.", keys)


def _cost(study: Study, names: Sequence[str]) -> Choice | None:
    """Say which of these losses train fastest, as far as their repeats tell: paired differences in images/s."""
    found = zip(names, means(study, names, metric(_SPEED)), strict=True) if names else ()
    speeds = {name: speed for name, speed in found if not math.isnan(speed)}
    if len(speeds) < 2:
        return None
    fastest = max(speeds, key=lambda name: speeds[name])
    others = [name for name in speeds if name != fastest]
    p_values = step_down([study.difference(fastest, name, _SPEED).p_value for name in others])
    slower = [name for name, p in zip(others, p_values, strict=True) if p < LEVEL]
    span = f"{min(speeds.values()):,.0f} to {max(speeds.values()):,.0f} images/s"
    if slower:
        rest, trains = [n for n in speeds if n not in slower], "trains" if len(slower) == 1 else "train"
        any_but = _any_but(rest, slower)
        text = f"{any_but}, which" if any_but else f"{listed(rest, 'or')}; {named(slower, slower, every='the others')}"
        text = f"{text} {trains} more slowly ({span})."
    else:
        text = (
            f"It does not decide among {named(list(speeds), study.trained)}: none trained measurably faster ({span})."
        )
    return Choice("training time counts", text, (_SPEED,))


def _survival(study: Study) -> Choice:
    ended = {n: [r["status"] == "finished" for r in study.of_entrant(n)] for n in study.trained}
    failed = {n: f"{n} ({own.count(False)} of {len(own)} runs)" for n, own in ended.items() if not all(own)}
    if failed:
        whole = [name for name in ended if name not in failed]
        chosen = f"{listed(whole, 'or')}, which finished every run" if whole else "No loss finished every run"
        if len(whole) > _MANY:
            chosen = f"Any of the {len(whole)} that finished every run"
        text = f"{chosen}. Failed: {listed(list(failed.values()))}."
    else:
        least = min(len(own) for own in ended.values())
        bound = 100 * (1 - LEVEL ** (1 / least))  # with so many failing, this many in a row finish in one case of 20
        rest = f"With {least} of each loss, a failure rate of up to {bound:.0f} % cannot be ruled out."
        text = f"It does not decide: every run finished. {rest}"
    return Choice("a failed training is expensive", text, ())
