"""A backbone as it is examined: fresh, the same for a seed, and in training mode."""

import torch
from support import network

from lossbench.conformance.network import BATCH, STEPS, network_of, state_of, steps


def test_a_network_is_examined_with_what_suits_it(tmp_path):
    n = network_of(network(tmp_path))
    assert (n.embedding_dim, n.image_size, n.dropout) == (16, 32, 0.1)
    net = n.built(embedding_dim=5, dropout=0.5)
    assert net.training
    assert (net.embedding.out_features, net.dropout.p) == (5, 0.5)
    assert net.blocks[0].shortcut.weight.is_contiguous(memory_format=torch.channels_last)


def test_images_are_unlike_and_the_same_for_a_seed(tmp_path):
    n = network_of(network(tmp_path))
    images = n.images()
    assert images.shape == (BATCH, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(images, n.images())
    assert not torch.equal(images, n.images(seed=1))
    assert len({image.sum().item() for image in images}) == BATCH
    assert n.images(2, image_size=48).shape == (2, 3, 48, 48)


def test_steps_show_gradients_and_train(tmp_path):
    n = network_of(network(tmp_path))
    net, drawn = n.built(), torch.get_rng_state()
    before = state_of(net)
    assert [bool(net.embedding.weight.grad.any()) for _ in steps(n, net)] == [True] * STEPS
    assert not torch.equal(before["embedding.weight"], net.embedding.weight)
    assert torch.equal(drawn, torch.get_rng_state())
