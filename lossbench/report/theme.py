"""What figures and page share: a loss has the same colour in all of them."""

from collections.abc import Collection, Sequence

from lossbench.losses.plugin import BASELINE, UNTRAINED
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study

#: Told apart by people with each kind of colour-blindness, and on white and on black; tests/report/test_theme.py.
PALETTE = ("#0173b2", "#d55e00", "#029e73", "#882255", "#cc79a7", "#3d3d9e", "#a65628", "#5d3a1a")
REFERENCE, OTHERS = "#808080", "#a3a3a3"  # of `untrained`; of losses that no figure tells apart
DPI = 144  # of the figures' PNG; a page shows 96 pixels an inch


def leading(study: Study) -> list[str]:
    """Return the losses that figures tell apart by colour and label: all, or eight where there are more.

    These are the baseline and those with the best means at the figures that the report highlights, taken in turns.
    """
    trained = study.trained
    if len(trained) <= len(PALETTE):
        return trained
    rankings = []
    for figure in shown_in("highlights", fprs=study.fprs):
        means = {name: found.mean for name in trained if (found := study.estimate(name, figure.key)).count}
        rankings.append(sorted(means, key=lambda name: means[name], reverse=figure.better != "less"))
    turns = [ranking[i] for i in range(len(trained)) for ranking in rankings if i < len(ranking)]
    first = [name for name in (BASELINE,) if name in trained]
    kept = list(dict.fromkeys([*first, *turns, *trained]))[: len(PALETTE)]
    return [name for name in trained if name in kept]


def colours(entrants: Sequence[str], leaders: Collection[str] | None = None) -> dict[str, str]:
    """Return each entrant's colour as ``#rrggbb``; `untrained` is grey.

    Args:
        entrants: all of the report.
        leaders: those with a colour of their own, at most eight; by default the first eight. The others share a grey.

    Example:
        >>> colours(["ce", "untrained"])
        {'ce': '#0173b2', 'untrained': '#808080'}
    """
    trained = [name for name in entrants if name != UNTRAINED]
    own = trained[: len(PALETTE)] if leaders is None else [name for name in trained if name in leaders]
    found = dict.fromkeys(trained, OTHERS) | dict(zip(own, PALETTE, strict=False)) | {UNTRAINED: REFERENCE}
    return {name: found[name] for name in entrants}


def colours_of(study: Study) -> dict[str, str]:
    """Return the colours of a study's entrants, in its page and in all its figures."""
    return colours(study.entrants, leading(study))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2, section 1.4.3; text asks for 4.5, lines for 3).

    Example:
        >>> contrast("#000000", "#ffffff")
        21.0
    """
    dark, light = sorted(map(_luminance, (one, other)))
    return round((light + 0.05) / (dark + 0.05), 2)


def inked(colour: str) -> str:
    """Return a colour dark enough for text on white.

    Example:
        >>> inked("#0173b2"), inked("#cc79a7")
        ('#0173b2', '#a76389')
    """
    shares = (1 - step / 50 for step in range(50))
    tried = ("#" + "".join(f"{round(int(colour[i : i + 2], 16) * share):02x}" for i in (1, 3, 5)) for share in shares)
    return next(dark for dark in tried if contrast(dark, "#ffffff") >= 4.5)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
