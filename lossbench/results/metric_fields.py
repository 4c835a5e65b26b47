"""The one table of metrics: what each is called, computed from, shown as, and where.

Records, their schema, tables, verdicts, studies, reports and `evaluate` read this table. A new metric is one function
in lossbench/metrics/ and one row here. What is measured at every false-positive rate asked for is a function of the
rates (`PerRate`): the reader of the table gives the rates, from the largest down.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from lossbench.metrics import effective_rank
from lossbench.metrics.accuracy import share
from lossbench.metrics.gallery import DEFAULT_FARS, DEFAULT_RANKS
from lossbench.metrics.operating_point import DEFAULT_FPRS, allowed, is_thin
from lossbench.results.metric_inputs import Computation, resampled_share
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    import pandas as pd

#: The tables of a report, in its order; what `evaluate` prints; the CSVs of runs and of verdicts; the figures that the
#: text of a report highlights; what `--track` measures after every epoch, and which of that the report highlights.
Place = Literal[
    "headline", "verification", "gallery", "points", "transfer", "retrieval", "clusters", "angles", "speed",
    "evaluate", "runs", "verdicts", "highlights", "tracked", "tracked_highlights",
]  # fmt: skip

_LIMITS = {
    "share": (0.0, 1.0), "cosine": (-1.0, 1.0), "degrees": (0.0, 180.0),
    "count": (0.0, math.inf), "seconds": (0.0, math.inf), "1/s": (0.0, math.inf), "": (-math.inf, math.inf),
}  # fmt: skip

#: What is said of data without query people.
NOBODY_UNSEEN = (
    "nobody is held out (no query people): identification rates, gallery search, retrieval, clusters and query angles "
    "are not measured, only accuracy and angles of the training people; --pairs adds verification"
)

HEADLINE = 4  # so many operating points, the largest rates, stand in the headline; verdicts are given at these


@dataclass(frozen=True)
class Metric:
    """One figure of a run.

    `key` names it in run.json and in CSVs. `function` computes it from `inputs` (see `results.metric_inputs`); None
    where the record has it from elsewhere, as timings are. `title` stands alone; `short` heads its column where that
    differs. `between` says what the figure can be, where its `unit` does not. `better` is set where losses can be
    ranked by it. Where it belongs to an operating point, `point` is the rate, and `negatives` the key of how many
    negatives its threshold was set on. `resamples` computes it in resamples of `people`, [B]; without, its uncertainty
    is that of the repeats alone. `late` puts it behind the others of its table.
    """

    key: str
    title: str
    function: Callable[..., Any] | None = None
    inputs: tuple[str, ...] = ()
    shown: tuple[Place, ...] = ("runs",)
    short: str = ""
    unit: Literal["share", "cosine", "count", "degrees", "seconds", "1/s", ""] = ""
    between: tuple[float, float] | None = None
    digits: int = 3
    better: Literal["more", "less"] | None = None
    resamples: Computation | None = None
    people: Literal["test", "query"] = "query"
    point: float | None = None
    negatives: str = ""
    late: bool = False

    @property
    def column(self) -> str:
        """Its title in its table."""
        return self.short or self.title

    @property
    def limits(self) -> tuple[float, float]:
        """What the figure can be, from least to most."""
        return self.between or _LIMITS[self.unit]


#: The figures of the i-th of some false-positive rates.
PerRate = Callable[[int, Sequence[float]], list[Metric]]


def at(name: str, point: float) -> str:
    """Return the key of a figure at an operating point.

    Example:
        >>> at("tpr", 0.001)
        'tpr@0.001'
    """
    return f"{name}@{point:g}"


def _accuracy(key: str, title: str, hits: str, shown: tuple[Place, ...]) -> Metric:
    drawn = Computation(resampled_share, (hits, "test_labels", "test_drawn"))
    return Metric(key, title, share, (hits,), shown=shown, unit="share", better="more", resamples=drawn, people="test")


def _field(source: str, name: str, key: str, title: str, **options: Any) -> Metric:
    """A figure that is a field of what several figures share."""
    return Metric(key, title, attrgetter(name), (source,), **options)


def _point(source: str, name: str, i: int, key: str, title: str, **options: Any) -> Metric:
    """A figure that is an entry of a field: at the i-th operating point."""
    return Metric(key, title, lambda found: getattr(found, name)[i].item(), (source,), **options)


_HIDDEN: dict[str, Any] = {"shown": ()}  # in run.json alone


_TWO_OF_FOUR = (0.1, 0.01)  # of the usual headline: all of its pairs would fill pages


def _identification(i: int, fprs: Sequence[float]) -> list[Metric]:
    fpr, rate = fprs[i], rate_text(fprs[i])
    shown: tuple[Place, ...] = ("runs", "points")
    if i < HEADLINE:
        shown = (*shown, "headline", "verdicts", "evaluate", "tracked")
        if fpr in _TWO_OF_FOUR or tuple(fprs[:HEADLINE]) != DEFAULT_FPRS:
            shown = (*shown, "highlights", "tracked_highlights")
    column = Computation(lambda rates: rates[:, i], ("resampled_rates",))
    title, short = f"ID rate @ FPR {rate}", "" if i == 0 else f"@ {rate}"
    common: dict[str, Any] = {"unit": "share", "better": "more", "resamples": column, "point": fpr}
    common["negatives"] = "negatives"
    return [
        _point("rates", "tpr", i, at("tpr", fpr), title, shown=shown, short=short, **common),
        _point("rates", "achieved_fpr", i, at("achieved_fpr", fpr), f"achieved FPR @ {rate}", unit="share"),
        _point("rates", "threshold", i, at("threshold", fpr), f"threshold @ FPR {rate}", unit="cosine", **_HIDDEN),
    ]


def _transfer(i: int, fprs: Sequence[float]) -> list[Metric]:
    fpr, rate = fprs[i], rate_text(fprs[i])
    short = f"{'FPR ' if i == 0 else ''}{rate} becomes"
    shown: tuple[Place, ...] = ("runs", "transfer") if i < HEADLINE else ("runs",)
    common: dict[str, Any] = {"unit": "share", "digits": 4, "point": fpr, "negatives": "calibration_negatives"}
    key, title = at("transfer_fpr", fpr), f"FPR {rate} set on val becomes"
    return [
        _point("transfer", "achieved_fpr", i, key, title, shown=shown, short=short, **common),
        _point("transfer", "tpr", i, at("transfer_tpr", fpr), f"ID rate @ FPR {rate} set on val", unit="share"),
        _point("transfer", "threshold", i, at("transfer_threshold", fpr), f"threshold @ FPR {rate} of val", **_HIDDEN),
    ]


def _open_set(i: int, far: float) -> list[Metric]:
    shown: tuple[Place, ...] = ("runs", "gallery") if far > 0.001 else ("runs",)
    title, achieved = f"DIR @ FAR {far:g}", f"achieved FAR @ {far:g}"
    common: dict[str, Any] = {"unit": "share", "better": "more", "point": far, "negatives": "unenrolled", "late": True}
    return [
        _point("open_set", "rate", i, at("dir", far), title, shown=shown, **common),
        _point("open_set", "achieved_far", i, at("achieved_far", far), achieved, unit="share", **_HIDDEN),
        _point("open_set", "threshold", i, at("dir_threshold", far), f"threshold @ FAR {far:g}", **_HIDDEN),
    ]


def _ranks(source: str, suffix: str, note: str) -> list[Metric]:
    rows = []
    for i, rank in enumerate(DEFAULT_RANKS):
        printed: tuple[Place, ...] = ("evaluate",) if rank < 10 and not note else ()
        shown: tuple[Place, ...] = ("runs", "gallery", *printed)
        key, title = f"cmc{rank}_{suffix}", f"rank {rank}{note}"
        rows.append(_point(source, "rate", i, key, title, shown=shown, unit="share", better="more"))
    return rows


def _verification(name: str, title: str, **options: Any) -> Metric:
    return _field("verification", name, f"verification_{name}", title, **options)


_VERIFIED: tuple[Place, ...] = ("runs", "verification", "evaluate")
_SEARCH: tuple[Place, ...] = ("runs", "retrieval")
_CLUSTERS: tuple[Place, ...] = ("runs", "clusters")
_RANK: dict[str, Any] = {"digits": 1, "between": (1.0, math.inf)}
_ANGLES: dict[str, Any] = {"shown": ("runs", "angles"), "unit": "degrees", "digits": 2}

METRICS: tuple[Metric | PerRate, ...] = (
    _accuracy("test_accuracy", "accuracy", "test_hits", ("runs", "headline", "tracked", "tracked_highlights")),
    _accuracy(
        "test_accuracy_ncm", "accuracy (class means)", "test_hits_ncm", ("runs", "headline", "verdicts", "highlights")
    ),
    Metric("val_accuracy", "accuracy on val", share, ("val_hits",), unit="share", better="more"),
    Metric("train_effective_rank", "effective rank of train", effective_rank, ("train",), **_RANK),
    _field("rates", "positives", "positives", "same-person pairs", unit="count"),
    _field("rates", "negatives", "negatives", "different-person pairs", unit="count"),
    _field("rates", "query_negatives", "query_negatives", "different-person pairs of query", unit="count"),
    Metric("lowest_fpr", "lowest supported FPR", lambda r: 1 / r.negatives if r.negatives else math.nan, ("rates",)),
    Metric("probes", "probes", lambda gallery: len(gallery.probes), ("gallery",), unit="count"),
    _field("transfer", "calibration_negatives", "calibration_negatives", "different-person pairs of val", unit="count"),
    _identification,
    _transfer,
    *(metric for i, far in enumerate(DEFAULT_FARS) for metric in _open_set(i, far)),
    *_ranks("search_alone", "without_distractors", ""),
    *_ranks("search", "with_distractors", ", distractors"),
    _field("open_set", "unenrolled", "unenrolled", "distractor images", unit="count", **_HIDDEN),
    _field("search_alone", "entries", "entries_without_distractors", "gallery entries", unit="count", **_HIDDEN),
    _field("search", "entries", "entries_with_distractors", "gallery entries, distractors", unit="count", **_HIDDEN),
    _field("retrieval", "precision_at_1", "precision_at_1", "precision@1", shown=_SEARCH, unit="share", better="more"),
    _field("retrieval", "r_precision", "r_precision", "R-precision", shown=_SEARCH, unit="share", better="more"),
    _field("retrieval", "map_at_r", "map_at_r", "MAP@R", shown=(*_SEARCH, "evaluate"), unit="share", better="more"),
    _field("retrieval", "queries", "queries", "retrieval queries", unit="count"),
    _field("retrieval", "alone", "alone", "images without another of their person", unit="count"),
    _field("clusters", "silhouette", "silhouette", "silhouette", shown=_CLUSTERS, between=(-1, 1), better="more"),
    _field("clusters", "nmi", "nmi", "NMI", shown=_CLUSTERS, between=(0, 1), better="more"),
    _field("clusters", "ami", "ami", "AMI", shown=_CLUSTERS, between=(-1, 1), better="more"),
    _field("clusters", "alignment", "alignment", "alignment", shown=_CLUSTERS, between=(0, 4), better="less"),
    _field(
        "clusters", "uniformity", "uniformity", "uniformity", shown=_CLUSTERS, digits=2, between=(-8, 0), better="less"
    ),
    _field("clusters", "effective_rank", "effective_rank", "effective rank", shown=_CLUSTERS, **_RANK),
    _verification("accuracy", "accuracy over folds", shown=_VERIFIED, unit="share", digits=4, better="more"),
    _verification("standard_error", "its standard error", shown=_VERIFIED, digits=4, between=(0, math.inf)),
    _verification("threshold", "threshold of the pairs", unit="cosine"),
    _verification("tar", "TAR @ FAR 0.001", shown=_VERIFIED, unit="share", better="more"),
    _verification("eer", "EER", shown=_VERIFIED, unit="share", better="less"),
    _verification("auc", "AUC", shown=_VERIFIED, digits=4, between=(0, 1), better="more"),
    _verification("same", "pairs of one person", unit="count", **_HIDDEN),
    _verification("different", "pairs of two people", unit="count", **_HIDDEN),
    Metric("verification_folds", "folds", lambda v: len(v.fold_accuracies), ("verification",), unit="count", **_HIDDEN),
    _field("train_angles", "w_ec", "train_w_ec", "W-EC", **_ANGLES),
    _field("train_angles", "w_inter", "train_w_inter", "W-Inter", **_ANGLES),
    _field("train_angles", "intra", "train_intra", "Intra train", **_ANGLES),
    _field("train_angles", "inter", "train_inter", "Inter train", **_ANGLES),
    _field("query_angles", "intra", "query_intra", "Intra query", **_ANGLES),
    _field("query_angles", "inter", "query_inter", "Inter query", **_ANGLES),
    Metric("images_per_second", "images/s", shown=("runs", "speed"), unit="1/s", digits=0),
    Metric("training_seconds", "seconds of training", unit="seconds", digits=1),
    Metric("seconds", "seconds", shown=("runs", "speed"), unit="seconds", digits=1),
)


def table_at(fprs: Sequence[float] = ()) -> tuple[Metric, ...]:
    """Return the whole table where the figures of operating points are those at these false-positive rates.

    Args:
        fprs: from the largest down.

    Example:
        >>> [metric.key for metric in table_at([1e-3, 1e-4]) if metric.key.startswith("tpr")]
        ['tpr@0.001', 'tpr@0.0001']
    """
    rows: list[Metric] = []
    for row in METRICS:
        rows += [row] if isinstance(row, Metric) else [metric for i in range(len(fprs)) for metric in row(i, fprs)]
    return tuple(rows)


def template_metrics(fars: Sequence[float]) -> tuple[Metric, ...]:
    """Return the figures of a 1:1 list of templates at these false-accept rates; no run has them, only `evaluate`.

    Example:
        >>> [metric.key for metric in template_metrics([1e-4, 1e-5])]
        ['template_tar@0.0001', 'template_tar@1e-05']
    """
    common: dict[str, Any] = {"unit": "share", "better": "more", "negatives": "template_negatives", "shown": ()}
    return tuple(
        Metric(
            at("template_tar", far),
            f"TAR @ FAR {rate_text(far)}",
            short="" if i == 0 else f"@ {rate_text(far)}",
            point=far,
            **common,
        )
        for i, far in enumerate(fars)
    )


def shown_in(*places: Place, fprs: Sequence[float] = DEFAULT_FPRS) -> tuple[Metric, ...]:
    """Return the metrics that these places show, place by place.

    Args:
        places: which.
        fprs: the false-positive rates of the records, from the largest down: `Study.fprs`.
    """
    everything = table_at(fprs)
    rows = (sorted((m for m in everything if place in m.shown), key=attrgetter("late")) for place in places)
    return tuple(metric for own in rows for metric in own)


def metric(key: str) -> Metric:
    """Return a metric by its key, at whatever rate; of one that this version does not know, its name alone."""
    rates = [rate] if (rate := _rate_of(key)) else []
    return next((metric for metric in table_at(rates) if metric.key == key), Metric(key, key))


def fprs_of(records: Iterable[Mapping[str, Any]]) -> tuple[float, ...]:
    """Return the false-positive rates that all finished records with identification rates were measured at.

    From the largest down; `DEFAULT_FPRS` where there is no such record.
    """
    own = [found for record in records if record["status"] == "finished" and (found := own_fprs(record["metrics"]))]
    common = set(own[0]).intersection(*own) if own else DEFAULT_FPRS
    return tuple(sorted(common, reverse=True))


def own_fprs(figures: Iterable[str]) -> tuple[float, ...]:
    """Return the false-positive rates of some figures' keys, from the largest down.

    Example:
        >>> own_fprs({"tpr@1e-05": 0.2, "tpr@0.1": 0.9, "dir@0.01": 0.5})
        (0.1, 1e-05)
    """
    rates = [rate for key in figures if key.startswith("tpr@") and (rate := _rate_of(key))]
    return tuple(sorted(rates, reverse=True))


def _rate_of(key: str) -> float | None:
    """Return the rate in the key of a figure at an operating point: keys come from files, too."""
    name, _, text = key.partition("@")
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if 0 < rate < 1 and at(name, rate) == key else None


def fewest_above(figure: Metric, records: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the fewest negatives above the threshold of a figure in these records, where it is thin in one of them."""
    if figure.point is None:
        return None
    counts = [r["metrics"].get(figure.negatives) for r in records if r["status"] == "finished"]
    thin = [allowed(figure.point, n) for n in counts if n is not None and is_thin(figure.point, n)]
    return min(thin, default=None)


def number(value: Any) -> float:
    """Return a figure of a record as a number: NaN where it is null."""
    return math.nan if value is None else float(value)


def flat_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return a record's figures and timings by key; NaN where one is null."""
    figures: Mapping[str, Any] = {**(record.get("metrics") or {}), **(record.get("timings") or {})}
    return {key: number(value) for key, value in figures.items()}


def runs_frame(records: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return one row per run: entrant, repeat, fold, status, reason and every figure that belongs into the CSV."""
    import pandas as pd

    keys = ("entrant", "repeat", "fold", "status", "reason", "epoch", "sampler", "accuracy_by")
    figures = [flat_metrics(record) for record in records]
    hidden = {key for key in {key for own in figures for key in own} if "runs" not in metric(key).shown}
    rows = []
    for record, own in zip(records, figures, strict=True):
        shown = {key: value for key, value in own.items() if key not in hidden}
        rows.append({**{key: record.get(key) for key in keys}, **shown})
    return pd.DataFrame(rows)


def with_figures(records: Sequence[Mapping[str, Any]], place: Place) -> bool:
    """Return whether any of these records has a figure of a place."""
    return any(metric.key in (record.get("metrics") or {}) for record in records for metric in shown_in(place))
