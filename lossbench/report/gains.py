"""Where a gain comes from: choosing the epoch on test, the scale, or the margin."""

import math
from typing import TYPE_CHECKING

from lossbench.losses.plugin import BASELINE, UNTRAINED
from lossbench.metrics.uncertainty import Estimate, estimate
from lossbench.report.markup import Part
from lossbench.report.tables import text
from lossbench.results.history import read_history
from lossbench.results.metric_fields import HEADLINE, fprs_of, shown_in
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    import pandas as pd


def selection_gap(study: Study) -> Part | None:
    """Show how much reporting the best test epoch would flatter each loss; None unless runs were tracked."""
    rows = [
        [figure, entrant, *(signed(e, i >= 3) for i, e in enumerate(gap))]
        for figure, entrant, gap in _gaps(study)
        if not math.isnan(gap[0].mean)
    ]
    if not rows:
        return None
    return Part(
        "How much choosing the epoch on test flatters",
        (
            "Test, query and distractors were measured after every epoch. Best on test is the highest of these values: "
            "an oracle that no deployed system has. Its lead over the last epoch, and over the epoch that is best on "
            "val, is no merit of the loss. Choosing epochs this way favours the loss whose figures fluctuate most.",
            *filter(None, [_tracked_line(study)]),
        ),
        ["figure", "loss", "last epoch", "best on val", "best on test", "test − last", "test − val"],
        rows,
    )


def gap_table(study: Study) -> "pd.DataFrame":
    """Return the table of `selection_gap` as numbers, one row per figure and loss."""
    import pandas as pd

    names = ("last", "best_on_val", "best_on_test", "test_minus_last", "test_minus_val")
    rows = []
    for figure, entrant, gap in _gaps(study):
        row: dict[str, object] = {"figure": figure, "loss": entrant}
        for i, (name, found) in enumerate(zip(names, gap, strict=True)):
            row |= _numbers(name, found, difference=i >= 3)
        rows.append({**row, "repeats": gap[0].count})
    return pd.DataFrame(rows)


def _gaps(study: Study) -> list[tuple[str, str, list[Estimate]]]:
    """Return figure, entrant, and five estimates: last, best on val, best on test, test - last, test - val."""
    found = []
    for figure in shown_in("tracked_highlights", fprs=_tracked_fprs(study)):
        for entrant in (e for e in study.entrants if e != UNTRAINED):
            own = [r for r in study.of_entrant(entrant) if r["status"] == "finished"]
            picked = {r["repeat"]: picks for r in own if (picks := _picks(r, figure.key))}
            columns = [{repeat: pick[i] for repeat, pick in picked.items()} for i in range(3)]
            last, val, test = columns
            columns += [{repeat: test[repeat] - other[repeat] for repeat in test} for other in (last, val)]
            if picked:
                found.append((figure.title, entrant, [estimate(column, {}, 0) for column in columns]))
    return found


def _tracked_fprs(study: Study) -> tuple[float, ...]:
    """Return the false-positive rates tracked in training, which do not change with what is measured later."""
    histories = [read_history(record) for record in study.records if record["status"] == "finished"]
    last = [lines[-1]["tracked"] for lines in histories if lines and lines[-1].get("tracked")]
    return fprs_of([{"status": "finished", "metrics": tracked} for tracked in last])


def _tracked_line(study: Study) -> str:
    tracked = _tracked_fprs(study)
    if tracked[:HEADLINE] == study.fprs[:HEADLINE]:
        return ""
    rates = ", ".join(map(rate_text, tracked))
    return (
        f"The false-positive rates tracked are those of the training ({rates}); train again (--force) to track others."
    )


def _picks(record: Record, figure: str) -> tuple[float, float, float] | None:
    """Return a tracked figure at the last epoch, at the first epoch that is best on val, and at its maximum."""
    epochs = [line for line in read_history(record) if line.get("tracked")]
    values = [line["tracked"].get(figure) for line in epochs]
    if not epochs or None in values:
        return None
    on_val = max(range(len(epochs)), key=lambda i: (epochs[i]["val_accuracy"], -i))
    return values[-1], values[on_val], max(values)


def scale_and_margin(study: Study) -> Part | None:
    """Split the gain of every margin loss over CE into the effect of its scale and the effect of its margin."""
    pairs = twins(study)
    if not pairs:
        return None
    rows = []
    for figure in shown_in("highlights", fprs=study.fprs):
        for entrant, twin in pairs:
            parts = (entrant, BASELINE), (twin, BASELINE), (entrant, twin)
            rows.append([figure.title, entrant, *(signed(study.difference(a, b, figure.key), True) for a, b in parts)])
    return Part(
        "Scale and margin separated",
        (
            f"Every margin loss was also trained with margin 0 and its own scale: {', '.join(t for _, t in pairs)}. "
            f"Its gain over {BASELINE} is then the sum of two effects: that of normalisation and scale, and that of "
            "the margin. All are paired differences with their own 95 % intervals; where an interval includes 0, no "
            "gain was detected.",
        ),
        ["figure", "loss", f"gain over {BASELINE}", "scale and normalisation", "margin"],
        rows,
    )


def split_table(study: Study) -> "pd.DataFrame":
    """Return the table of `scale_and_margin` as numbers, one row per figure and loss."""
    import pandas as pd

    rows = []
    for figure in shown_in("highlights", fprs=study.fprs):
        for entrant, twin in twins(study):
            row: dict[str, object] = {"figure": figure.key, "loss": entrant, "plain_twin": twin}
            parts = {"gain": (entrant, BASELINE), "scale": (twin, BASELINE), "margin": (entrant, twin)}
            for part, (a, b) in parts.items():
                found = study.difference(a, b, figure.key)
                row |= {**_numbers(part, found, difference=True), f"{part}_p": found.p_value}
            rows.append(row)
    return pd.DataFrame(rows)


def twins(study: Study) -> list[tuple[str, str]]:
    """Return (entrant, plain twin) for every entrant whose plain twin was trained too, if CE was as well."""
    plain_twins = {record["entrant"]: record.get("plain_twin") for record in study.records}
    there = set(study.entrants)
    return [(e, t) for e, t in plain_twins.items() if isinstance(t, str) and t in there and BASELINE in there]


def _numbers(name: str, found: Estimate, *, difference: bool) -> dict[str, float]:
    """Return a share, or a difference of two, as columns: its mean and its 95 % interval."""
    low, high = found.interval(-1.0 if difference else 0.0, 1.0)
    return {name: found.mean, f"{name}_low": low, f"{name}_high": high}


def signed(value: Estimate, difference: bool) -> str:
    """Return a share, or a difference of two, as text; a positive difference has an explicit plus."""
    plus = "+" if difference and round(value.mean, 3) > 0 else ""
    return plus + text(value, 3, (-1.0 if difference else 0.0, 1.0)).replace("-", "−")
