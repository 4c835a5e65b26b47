"""The report's sections on what was measured: operating points, gallery search, clusters, pairs, angles."""

import math
from collections.abc import Iterable, Sequence

from lossbench.metrics.operating_point import allowed, is_supported, negatives_needed
from lossbench.report.markup import Part
from lossbench.report.tables import text_table, thin_line
from lossbench.results.arrays import without_embeddings
from lossbench.results.metric_fields import (
    HEADLINE,
    NOBODY_UNSEEN,
    Metric,
    at,
    flat_metrics,
    own_fprs,
    shown_in,
    with_figures,
)
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import rate_text


def negatives_line(study: Study) -> str:
    """Return a sentence on the negatives behind the false-positive rates; empty if no run has finished."""
    found = _finished(study, "negatives")
    if not found:
        return ""
    if not _unseen(study):
        return f"{NOBODY_UNSEEN[0].upper()}{NOBODY_UNSEEN[1:]}."
    negatives, within = _counts(found, "negatives"), _counts(found, "query_negatives")
    others = [a - b for a, b in zip(negatives, within, strict=True)]
    return (
        f"{_span(negatives, ',')} negatives per repeat: {_span(within, ',')} pairs of query images and "
        f"{_span(others, ',')} pairs with a distractor image. The lowest false-positive rate they support is "
        f"{rate_text(max(1 / n for n in negatives), digits=2)}; lower rates show a dash."
    )


def other_points_line(study: Study) -> str:
    """Return a sentence on false-positive rates that not all runs were measured at; empty where there are none."""
    finished = [record for record in study.records if record["status"] == "finished"]
    others = {fpr for record in finished for fpr in own_fprs(record["metrics"])} - set(study.fprs)
    if not others:
        return ""
    common = ", ".join(map(rate_text, study.fprs)) or "none"
    left_out = ", ".join(map(rate_text, sorted(others, reverse=True)))
    return (
        f"The runs were measured at different false-positive rates: only those in common are compared ({common}), not "
        f"{left_out}."
    )


def embeddings_line(records: Iterable[Record]) -> str:
    """Return a sentence on the figures that need the embeddings of all runs; empty where these are there."""
    finished = [record for record in records if record["status"] == "finished"]
    if not (lacking := without_embeddings(finished)):
        return ""
    return (
        f"{len(lacking)} of {len(finished)} finished runs have no embeddings.npz: the figures drawn from embeddings "
        "are left out (identification rate against false-positive rate, cosine similarities, map of query people)."
    )


def operating_points(study: Study) -> list[Part]:
    """Show how many negatives support each false-positive rate, and whether thresholds set on val hold it."""
    found = _finished(study, "negatives")
    if not found or not _unseen(study):
        return []
    rows = []
    for rate in study.fprs:
        own = [r for r in found if is_supported(rate, r["metrics"]["negatives"])]
        achieved = [flat_metrics(r).get(at("achieved_fpr", rate), math.nan) for r in own]
        above = _span([allowed(rate, r["metrics"]["negatives"]) for r in own], ",")
        supported = f"{len({r['repeat'] for r in own})} of {len({r['repeat'] for r in found})} repeats"
        rows.append([rate_text(rate), _span(achieved, ".4g"), above, f"{negatives_needed(rate):,}", supported])
    calibration = _counts(found, "calibration_negatives")
    points, transfer = shown_in("points", fprs=study.fprs), shown_in("transfer", fprs=study.fprs)
    headers = ["FPR asked for", "achieved", "negatives above", "negatives needed", "supported in"]
    parts = [Part("Operating points", (negatives_line(study),), headers, rows)]
    if len(points) > HEADLINE:
        parts.append(_of_figures("Every operating point", study, points))
    if calibration:
        told = (
            "A deployed system cannot set its threshold on the people it will see. Here it is set on val images of "
            f"the training people ({_span(calibration, ',')} negatives); the table shows the false-positive rate that "
            "results among query people and distractors. Above the rate asked for, the threshold does not hold."
        )
        parts.append(_of_figures("Threshold transfer", study, transfer, told))
    return parts


def gallery(study: Study) -> Part | None:
    """Show search in a gallery: CMC and DIR at FAR."""
    found = _finished(study, "entries_without_distractors")
    if not found or not _unseen(study):
        return None
    entries, more = (_counts(found, f"entries_{which}_distractors") for which in ("without", "with"))
    told = (
        f"One image of each query person is enrolled ({_span(entries, ',')} entries; {_span(more, ',')} with every "
        f"distractor image); the other {_span(_counts(found, 'probes'), ',')} are probes. Rank k (CMC): the share of "
        "probes whose person is among the first k entries. DIR @ FAR (detection and identification rate): the share of "
        "probes that find their person at rank 1 and above the threshold that at most this share of distractor images "
        "passes. Ties count against the probe."
    )
    return _of_figures("Search in a gallery", study, shown_in("gallery"), told)


def clusters(study: Study) -> Part | None:
    """Show retrieval and cluster statistics of the query people."""
    if not _finished(study, "silhouette") or not _unseen(study):
        return None
    told = (
        "Precision@1, R-precision and MAP@R: every query image retrieves the other images of its person "
        "(arXiv:2003.08505). Silhouette by cosine distance; NMI and AMI: agreement of k-means clusters with people; "
        "alignment (0 is best) and uniformity (lower is more uniform; arXiv:2005.10242); effective rank: the number of "
        "directions that the embeddings use, 1 when they have collapsed to a line. NMI and AMI are not computed (a "
        "dash) where images times people exceed 20 million."
    )
    return _of_figures("Retrieval and clusters of query people", study, shown_in("retrieval", "clusters"), told)


def verified(study: Study) -> Part | None:
    """Show the verification pairs, where some run has measured them."""
    found = [record for record in study.records if with_figures([record], "verification")]
    if not found:
        return None
    first = {name: found[0]["metrics"].get(f"verification_{name}") or 0 for name in ("same", "different", "folds")}
    flipped = ((found[0].get("measuring") or {}).get("config") or {}).get("flip") is True
    told = (
        f"{first['same']:,} pairs of one person and {first['different']:,} of two, {first['folds']} "
        "folds: accuracy on each fold at the threshold chosen on all others. Mean over repeats ± half-width of the "
        "95 % interval; the standard error is over the folds of one repeat. TAR and EER are over all pairs."
        + (" The mirrored image's embedding is added to each embedding." if flipped else "")
    )
    return _of_figures("Verification", study, shown_in("verification"), told)


def geometry(study: Study) -> Part:
    """Show the angles of ArcFace's table 3."""
    told = (
        "Degrees, as in table 3 of the ArcFace paper (arXiv:1801.07698). W-EC: class center to class mean. W-Inter: "
        "center to the nearest other center. Intra: sample to its class mean. Inter: class mean to the nearest other."
    )
    return _of_figures("Geometry", study, shown_in("angles"), told)


def _of_figures(title: str, study: Study, figures: Sequence[Metric], *told: str) -> Part:
    headers, rows = text_table(study, figures)
    return Part(title, told, headers, rows, tuple(filter(None, [thin_line(figures, study.records)])))


def _unseen(study: Study) -> bool:
    """Return whether people are held out as query."""
    return any(record["people"]["query"] > 0 for record in study.records)


def _finished(study: Study, figure: str) -> list[Record]:
    return [r for r in study.records if r["status"] == "finished" and figure in r["metrics"]]


def _counts(records: Iterable[Record], name: str) -> list[int]:
    return [record["metrics"][name] for record in records if record["metrics"].get(name) is not None]


def _span(values: Iterable[float], form: str) -> str:
    """Return the smallest and the largest value as text, or the one value if they are equal."""
    kept = [value for value in values if not math.isnan(value)]
    if not kept:
        return "–"
    low, high = format(min(kept), form), format(max(kept), form)
    return low if low == high else f"{low} to {high}"
