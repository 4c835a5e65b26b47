"""Sections of a report on people unseen in training: operating points, galleries, clusters."""

import math
from collections.abc import Iterable

from lossbench.report.markup import table
from lossbench.report.tables import text_table
from lossbench.results.metric_fields import CLUSTERS, GALLERY, RETRIEVAL, TRANSFER, flat_metrics
from lossbench.results.store import Record
from lossbench.results.study import Study


def negatives_line(study: Study) -> str:
    """Return in a sentence what the false-positive rates of the finished runs rest on; empty without any."""
    found = _finished(study, "negatives")
    if not found:
        return ""
    negatives, within = _counts(found, "negatives"), _counts(found, "query_negatives")
    others = [a - b for a, b in zip(negatives, within, strict=True)]
    return (
        f"{_span(negatives, ',')} negatives a repeat: {_span(within, ',')} pairs of query images and "
        f"{_span(others, ',')} pairs with a distractor image. The lowest false-positive rate they support is "
        f"{max(1 / n for n in negatives):.2g}; below it there is a dash, never a number."
    )


def operating_points(study: Study) -> list[str]:
    """What each false-positive rate rests on, and whether thresholds set on val hold it."""
    found = _finished(study, "negatives")
    if not found:
        return []
    rows = []
    for point in found[0]["metrics"]["identification"]:
        rate = point["fpr"]
        own = [r for r in found if math.floor(r["metrics"]["negatives"] * rate + 1e-9) >= 1]
        achieved = [flat_metrics(r).get(f"achieved_fpr@{rate:g}", math.nan) for r in own]
        supported = f"{len({r['repeat'] for r in own})} of {len({r['repeat'] for r in found})} repeats"
        rows.append([f"{rate:g}", _span(achieved, ".4g"), f"{math.ceil(1 / rate):,}", supported])
    calibration = _counts(found, "calibration_negatives")
    lines = [
        "## Operating points",
        "",
        negatives_line(study),
        "",
        *table(["FPR asked for", "achieved", "negatives needed", "supported in"], rows),
        "",
    ]
    if calibration:
        lines += [
            "**Threshold transfer**: in use nobody can set a threshold on the people he will meet. Here it is set on "
            f"val images of the training people ({_span(calibration, ',')} negatives), and this is the rate it then "
            "lets pass among query people and distractors: above the asked rate, the promise is broken.",
            "",
            *table(*text_table(study, TRANSFER)),
            "",
        ]
    return lines


def gallery(study: Study) -> list[str]:
    """Search in a gallery: CMC and DIR at FAR."""
    found = _finished(study, "cmc")
    if not found:
        return []
    entries = [r["metrics"]["cmc"]["without_distractors"]["entries"] for r in found]
    more = [r["metrics"]["cmc"]["with_distractors"]["entries"] for r in found]
    return [
        "## Search in a gallery",
        "",
        f"One image of each query person is enrolled ({_span(entries, ',')} entries; {_span(more, ',')} with every "
        f"distractor image); the other {_span(_counts(found, 'probes'), ',')} are probes. Rank k: the share of probes "
        "whose person is among the first k entries. DIR @ FAR (detection and identification rate): the share of probes "
        "that find their person at rank 1 above the threshold that so few distractors pass. Ties never help.",
        "",
        *table(*text_table(study, GALLERY)),
        "",
    ]


def clusters(study: Study) -> list[str]:
    """Retrieval and cluster statistics of the query people."""
    if not _finished(study, "clusters"):
        return []
    return [
        "## Retrieval and clusters of query people",
        "",
        "Precision@1, R-precision and MAP@R: every query image looks for the others of its person (arXiv:2003.08505). "
        "Silhouette by cosine distance; NMI and AMI: agreement of k-means clusters with people; alignment (0 is best) "
        "and uniformity (lower is more uniform; arXiv:2005.10242); effective rank: how many directions the embeddings "
        "use, 1 when they have collapsed. NMI and AMI are dashes beyond 20 million images times people.",
        "",
        *table(*text_table(study, (*RETRIEVAL, *CLUSTERS))),
        "",
    ]


def _finished(study: Study, figure: str) -> list[Record]:
    return [r for r in study.records if r["status"] == "finished" and r["metrics"].get(figure)]


def _counts(records: Iterable[Record], name: str) -> list[int]:
    return [record["metrics"][name] for record in records if record["metrics"].get(name) is not None]


def _span(values: Iterable[float], form: str) -> str:
    """Return a value, or the least and the largest where they differ."""
    kept = [value for value in values if not math.isnan(value)]
    if not kept:
        return "–"
    low, high = format(min(kept), form), format(max(kept), form)
    return low if low == high else f"{low} to {high}"
