"""Several processes on GPUs, one each, and class centers that are sampled on a GPU."""

import pytest
import torch
from ranked import steps

from lossbench.losses.head import margin_softmax
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.utils.distributed import ALONE

AUTOCAST = 0.02  # the network computes in bfloat16


def assert_close(found, expected):
    assert found["losses"] == pytest.approx(expected["losses"], rel=AUTOCAST)
    for name, tensor in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], tensor, rtol=AUTOCAST, atol=AUTOCAST)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs: NCCL lets no two processes share one")
def test_two_processes_on_two_gpus_make_the_steps_of_one(in_ranks):
    for text in ("arcface", "ce", "arcface+0.5*triplet"):
        two = in_ranks(2, steps, text, "sgd", 3, None, "cuda", device="cuda")
        assert_close(two[0], steps(ALONE, text, "sgd", 3, None, "cuda"))
        assert two[0]["losses"] == two[1]["losses"]


def test_sampling_all_centers_is_training_with_all(cuda):
    for text, optimizer in (("arcface", "sgd"), ("subcenter_arcface", "adamw")):
        assert_close(steps(ALONE, text, optimizer, 3, 1.0, "cuda"), steps(ALONE, text, optimizer, 3, None, "cuda"))


def test_drawing_centers_does_not_wait_for_the_gpu(cuda):
    shard = ClassShard(torch.randn(100, 8, device=cuda), ALONE, 0.3)
    shard.seed(0)
    embeddings, labels = torch.randn(16, 8, device=cuda), torch.arange(16, device=cuda)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        margin_softmax(embeddings, shard, labels, lambda own: own - 0.2, 10.0).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(shard.drawn[0]) == 30
