"""What processes tell each other, and what one does when another is gone or fails."""

import pytest
import torch
from ranked import fail, tell

from lossbench.errors import InputError, ProcessLost
from lossbench.utils.distributed import ALONE, Ranks, device_of_rank, joined
from lossbench.utils.launch import Launch


def test_shares_cover_everything_once_and_differ_by_one_at_most():
    for count in range(3, 20):
        shares = [range(count)[Ranks(rank, 3).share(count)] for rank in range(3)]
        assert [i for share in shares for i in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_three_processes_find_the_same(in_ranks):
    found = in_ranks(3, tell)
    for rank, one in enumerate(found):
        assert one.pop("place") == (rank, 3, rank == 0)
        assert one.pop("gathered") == (list(range(7)) if rank == 0 else None)
        assert one.pop("failed") == ("KeyError: 'no'" if rank == 0 else "RuntimeError: KeyError: 'no'")
    expected = {
        "sum": [3.0, 3.0],
        "max": [0, 2],
        "everyones": [0, 10, 20],
        "of_first": "said by 0",
        "refused": "InputError: no",
    }
    assert found == [expected] * 3


def test_an_error_that_all_have_is_the_losss_own(in_ranks):
    assert in_ranks(2, fail, None) == ["ZeroDivisionError: of the loss"] * 2


def test_an_error_that_one_has_alone_ends_all_and_is_said_once(in_ranks, monkeypatch):
    waiting, failed = in_ranks(2, fail, 1, 0.5)
    line = "ZeroDivisionError: of the loss; run the same command again to continue"
    assert failed == f"ProcessLost: process 2 of 2 failed alone: {line} (said: False)"
    assert waiting == "ProcessLost: another process of this run has ended; run the same command again to continue" + (
        " (said: True)"
    )


def test_a_process_alone_tells_nobody():
    assert ALONE.first
    assert ALONE.share(5) == slice(0, 5)
    tensor = torch.ones(2)
    assert ALONE.sum_(tensor) is tensor is ALONE.max_(tensor)
    assert ALONE.everyones(4) == [4]
    assert ALONE.gathered(tensor, 2) is tensor
    assert ALONE.of_first(lambda: 3) == 3
    ALONE.wait()
    with pytest.raises(KeyError), ALONE.together("a loss"):
        raise KeyError
    with joined(torch.device("cpu")) as ranks:
        assert ranks == ALONE


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert device_of_rank(cpu, Launch(3, 4, 3)) == cpu
    assert device_of_rank(cuda, Launch()) == cuda
    assert device_of_rank(cuda, Launch(1, 2, 1)) == torch.device("cuda", 1)
    with pytest.raises(InputError, match="each of 2 processes takes its own; use cuda"):
        device_of_rank(torch.device("cuda", 1), Launch(0, 2, 0))
    for local, said in ((2, False), (3, True)):
        with pytest.raises(ProcessLost, match=r"than the 2 GPUs of this machine.*--nproc-per-node 2") as refused:
            device_of_rank(cuda, Launch(local, 4, local))
        assert refused.value.said is said
