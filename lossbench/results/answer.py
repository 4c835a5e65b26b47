"""The answer in words: what the verdicts of a study say, in at most six sentences."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from lossbench.losses.plugin import UNTRAINED
from lossbench.results.metric_fields import Metric, shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.results.wording import MOST, Clause, are, groups, joined, means, named, numbers, places, title
from lossbench.utils.text import listed

_ByFigure = dict[Metric, list[Verdict]]


def answer(study: Study, found: Sequence[Verdict]) -> list[str]:
    """Return what the verdicts say, in at most six sentences, each with the figures it is about.

    Who is no better than the untrained network, who is ahead, where accuracy and identification disagree, who cannot be
    told apart, who is equivalent, and what more repeats or more people would settle. The number of a loss is its mean
    over the repeats that all losses named with it have finished.

    Args:
        study: the runs.
        found: their verdicts.
    """
    compared = [v for v in found if v.difference.count > 1]
    if not compared:
        return [*filter(None, [_no_better_than_untrained(study)]), _nothing_compared(study)]
    figures = sorted(dict.fromkeys(v.figure for v in compared), key=_identification_first)
    by_figure = {figure: [v for v in compared if v.figure == figure] for figure in figures}
    sentences = (
        _no_better_than_untrained(study),
        _ahead(study, by_figure),
        _disagreement(study, by_figure),
        _not_told_apart(study, by_figure),
        _equivalent(study, by_figure),
        _further(study, compared),
    )
    return [_begun(sentence) for sentence in sentences if sentence]


def _begun(sentence: str) -> str:
    """Return a sentence with a capital letter, unless the name of a loss comes first."""
    ours = sentence.startswith(("all others ", "all losses ", "no two of "))
    return sentence[0].upper() + sentence[1:] if ours else sentence


def _nothing_compared(study: Study) -> str:
    there = [name for name in study.trained if _repeats(study, name)]
    failed = _failed(study)
    if not there:
        return (
            f"There is nothing to compare: {failed}." if failed else "There is nothing to compare: no loss was trained."
        )
    seen = _seen(study, there)
    if len(there) == 1:
        text = f"There is nothing to compare: {there[0]} is the only loss with a result{seen}"
    else:
        text = (
            f"{named(there, study.trained)} cannot be compared yet{seen}: no two of them have finished two repeats in "
            "common, and another seed may reverse their order; a second repeat is needed"
        )
    return f"{text}; {failed}." if failed else f"{text}."


def _no_better_than_untrained(study: Study) -> str:
    """Say which losses have not helped, by their means: verdicts are about losses, and not about `UNTRAINED`."""
    clauses = []
    for figure in sorted(shown_in("highlights", fprs=study.fprs), key=_identification_first):
        pairs = {name: means(study, [name, UNTRAINED], figure) for name in study.trained}
        names = [name for name, (mean, before) in pairs.items() if mean <= before]  # no NaN is
        if names:
            said = f"{named(names, study.trained)} {are(names)} no better than the untrained network"
            clauses.append(Clause(said, figure, numbers(study, names, figure, against=[UNTRAINED]), len(names)))
    return f"Training has not helped everywhere: {joined(clauses, study)}." if clauses else ""


def _seen(study: Study, names: Sequence[str]) -> str:
    """Return the first figure that all these losses have, from the best down."""
    for figure in sorted(shown_in("verdicts", fprs=study.fprs), key=_identification_first):
        found = means(study, names, figure)
        if all(map(math.isfinite, found)):
            best = sorted(zip(found, names, strict=True), key=lambda pair: -pair[0])
            texts = [f"{mean:.{figure.digits}f} for {name}" for mean, name in best]
            return f" ({title(figure)}: {named(texts, texts, every=f'{texts[0]} to {texts[-1]}')})"
    return ""


def _ahead(study: Study, by_figure: _ByFigure) -> str:
    clauses = []
    for figure, own in by_figure.items():
        beaten = {name: tuple(n for n in study.trained if _leads(own, name, n)) for name in study.trained}
        for losers in dict.fromkeys(filter(None, beaten.values())):
            winners = [name for name in study.trained if beaten[name] == losers]
            rest = [name for name in study.trained if name not in losers]
            said = f"{named(winners, rest, every='all others')} {are(winners)} ahead of {named(losers, study.trained)}"
            found = numbers(study, winners, figure, against=losers)
            if all(v.equivalent for v in own if v.ahead in winners and {v.a, v.b} & set(losers)):
                found += f", less than {own[0].smallest:g} apart"
            clauses.append(Clause(said, figure, found, len(winners) * len(losers)))
    if not clauses:
        return f"No loss is ahead of another in {places([(figure, '') for figure in by_figure], study)}."
    return f"{joined(clauses, study)}."


def _disagreement(study: Study, by_figure: _ByFigure) -> str:
    """Say where accuracy and identification point in opposite directions: by two verdicts, or by one and the means."""
    points, others = ([f for f in by_figure if (f.point is None) == without] for without in (False, True))
    ways = [way for point in points for other in others for way in ((point, other), (other, point))]
    clauses, told = [], set()
    for confirmed in (True, False):
        for lead, lag in ways:
            for winner in study.trained:
                losers = [
                    name
                    for name in study.trained
                    if _leads(by_figure[lead], winner, name)
                    and (_leads if confirmed else _is_higher)(by_figure[lag], name, winner)
                    and frozenset((winner, name)) not in told
                ]
                if losers:
                    told |= {frozenset((winner, name)) for name in losers}
                    clauses.append(_opposed(study, winner, losers, lead, lag, confirmed=confirmed))
    return f"Accuracy and identification disagree: {'; '.join(clauses[:MOST])}." if clauses else ""


def _opposed(study: Study, winner: str, losers: list[str], lead: Metric, lag: Metric, *, confirmed: bool) -> str:
    found = numbers(study, [winner], lead, losers)
    ahead = f"{winner} is ahead of {named(losers, study.trained)} in {title(lead)} ({found})"
    behind = numbers(study, [winner], lag, losers)
    if confirmed:
        return f"{ahead} but behind in {title(lag)} ({behind})"
    return f"{ahead}, but its {title(lag)} is lower ({behind}), a gap that these repeats do not confirm"


def _not_told_apart(study: Study, by_figure: _ByFigure) -> str:
    clauses = []
    for figure, own in by_figure.items():
        open_ = {frozenset((v.a, v.b)) for v in own if not v.settled}
        everyone = {name for v in own for name in (v.a, v.b)}
        for names, pairs in groups(study.trained, {frozenset((v.a, v.b)) for v in own if v.ahead is None}):
            if not open_ & {frozenset(pair) for pair in combinations(names, 2)}:
                continue  # all are equivalent, which is said by itself
            left = [name for name in study.trained if name in everyone and name not in names]
            whole = len(names) > MOST and not left
            said = f"no two of the {len(names)} losses compared can" if whole else _cannot(names, left)
            clauses.append(Clause(f"{said} be told apart", figure, numbers(study, names, figure), pairs))
    text = joined(clauses, study)
    return f"{text}." if text else ""


def _cannot(names: Sequence[str], left: Sequence[str]) -> str:
    """Return the subject and verb of "be told apart", given the names and those of the others that were compared."""
    short = named(names, [*names, *left], every=f"the {len(names)} losses")
    return f"{short} cannot" if short == listed(names) else f"no two of {short} can"


def _equivalent(study: Study, by_figure: _ByFigure) -> str:
    clauses, smallest = [], 0.0
    for figure, own in by_figure.items():
        same = {frozenset((v.a, v.b)) for v in own if v.equivalent and v.ahead is None}
        smallest = own[0].smallest
        for names, pairs in groups(study.trained, same):
            said = f"{named(names, study.trained)} are equivalent"
            clauses.append(Clause(said, figure, numbers(study, names, figure), pairs))
    text = joined(clauses, study)
    return f"{text}: with 95 % confidence they differ by less than {smallest:g}." if text else ""


def _further(study: Study, compared: Sequence[Verdict]) -> str:
    """Say what more repeats or people would settle, what looks erred on, who needs a second repeat, who has failed."""
    parts = [_still_open([v for v in compared if not v.settled], len({v.figure for v in compared}))]
    if against := [f"{v.a} and {v.b} in {title(v.figure)}" for v in compared if v.contradicted]:
        more = [f"{len(against) - MOST} more"] if len(against) > MOST else []
        parts.append(
            f"the means of all repeats speak against what an early look decided on {listed(against[:MOST] + more)}"
        )
    if short := [name for name in study.trained if len(_repeats(study, name)) == 1]:
        have, need = ("has", "needs") if len(short) == 1 else ("have", "need")
        parts.append(f"{named(short, study.trained)} {have} one finished repeat and {need} a second to be compared")
    return f"{'; '.join(filter(None, [*parts, _failed(study)]))}."


def _still_open(still: Sequence[Verdict], figures: int) -> str:
    if not still:
        return "Every comparison is settled: more repeats would change nothing that matters"
    what = f"{len(still):,} comparisons still open" if len(still) > 1 else "one comparison still open"
    if figures > 1:
        what += f" over all {figures} figures compared"
    needed = {i: repeats for i, v in enumerate(still) if (repeats := v.repeats_to_settle)}
    if not needed:
        return f"More repeats alone would not settle the {what}: more people are needed"
    nearest = min(needed, key=lambda i: (needed[i], _identification_first(still[i].figure)))
    least, most = needed[nearest], max(needed.values())
    span = f"{least}" if least == most else f"{least} to {most:,}"
    first = f"{still[nearest].a} and {still[nearest].b} in {title(still[nearest].figure)}"
    people = len(still) - len(needed)
    if len(still) > 1:
        first += " first"
    return (
        f"If the differences seen are the true ones, {span} repeats in all have an even chance of settling "
        f"{f'{len(needed):,} of ' if people else ''}the {what} ({first})"
        + (f"; {people:,} need{'s' * (people == 1)} more people" if people else "")
    )


def _failed(study: Study) -> str:
    failed = [name for name in study.trained if not _repeats(study, name)]
    return f"{named(failed, study.trained)} failed in every repeat" if failed else ""


def _repeats(study: Study, name: str) -> list[int]:
    return [record["repeat"] for record in study.of_entrant(name) if record["status"] == "finished"]


def _leads(own: Iterable[Verdict], winner: str, loser: str) -> bool:
    return any(v.ahead == winner and {v.a, v.b} == {winner, loser} for v in own)


def _is_higher(own: Iterable[Verdict], high: str, low: str) -> bool:
    """Return whether one mean is higher by as much as matters, where no verdict says who is ahead."""
    for v in own:
        if {v.a, v.b} == {high, low} and v.ahead is None:
            return (v.difference.mean if v.a == high else -v.difference.mean) >= v.smallest
    return False


def _identification_first(figure: Metric) -> bool:
    return figure.point is None
