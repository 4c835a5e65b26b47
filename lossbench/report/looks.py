"""The report's account of the looks at a benchmark that added repeats until it was settled."""

from lossbench.report.markup import Part
from lossbench.results.looks import Look, Looks
from lossbench.results.metric_fields import metric
from lossbench.results.settling import uncovered_text
from lossbench.results.study import Study
from lossbench.utils.text import listed


def looks_part(looks: Looks | None, study: Study) -> Part | None:
    """Return the section on the looks that decided the verdicts; None where the number of repeats was fixed before.

    Args:
        looks: what ``settled.json`` holds.
        study: the runs that the report shows.
    """
    if looks is None:
        return None
    plan, titles = looks.plan, listed([metric(key).title for key in looks.figures])
    text = [
        f"Repeats were added to settle every pair at {titles}: one ahead, or both equivalent (within "
        f"{plan.smallest_difference:g}). The limit was {plan.max_repeats} repeats. Each look at the verdicts "
        f"spends a part of the level {plan.level:g}, so that all looks together err no more often than one test would "
        "(Lan & DeMets 1983, spending function of Pocock's kind). What a look decided stays, and only what a look "
        "decided is called ahead or equivalent."
    ]
    if looks.left_out:
        left_out = listed([metric(key).title for key in looks.left_out])
        text.append(f"Not to be settled, because the data does not support it: {left_out}.")
    if looks.replaced:
        text.append(
            f"These looks replace {'; '.join(looks.replaced)}. Each plan by itself keeps the level; together "
            "they err more often."
        )
    rows = [_row(number, look, looks) for number, look in enumerate(looks.taken, start=1)]
    headers = ["look", "repeats", "level", "newly ahead", "newly equivalent"]
    return Part("Looks at the verdicts", tuple(text), headers, rows, tuple(_endings(looks, study)))


def _row(number: int, look: Look, looks: Looks) -> list[str]:
    own = [d for d in look.decided if d.figure in looks.figures]
    counts = sum(d.ahead is not None for d in own), sum(d.equivalent for d in own)
    return [str(number), str(look.repeats), f"{look.level:.4f}", *map(str, counts)]


def _endings(looks: Looks, study: Study) -> list[str]:
    found = [looks.ended or "The looks are not finished: the same command continues."]
    if (more := study.repeats - looks.repeats) > 0:
        found.append(f"{more} further repeat{'s have' if more > 1 else ' has'} been trained since the last look.")
    return [*found, *filter(None, [uncovered_text(looks, study)])]
