"""What metrics are computed from: given or shared, each computed once, and none where there is too little."""

import math

import torch

from lossbench.metrics.exact.directions import unit_rows
from lossbench.results import metric_inputs
from lossbench.results.metric_inputs import SHARED, Computation, Values, resampled_share


def faces(people, images, seed):
    """Random directions [people * images, 6] near one of each person, and their labels."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(people, 1, 6, generator=draw)
    found = unit_rows((means + 0.3 * torch.randn(people, images, 6, generator=draw)).flatten(0, 1)).float()
    return found, torch.arange(people).repeat_interleave(images)


def test_what_is_shared_is_computed_once_and_when_it_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setitem(SHARED, "gallery", Computation(lambda query: calls.append(1) or len(query), ("query",)))
    values = Values({"query": [1, 2]})
    assert calls == []
    assert [values["gallery"], values["gallery"], calls] == [2, 2, [1]]


def test_an_input_can_be_had_where_all_that_it_needs_can():
    given = {"query": torch.eye(2), "query_labels": torch.tensor([0, 1])}
    values = Values(given)
    assert values.can(("query", "gallery", "search_alone", "clusters"))
    assert not values.can(("search",)), "distractors are missing, one step further on"
    assert not values.can(("gallery", "train"))
    assert Values({**given, "distractors": torch.eye(2)}).can(("search",))
    assert values.can(())


def test_what_is_given_is_not_computed():
    assert Values({"replicates": 7, "query": torch.eye(2), "distractors": torch.eye(2)})["replicates"] == 7


def test_k_means_is_left_out_where_it_would_take_minutes(monkeypatch):
    query, labels = faces(4, 5, seed=0)
    found = Values({"query": query, "query_labels": labels})["clusters"]
    assert 0 < found.nmi <= 1
    monkeypatch.setattr(metric_inputs, "_KMEANS", len(query) * 4 - 1)
    other = Values({"query": query, "query_labels": labels})["clusters"]
    assert math.isnan(other.nmi)
    assert math.isnan(other.ami)
    assert other.silhouette == found.silhouette


def test_a_search_among_distractors_has_more_entries_and_is_no_easier():
    query, labels = faces(4, 5, seed=0)
    distractors, _ = faces(6, 3, seed=1)
    values = Values({"query": query, "query_labels": labels, "distractors": distractors})
    alone, among = values["search_alone"], values["search"]
    assert (alone.entries, among.entries) == (4, 4 + 18)
    assert among.rate[0] <= alone.rate[0]


def test_nobody_is_drawn_where_there_is_nobody():
    drawn = Values({"distractors_people": (), "replicates": 5})["distractors_drawn"]
    assert drawn.shape == (5, 0)
    drawn = Values({"query_people": ("a", "b", "c"), "replicates": 5})["query_drawn"]
    assert drawn.shape == (5, 3)
    assert drawn.sum() > 0


def test_a_share_in_resamples_counts_each_person_as_often_as_it_was_drawn():
    hits, labels = torch.tensor([True, True, False, True]), torch.tensor([0, 0, 1, 1])
    drawn = torch.tensor([[1, 1], [2, 0], [0, 2]])
    assert resampled_share(hits, labels, drawn).tolist() == [0.75, 1.0, 0.5]
