"""The report's account of the looks at a benchmark that added repeats until it was settled."""

from lossbench.report.markup import plain, table
from lossbench.results.looks import Look, Looks
from lossbench.results.metric_fields import metric
from lossbench.results.settling import uncovered_text
from lossbench.results.study import Study
from lossbench.utils.text import listed


def looks_lines(looks: Looks | None, study: Study) -> list[str]:
    """Return the lines on the looks that decided the verdicts; none where the number of repeats was fixed before.

    Args:
        looks: what ``settled.json`` holds: names in it are escaped.
        study: the runs that the report shows.
    """
    if looks is None:
        return []
    plan, titles = looks.plan, listed([metric(key).title for key in looks.figures])
    lines = [
        f"Repeats were added to settle every pair at {plain(titles)}: one ahead, or both equivalent (within "
        f"{plan.smallest_difference:g}). The limit was {plan.max_repeats} repeats. Each look at the verdicts "
        f"spends a part of the level {plan.level:g}, so that all looks together err no more often than one test would "
        "(Lan & DeMets 1983, spending function of Pocock's kind). What a look decided stays, and only what a look "
        "decided is called ahead or equivalent.",
        "",
    ]
    if looks.left_out:
        left_out = listed([metric(key).title for key in looks.left_out])
        lines += [f"Not to be settled, because the data does not support it: {plain(left_out)}.", ""]
    if looks.replaced:
        lines += [
            f"These looks replace {plain('; '.join(looks.replaced))}. Each plan by itself keeps the level; together "
            "they err more often.",
            "",
        ]
    rows = [_row(number, look, looks) for number, look in enumerate(looks.taken, start=1)]
    lines += [*table(["look", "repeats", "level", "newly ahead", "newly equivalent"], rows), ""]
    lines += [f"{plain(sentence)}" for sentence in _endings(looks, study)]
    return [*lines, ""]


def _row(number: int, look: Look, looks: Looks) -> list[str]:
    own = [d for d in look.decided if d.figure in looks.figures]
    counts = sum(d.ahead is not None for d in own), sum(d.equivalent for d in own)
    return [str(number), str(look.repeats), f"{look.level:.4f}", *map(str, counts)]


def _endings(looks: Looks, study: Study) -> list[str]:
    found = [looks.ended or "The looks are not finished: the same command continues."]
    if (more := len({record["repeat"] for record in study.records}) - looks.repeats) > 0:
        found.append(f"{more} further repeat{'s have' if more > 1 else ' has'} been trained since the last look.")
    return [*found, *filter(None, [uncovered_text(looks, study)])]
