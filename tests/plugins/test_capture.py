"""Which losses a CUDA graph can hold: those that neither wait for the device nor copy from the host in a step."""

import pytest
import torch
from tracing import HostTrips

from lossbench import heads, load_head
from lossbench.utils.device import be_deterministic

MINING = {"triplet", "arcface_triplet"}  # how many triplets there are is known after looking
CLASSES, DIM = 20, 16


def trips_of(spec: str) -> list[str]:
    torch.manual_seed(0)
    head = load_head(spec, num_classes=CLASSES, embedding_dim=DIM).train()
    embeddings, labels = torch.randn(16, DIM, requires_grad=True), torch.arange(16) // 4
    be_deterministic(embeddings.device)
    head(embeddings, labels).backward()  # the first step may prepare something
    with HostTrips() as trips:
        head.progress(0.5)
        head(embeddings, labels).backward()
    return trips.found


@pytest.mark.parametrize("name", sorted(set(heads()) - MINING))
def test_a_step_makes_no_round_trip_to_the_host(name):
    assert trips_of(name) == []


@pytest.mark.parametrize("name", sorted(MINING))
def test_losses_that_mine_do(name):
    assert trips_of(name)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_fill_(x > 0, 1)[x < 0],
        lambda x: x.index_put((x > 0,), x.new_ones(())),
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: torch.tensor(0.5) * x,
        lambda x: x.new_tensor(0.5),
        lambda x: x.scatter(0, torch.arange(3), x),
        lambda x: x.scatter_add_(0, torch.arange(3), x.clone()),
        lambda x: x.index_add(0, torch.arange(3), x[:3]),
        lambda x: x.index_put_((torch.arange(3),), x[3:6].clone()),
    ],
)
def test_each_kind_of_round_trip_is_seen(step):
    be_deterministic(torch.device("cpu"))
    with HostTrips() as trips:
        step(torch.randn(8))
    assert trips.found


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.requires_grad_()[torch.arange(3)].sum().backward(),
        lambda x: torch.where(x > 0, x, 0),
        lambda x: x.new_full((), 0.5).sort(),
        lambda x: x.scatter(0, torch.arange(3), 1.0),
    ],
)
def test_what_stays_on_the_device_is_not(step):
    x = torch.randn(8)
    indices = HostTrips()
    with indices:
        step(x)
    assert indices.found == []
