"""What would settle a pair: more repeats, or more people, as its two parts of the error say."""

from dataclasses import replace

import pytest
from support import STUDY

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.unsettled import Plan, plan, unsettled
from lossbench.results.metric_fields import metric
from lossbench.results.verdicts import Verdict, verdicts


def verdict(mean, between, shared, **changes):
    difference = Estimate(mean, between, 20, shared, 20, 5)
    return replace(Verdict(metric("tpr@0.1"), "a", "b", difference, 0.5, 0.05, lasting=shared), **changes)


def test_repeats_alone_where_the_seeds_are_to_blame():
    found = plan(verdict(0.05, 0.03**2, 0.0))
    assert found.people == 1
    assert found.repeats == verdict(0.05, 0.03**2, 0.0).repeats_to_settle - 5
    assert found.text == f"{found.repeats} more repeats"


def test_people_where_they_are_to_blame():
    v = verdict(0.05, 0.01**2, 0.06**2)
    assert v.repeats_to_settle is None
    found = plan(v)
    assert found.people > 1
    assert found.text.startswith(f"{found.people} times as many people")
    fewer = plan(verdict(0.05, 0.01**2, 0.03**2))
    assert fewer < found, "the smaller the people's part, the fewer people are needed"


def test_what_nothing_would_settle_has_no_plan():
    assert plan(verdict(0.0199, 0.3**2, 0.3**2)) is None


@pytest.mark.parametrize(("made", "said"), [(Plan(1, 1), "1 more repeat"), (Plan(3, 0), "3 times as many people")])
def test_plans_in_words(made, said):
    assert made.text == said


def test_a_row_counts_the_open_pairs_of_a_figure():
    found = verdicts(STUDY)
    rows = unsettled(found)
    assert [row.figure.point for row in rows] == [0.1, 0.01, None]
    for row in rows:
        own = [v for v in found if v.figure == row.figure]
        assert row.open == sum(not v.settled for v in own)
        assert row.compared == len(own)
        assert row.repeats + row.people == row.open
        assert {row.a, row.b} in [{v.a, v.b} for v in own if not v.settled]


def test_a_pair_without_a_plan_is_said_to_be_hopeless():
    (row,) = unsettled([verdict(0.0199, 0.3**2, 0.3**2)])
    assert row.settled_by == "not even 50 times as many people and 100 repeats"
    assert (row.repeats, row.people) == (0, 1)
