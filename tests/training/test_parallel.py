"""Training by several processes: without batch normalisation the numbers of one, and what a record says of the rest."""

import pytest
import torch
from ranked import Plain, masks, steps, train_on_orl
from torch import nn

from lossbench.config import Config
from lossbench.losses.loading import load_head
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.training.parallel import facts, update_drawn, with_joined_statistics
from lossbench.training.step import make_optimizer
from lossbench.utils.distributed import ALONE, Ranks

CPU = torch.device("cpu")


def assert_close(found, expected):
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["moved"] is expected["moved"] is True
    assert found["weights"].keys() == expected["weights"].keys()
    for name, tensor in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_steps_are_those_of_one_process(in_ranks, size):
    """11 images and 10 classes, which cannot be shared evenly; the optimisers hold their own classes alone."""
    for text, optimizer in (
        ("arcface", "sgd"),
        ("elasticface", "adamw"),
        ("ce", "sgd"),
        ("arcface+0.5*triplet", "sgd"),
    ):
        several = in_ranks(size, steps, text, optimizer, 3)
        assert_close(several[0], steps(ALONE, text, optimizer, 3))
        for other in several[1:]:
            assert other["losses"] == several[0]["losses"]
            same = [n for n in several[0]["weights"] if n in other["weights"]]
            assert all(torch.equal(other["weights"][n], several[0]["weights"][n]) for n in same)


def test_dropout_differs_between_processes_and_the_heads_draws_do_not(in_ranks):
    """In every step; an epoch that is trained again draws the same."""
    first, second = in_ranks(2, masks)
    assert [draw for _, draw in first] == [draw for _, draw in second]
    assert all(one != other for (one, _), (other, _) in zip(first, second, strict=True))
    assert len({str(mask) for mask, _ in first}) == 4
    assert first[:2] == first[4:] != first[2:4]


def test_a_run_continues_to_the_same_bits_and_has_the_whole_head(in_ranks, tmp_path):
    whole = in_ranks(2, train_on_orl, "arcface", tmp_path / "whole", {"select": "val"})
    in_ranks(2, train_on_orl, "arcface", tmp_path / "cut", {"select": "val"}, 2)
    names = {"checkpoint.pt", "checkpoint-1.pt", "history.jsonl"}
    assert {file.name for file in (tmp_path / "cut").iterdir()} == names
    # stopped after the first process's file had taken its place
    (tmp_path / "cut" / "checkpoint-1.pt").rename(tmp_path / "cut" / "checkpoint-1.next.pt")
    again = in_ranks(2, train_on_orl, "arcface", tmp_path / "cut", {"select": "val"})
    assert again[0]["history"] == again[1]["history"] == whole[0]["history"]
    assert again[0]["states"]["head.weight"].shape == (24, 128)
    assert all(torch.equal(again[0]["states"][name], tensor) for name, tensor in whole[0]["states"].items())
    assert again[0]["notes"] == []
    assert whole[0]["processes"] == {
        "count": 2,
        "batch_normalisation": "over each process's part of the batch",
        "class_weights": {"ArcFace": "shared out over 2 processes"},
        "cuda_graphs": False,
    }
    (tmp_path / "cut" / "checkpoint-1.pt").write_bytes(b"damaged")
    notes = in_ranks(2, train_on_orl, "arcface", tmp_path / "cut", {"epochs": 1})[0]["notes"]
    assert notes == [f"the processes' checkpoints in {tmp_path / 'cut'} are not of one epoch; this run starts again"]


def test_sampling_all_centers_is_training_with_all(in_ranks):
    """Also in one process, which shares its classes with nobody."""
    for text, optimizer in (("arcface", "sgd"), ("subcenter_arcface", "adamw")):
        expected = steps(ALONE, text, optimizer, 3)
        assert_close(steps(ALONE, text, optimizer, 3, 1.0), expected)
        assert_close(in_ranks(2, steps, text, optimizer, 3, 1.0)[0], expected)


def test_rows_that_are_not_drawn_keep_their_values_and_moments():
    head = load_head("arcface", num_classes=40, embedding_dim=6)
    weight = head.weight.detach().clone()
    del head.weight
    head.weight = shard = ClassShard(weight, ALONE, 0.1)
    shard.seed(0)
    for name in ("sgd", "adamw"):
        optimizer = make_optimizer(nn.Linear(3, 6), head, Config(optimizer=name, weight_decay=0.1))
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(0.1)
        moved = torch.zeros(40, dtype=torch.bool)
        for labels in (torch.tensor([1, 2, 2]), torch.tensor([1, 30, 31])):
            head(torch.randn(3, 6), labels).backward()
            index, before = shard.drawn[0], shard.rows.detach().clone()
            moved[index] = True
            update_drawn(shard, optimizer)
            changed = (shard.rows != before).any(1)
            assert changed[index].all()
            assert int(changed.sum()) == len(index) == 4
        moments = [value for value in optimizer.state[shard.rows].values() if value.shape == shard.rows.shape]
        assert len(moments) == (1 if name == "sgd" else 2)
        assert all(torch.equal((moment != 0).any(1), moved) for moment in moments)


def test_a_record_says_what_differs_from_one_process():
    shared = {"ArcFace": "", "CE": "of a reason"}
    found = facts(Plain(), CPU, Ranks(0, 4), shared, 0.1)
    assert found["batch_normalisation"] is None
    assert found["class_weights"] == {
        "ArcFace": "shared out over 4 processes; "
        "a step scores a share of 0.1 of them, or as many as its batch has images",
        "CE": "whole in every process: of a reason",
    }
    found = facts(nn.BatchNorm2d(3), torch.device("cuda"), Ranks(0, 2), {}, None)
    assert found["batch_normalisation"] == "over the whole batch"


def test_statistics_are_joined_on_gpus_alone():
    norm = nn.Sequential(nn.BatchNorm2d(3))
    assert with_joined_statistics(norm, CPU, Ranks(0, 2)) is norm
    assert with_joined_statistics(norm, torch.device("cuda"), ALONE) is norm
    assert isinstance(with_joined_statistics(norm, torch.device("cuda"), Ranks(0, 2))[0], nn.SyncBatchNorm)
