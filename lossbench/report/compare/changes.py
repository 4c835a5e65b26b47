"""What changes between benchmarks, in words: verdicts that hold, that turn, and that only one of them can give."""

from collections.abc import Iterable, Sequence

from lossbench.report.compare.comparison import Comparison, Pair, State
from lossbench.results.metric_fields import Metric
from lossbench.results.wording import Clause, are, groups, joined, numbers
from lossbench.utils.text import listed


def sentences(comparison: Comparison) -> list[str]:
    """Return what the verdicts of the benchmarks say together, each sentence with the figures it is about.

    Verdicts that are reversed, that hold everywhere, that are ahead here and equivalent there, and that only some of
    the benchmarks can give; then how many there are of each.
    """
    pairs = [_from_the_winner(pair) for pair in comparison.pairs if pair.change != "unknown"]
    if not pairs:
        return [_nothing(comparison)]
    by_change = {
        change: [pair for pair in pairs if pair.change == change] for change in {pair.change for pair in pairs}
    }
    told = [
        _led(comparison, by_change.get("reversed", []), "Reversed: ")
        or "No verdict is reversed: no loss that is ahead in one benchmark is behind in another.",
        _led(comparison, [p for p in by_change.get("same", []) if p.states[0] == "ahead"], "The same everywhere: "),
        _led(comparison, by_change.get("ahead or equivalent", [])),
        _led(comparison, by_change.get("ahead or open", [])),
        _equal(comparison, by_change.get("equivalent or open", [])),
        _counted(comparison, pairs),
    ]
    return [sentence for sentence in told if sentence]


def _nothing(comparison: Comparison) -> str:
    if len(comparison.losses) == 1:
        return f"No verdict can be compared: {comparison.losses[0]} is the only loss trained in all of the benchmarks."
    few = [one.label for one in comparison.benchmarks if all(v.difference.count < 2 for v in one.verdicts)]
    why = f"{listed(few)} {'have' if len(few) > 1 else 'has'} no two repeats that two of the losses have finished"
    return f"No verdict can be compared yet: {why}." if few else "No verdict can be compared yet."


def _from_the_winner(pair: Pair) -> Pair:
    """Turn a pair so that the loss ahead in the first benchmark that has one comes first."""
    first = next((state for state in pair.states if state in ("ahead", "behind")), "ahead")
    return pair if first == "ahead" else pair.turned


def _led(comparison: Comparison, pairs: Sequence[Pair], lead: str = "") -> str:
    """Say who is ahead of whom, and where; empty where there is nobody."""
    clauses = []
    for figure, states in dict.fromkeys((pair.figure, pair.states) for pair in pairs):
        beaten: dict[str, tuple[str, ...]] = {}
        for pair in pairs:
            if (pair.figure, pair.states) == (figure, states):
                beaten[pair.a] = (*beaten.get(pair.a, ()), pair.b)
        for losers in dict.fromkeys(beaten.values()):
            winners = [name for name in comparison.losses if beaten.get(name) == losers]
            said = f"{listed(winners)} {are(winners)} ahead of {listed(losers)}{_where(comparison, states)}"
            found = _numbers(comparison, winners, figure, losers)
            clauses.append(Clause(said, figure, found, len(winners) * len(losers)))
    text = joined(clauses, comparison.everything)
    return f"{lead}{text}." if text else ""


def _equal(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """Say which losses are equivalent in some of the benchmarks alone."""
    clauses = []
    for figure, states in dict.fromkeys((pair.figure, pair.states) for pair in pairs):
        own = {frozenset((p.a, p.b)) for p in pairs if (p.figure, p.states) == (figure, states)}
        for names, count in groups(comparison.losses, own):
            said = f"{listed(names)} are equivalent{_where(comparison, states)}"
            clauses.append(Clause(said, figure, _numbers(comparison, names, figure), count))
    text = joined(clauses, comparison.everything)
    return f"{text}." if text else ""


_SAID: dict[State, str] = {
    "ahead": "", "equivalent": "equivalent ", "behind": "behind ", "open": "not separable ", "unknown": "not compared ",
}  # fmt: skip


def _where(comparison: Comparison, states: Sequence[State]) -> str:
    """Return in which benchmarks something is so, and what it is in the others; empty where it is so in all."""
    kinds = dict.fromkeys(states)
    if len(kinds) == 1:
        return ""
    first = "ahead" if "ahead" in kinds else "equivalent"
    parts = []
    for kind in sorted(kinds, key=lambda kind: kind != first):
        labels = [label for label, state in zip(comparison.labels, states, strict=True) if state == kind]
        parts.append(f"{'' if kind == first else _SAID[kind]}on {listed(labels)}")
    return f" {parts[0]} but {' and '.join(parts[1:])},"


def _numbers(comparison: Comparison, names: Sequence[str], figure: Metric, against: Iterable[str] = ()) -> str:
    found = (f"{numbers(one.study, names, figure, tuple(against))} on {one.label}" for one in comparison.benchmarks)
    return "; ".join(found)


def _counted(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    alike = sum(pair.change == "same" for pair in pairs)
    settled = [
        f"{label} settles {sum(pair.states[i] != 'open' for pair in pairs)}"
        for i, label in enumerate(comparison.labels)
    ]
    left = len(comparison.pairs) - len(pairs)
    few = f" {left} more {'have' if left > 1 else 'has'} too few repeats in one of the benchmarks." if left else ""
    made = f"the {len(pairs)} comparisons" if len(pairs) > 1 else "the one comparison"
    return (
        f"The benchmarks agree on {alike} of {made} that every one of them can make; {listed(settled)}.{few} A pair "
        "that one benchmark settles and another leaves open is no contradiction: compare the two differences and their "
        "intervals."
    )
