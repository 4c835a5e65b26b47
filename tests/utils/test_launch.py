import pytest

from lossbench.utils.launch import Launch, launch

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}


@pytest.fixture
def started(monkeypatch):
    def start(**words):
        for name in TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        for name, word in words.items():
            monkeypatch.setenv(name, word)
        return launch()

    return start


def test_torchrun_says_which_process_this_is(started):
    assert started(**TORCHRUN) == Launch(rank=2, size=4, local_rank=0)
    assert launch().silent
    assert not started(**{**TORCHRUN, "RANK": "0"}).silent


@pytest.mark.parametrize(
    "change", [{"WORLD_SIZE": "1"}, {"RANK": "first"}, {"MASTER_ADDR": ""}, *({name: None} for name in TORCHRUN)]
)
def test_anything_less_is_one_process(started, change):
    """Some batch systems set a part of these variables for reasons of their own."""
    words = {name: word for name, word in {**TORCHRUN, **change}.items() if word is not None}
    assert started(**words) == Launch()
