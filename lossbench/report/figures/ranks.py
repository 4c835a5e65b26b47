"""Which losses the verdicts tell apart, after the critical-difference diagrams of Demšar 2006 (JMLR 7, section 3.2.2).

Where these join what one test over data sets cannot separate, here bars join what the report's own verdicts leave open
or call equivalent. Verdicts are of pairs, so a bar may pass over a loss that is not part of it: dots mark its members.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lossbench.report.figures.look import INK, LABEL, SOFT, Drawn, Pen, panels, pens, short_names
from lossbench.results.metric_fields import Metric
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, rank_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _BAR, _HEAD = 0.17, 0.08, 0.6  # inches: a name, a bar, what stands above the line of means
_FEW = 8  # losses, up to which all figures are drawn, two side by side


def ranks(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw a diagram per figure that has verdicts; None where no two losses share two repeats."""
    compared = [v for v in found if v.difference.count > 1]
    if not compared:
        return None
    table, drawn = rank_table(found), pens(study)
    figures = sorted(dict.fromkeys(v.figure for v in compared), key=lambda figure: figure.point is None)
    many, everything = len(table) > _FEW, figures
    figures = [figure for figure in figures if not many or "highlights" in figure.shown] or figures
    diagrams, ranked = [], {}
    for figure in figures:
        known: dict[str, int] = dict(zip(table["loss"], table[figure.key], strict=True))
        own = {name: study.estimate(name, figure.key).mean for name, rank in known.items() if rank}
        ranked[figure.key] = {name: str(rank) for name, rank in known.items()}
        means = dict(sorted(own.items(), key=lambda item: item[1], reverse=figure.better != "less"))
        diagrams.append((figure, means, joined(list(means), [v for v in compared if v.figure == figure])))
    columns = 2 if not many and len(diagrams) > 1 else 1
    depth = [_ROW * (0.6 + -(-len(means) // 2)) + _BAR * len(bars) for _, means, bars in diagrams]
    depths = [max(depth[i : i + columns]) for i in range(0, len(depth), columns)]
    drawing, axes = panels(len(depths), columns, sum(depths) + _HEAD * len(depths), height_ratios=depths)
    for i, (ax, (figure, means, bars)) in enumerate(zip(axes, diagrams, strict=False)):
        ax.set_ylim(-depths[i // columns], 0)
        _diagram(ax, figure, means, bars, ranked[figure.key], drawn)
    for ax in axes[len(diagrams) :]:
        ax.set_axis_off()
    return Drawn(drawing, _CAPTION + " The other operating points are in tables/ranks.csv." * (figures != everything))


_CAPTION = (
    "Means of the losses, best at the right, with their ranks: 1 plus the number of losses that are ahead. A bar "
    "joins losses of which no two can be told apart, each marked by a dot; where no bar holds both of a pair, one is "
    "ahead of the other. Read from the bars, not from the order: it decides nothing within one. After Demšar 2006, "
    "but drawn from this report's verdicts."
)


def joined(order: Sequence[str], verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return the largest groups of losses of which none is ahead of another: the maximal cliques, best first.

    Args:
        order: the losses, best mean first.
        verdicts: at one figure; a pair without one is not told apart.

    Returns:
        Groups of two or more, each in `order`. Two losses share a group exactly where neither is ahead of the other.
    """
    apart = {frozenset((v.a, v.b)) for v in verdicts if v.ahead}
    alike = {a: {b for b in order if b != a and frozenset((a, b)) not in apart} for a in order}
    groups: list[tuple[str, ...]] = []

    def grow(group: list[str], candidates: set[str], done: set[str]) -> None:  # Bron & Kerbosch, with a pivot
        if not candidates and not done:
            groups.append(tuple(sorted(group, key=order.index)))
            return
        pivot = max(sorted(candidates | done, key=order.index), key=lambda name: len(candidates & alike[name]))
        for name in sorted(candidates - alike[pivot], key=order.index):
            grow([*group, name], candidates & alike[name], done & alike[name])
            candidates, done = candidates - {name}, done | {name}

    grow([], set(order), set())
    return sorted((g for g in groups if len(g) > 1), key=lambda group: [order.index(name) for name in group])


def _diagram(
    ax: "Axes",
    figure: Metric,
    means: Mapping[str, float],
    bars: Sequence[tuple[str, ...]],
    ranked: Mapping[str, str],
    drawn: Mapping[str, Pen],
) -> None:
    """Draw one diagram into axes whose heights are inches below the line of means; `means` are best first."""
    order, names = list(means), short_names(list(means))
    low, high = min(means.values()), max(means.values())
    edge = 0.04 * ((high - low) or 1.0)
    best_first = figure.better != "less"
    ax.set_xlim((low - edge, high + edge) if best_first else (high + edge, low - edge))
    first = len(bars) * _BAR + _ROW
    right = order[: -(-len(order) // 2)]
    for side, own in ((1.0, right), (0.0, order[: len(right) - 1 : -1])):
        for row, name in enumerate(own):
            y, pen, edge_x = -first - row * _ROW, drawn[name], ax.get_xlim()[round(side)]
            ax.plot([means[name], means[name], edge_x], [0, y, y], color=pen.colour, lw=pen.width * 0.75, zorder=2)
            ax.annotate(
                f"{names[name]} ({ranked[name]})", (side, y), (8 * side - 4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="left" if side else "right", va="center", size=LABEL, color=pen.ink,
                annotation_clip=False,
            )  # fmt: skip
    for i, group in enumerate(bars):
        places, y = [means[name] for name in group], -(i + 0.9) * _BAR
        ax.plot([min(places), max(places)], [y, y], color=INK, lw=2.2, solid_capstyle="butt", zorder=3)
        ax.plot(places, [y] * len(places), "o", color=INK, ms=3.4, zorder=3)
    alike = len(bars) == 1 and len(bars[0]) == len(order)
    ax.set_title(figure.title)
    ax.set_xlabel("no two can be told apart" if alike else "", color=SOFT, size=LABEL)
    ax.spines[["top", "left", "bottom"]].set_visible(False)
    ax.spines["top"].set_visible(True)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, left=False, labelleft=False)
    ax.grid(visible=False)
