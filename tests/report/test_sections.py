"""Sections on unseen people, and shared ranks, from records whose right answer is known."""

import pytest
from support import changed

from lossbench.report.markup import part_lines
from lossbench.report.sections import (
    clusters,
    gallery,
    geometry,
    negatives_line,
    operating_points,
    other_points_line,
    verified,
)
from lossbench.results.study import Study
from lossbench.results.verdicts import rank_table, verdicts


def record(repeat, negatives, tpr, status="finished"):
    supported = [fpr for fpr in (0.1, 0.001) if negatives * fpr >= 1]
    metrics = {
        **{f"tpr@{f}": tpr if f in supported else None for f in (0.1, 0.001)},
        **{f"achieved_fpr@{f}": f * 0.9 if f in supported else None for f in (0.1, 0.001)},
        "positives": 10, "negatives": negatives, "query_negatives": 40, "lowest_fpr": 1 / negatives, "probes": 12,
        "transfer_fpr@0.1": 0.13, "transfer_tpr@0.1": 0.5,
        "calibration_negatives": 500,
        "entries_without_distractors": 8, "entries_with_distractors": 88, "dir@0.1": 0.4,
        **{f"cmc{k}_without_distractors": rate for k, rate in ((1, 0.5), (5, 0.75), (10, None))},
        **{f"cmc{k}_with_distractors": rate for k, rate in ((1, 0.25), (5, 0.5), (10, 0.75))},
        "precision_at_1": 0.9, "r_precision": 0.6, "map_at_r": 0.5, "queries": 20, "alone": 0,
        "silhouette": 0.2, "nmi": 0.8, "ami": 0.7, "alignment": 0.1, "uniformity": -1.5, "effective_rank": 12.3,
    }  # fmt: skip
    return {
        "split": f"fold {repeat}", "data": "faces",
        "entrant": "ce", "repeat": repeat, "status": status, "metrics": metrics, "accuracy_by": "logits",
        "sampler": "shuffle", "people": {"test": 24, "query": 8}, "timings": {},
    }  # fmt: skip


STUDY = Study((record(0, 900, 0.6), record(1, 2000, 0.7), record(2, 5, 0.1, status="failed")), {})


def text_of(*parts):
    return "\n".join(line for part in parts for line in part_lines(part))


def test_an_operating_point_says_what_it_rests_on():
    text = text_of(*operating_points(STUDY))
    assert "900 to 2,000 negatives per repeat: 40 pairs of query images and 860 to 1,960 pairs" in text
    assert "The lowest false-positive rate they support is 0.0011" in text
    assert "| 0.1 | 0.09 | 90 to 200 | 10 | 2 of 2 repeats |" in text
    assert "| 0.001 | 0.0009 | 2 | 1,000 | 1 of 2 repeats |" in text, "900 negatives do not support 0.001"


def test_thresholds_that_do_not_transfer_are_shown():
    text = text_of(*operating_points(STUDY))
    assert "(500 negatives)" in text
    assert "| ce | 2 of 3 (67 %) | shuffle | 0.1300 ± 0.0000 | – |" in text


@pytest.mark.parametrize(("points", "more"), [((), False), ((0.05, 0.01), False), ((0.05, 0.01, 1e-4), True)])
def test_more_points_than_the_headline_has_stand_in_a_table_of_their_own(points, more):
    run = record(0, 2000, 0.6)
    for i, fpr in enumerate(points):
        run = changed(run, ("metrics", f"tpr@{fpr:g}"), None if fpr < 1e-3 else 0.5 - i / 10)
    text = text_of(*operating_points(Study((run,), {})))
    row = "| ce | 1 | shuffle | 0.600 | 0.500 | 0.400 | 0.600 | – |"
    assert (row in text) == more
    assert ("| 0.0001 | – | – | 10,000 | 0 of 1 repeats |" in text) == more
    assert ("ID rate @ FPR 0.001 (2)" in text) == more, "two of 2,000 negatives"
    assert ("FPR 0.01 set on val becomes (5)" in text) == bool(points), "five of the 500 of val"


def test_rates_that_not_all_runs_have_are_said():
    assert other_points_line(STUDY) == ""
    runs = [record(0, 900, 0.6), changed(record(1, 900, 0.6), ("metrics", "tpr@1e-05"), 0.1)]
    study = Study(tuple(runs), {})
    assert study.fprs == (0.1, 0.001)
    said = "only those in common are compared (0.1, 0.001), not 1e-5."
    assert other_points_line(study) == f"The runs were measured at different false-positive rates: {said}"


def test_gallery_and_clusters():
    text = text_of(gallery(STUDY))
    assert "(8 entries; 88 with every distractor image); the other 12 are probes" in text
    assert "| 0.500 ± 0.000 | 0.750 ± 0.000 | – | 0.250 ± 0.000 |" in text
    assert "| 0.900 ± 0.000 | 0.600 ± 0.000 | 0.500 ± 0.000 | 0.200 ± 0.000 |" in text_of(clusters(STUDY))


def test_without_query_people_there_is_one_sentence():
    nobody = changed(changed(record(0, 0.5, 0.6), ("metrics", "negatives"), 0), ("people", "query"), 0)
    study = Study((nobody,), {})
    assert negatives_line(study).startswith("Nobody is held out (no query people): identification rates,")
    assert operating_points(study) == []
    assert gallery(study) is clusters(study) is None


def test_without_figures_there_is_no_section():
    older = Study(({**record(0, 900, 0.6), "metrics": {}},), {})
    assert operating_points(older) == []
    assert gallery(older) is clusters(older) is verified(older) is None


def test_who_never_finished_is_neither_ranked_nor_counted():
    runs = [{**record(r, 900, 0.6), "entrant": name} for name in ("ce", "arcface") for r in (0, 1)]
    runs += [{**record(r, 900, 0.6, status="failed"), "entrant": "broken"} for r in (0, 1)]
    found = [v for v in verdicts(Study(tuple(runs), {})) if v.figure.key == "tpr@0.1"]
    assert [(v.a, v.b, v.level) for v in found] == [("ce", "arcface", 0.05)]
    assert list(rank_table(found)["loss"]) == ["ce", "arcface"]


@pytest.mark.parametrize(
    ("measuring", "flipped"), [(None, False), ({"config": {"flip": True}}, True), ({"config": {}}, False)]
)
def test_pairs_are_reported_whatever_is_known_of_their_measuring(measuring, flipped):
    """`measuring` may be null in a record that lossbench did not write."""
    pairs = {f"verification_{name}": 0.5 for name in ("accuracy", "standard_error", "tar", "eer", "auc")}
    pairs |= {"verification_same": 30, "verification_different": 20, "verification_folds": 10}
    run = record(0, 900, 0.6)
    text = text_of(verified(Study(({**run, "measuring": measuring, "metrics": {**run["metrics"], **pairs}},), {})))
    assert "30 pairs of one person and 20 of two, 10 folds" in text
    assert ("The mirrored image's embedding is added" in text) == flipped


def test_geometry_is_that_of_the_paper():
    run = changed(record(0, 900, 0.6), ("metrics", "train_w_ec"), 12.345)
    assert "| ce | 1 | shuffle | 12.35 | – |" in text_of(geometry(Study((run,), {})))
