"""Classes shared out over processes: loss and gradients are one process's, in float64 and at any number of classes."""

import pytest
import torch
from ranked import largest_tensor, loss_and_gradients

from lossbench.losses.head import margin_softmax, own_cosine
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.utils.distributed import ALONE

SHARED = ["arcface", "sphereface", "magface", "circle", "curricularface", "mv_softmax", "subcenter_arcface"]


def assert_alike(one, several):
    """All processes have the loss and the gradients of one; their classes together are all classes."""
    for found in several:
        assert found["loss"] == pytest.approx(one["loss"], rel=1e-9)
        torch.testing.assert_close(found["embeddings"], one["embeddings"], rtol=1e-7, atol=1e-9)
        for name, buffer in one["buffers"].items():
            torch.testing.assert_close(found["buffers"][name], buffer)
    for name, gradient in one["weights"].items():
        joined = torch.cat([found["weights"][name] for found in several])
        torch.testing.assert_close(joined, gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("size", [2, 3])
def test_loss_and_gradients_are_those_of_one_process(in_ranks, size):
    """With 11 classes, which neither two nor three processes can share evenly."""
    for text in SHARED:
        several = in_ranks(size, loss_and_gradients, text, 11)
        assert all(set(found["shared"].values()) == {""} for found in several)
        assert [found["held"] for found in several] == [[5], [6]] if size == 2 else [[3], [4], [4]]
        assert_alike(loss_and_gradients(ALONE, text, 11), several)


def test_many_classes_in_several_blocks_and_one_class_each(in_ranks):
    for text in ("arcface", "circle", "subcenter_arcface"):
        assert_alike(loss_and_gradients(ALONE, text, 4099), in_ranks(2, loss_and_gradients, text, 4099, 1))
    assert_alike(loss_and_gradients(ALONE, "arcface", 2), in_ranks(2, loss_and_gradients, "arcface", 2))


def test_a_process_scores_its_own_classes_and_never_all(in_ranks):
    """The largest tensors of a step are the scores of its own classes, and the gradient of their weights."""
    classes = 40_000
    for found in in_ranks(2, largest_tensor, classes):
        assert found <= 32 * classes / 2


def shard(classes=50, sample=0.2):
    torch.manual_seed(0)
    weight = torch.randn(classes, 8, dtype=torch.float64)
    made = ClassShard(weight, ALONE, sample)
    made.seed(4)
    return weight, made


def test_sampled_centers_hold_the_batch_and_a_share_drawn_anew():
    weight, made = shard()
    embeddings, labels = torch.randn(6, 8, dtype=torch.float64), torch.tensor([3, 3, 9, 20, 49, 0])
    draws = []
    for _ in range(2):
        loss = margin_softmax(embeddings, made, labels, lambda own: own - 0.2, 10.0)
        index, rows = made.drawn
        loss.backward()
        assert len(index) == 10  # a fifth
        assert set(labels.tolist()) <= set(index.tolist())
        assert made.rows.grad is None
        kept = weight[index].requires_grad_()
        place = {int(row): i for i, row in enumerate(index)}
        again = margin_softmax(
            embeddings, kept, torch.tensor([place[int(n)] for n in labels]), lambda own: own - 0.2, 10.0
        )
        again.backward()
        torch.testing.assert_close(loss, again)
        torch.testing.assert_close(rows.grad, kept.grad)
        draws.append(index.tolist())
        made.drawn = None
    assert draws[0] != draws[1]
    made.seed(4)
    margin_softmax(embeddings, made, labels, lambda own: own, 10.0)
    assert made.drawn[0].tolist() == draws[0]


def test_a_batch_of_more_people_than_the_share_is_held_whole():
    _, made = shard(classes=50, sample=0.02)
    labels = torch.arange(30)
    margin_softmax(torch.randn(30, 8, dtype=torch.float64), made, labels, lambda own: own, 10.0)
    assert labels.tolist() == made.drawn[0].tolist()


def test_the_own_cosine_is_that_of_the_whole_weights():
    weight, made = shard()
    embeddings, labels = torch.randn(6, 8, dtype=torch.float64), torch.tensor([3, 3, 9, 20, 49, 0])
    assert torch.equal(own_cosine(embeddings, made, labels), own_cosine(embeddings, weight, labels))


def test_it_says_what_the_whole_weights_are_like_and_can_be_nothing_else():
    weight, made = shard()
    assert (len(made), made.ndim, made.dtype, made.shape) == (50, 2, weight.dtype, weight.shape)
    with pytest.raises(TypeError):
        torch.nn.functional.linear(torch.randn(6, 8), made)
