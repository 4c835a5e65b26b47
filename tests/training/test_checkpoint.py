"""A checkpoint holds all that a run needs to continue bit by bit, and a damaged one counts as none."""

import pickle

import pytest
import torch
from ranked import save_under_a_lost_claim

from lossbench import load_head
from lossbench.config import Config
from lossbench.models.backbones import build_backbone
from lossbench.results.history import Epoch
from lossbench.training.checkpoint import copy_state, read_checkpoint, save_checkpoint
from lossbench.training.step import Step, make_optimizer

CPU = torch.device("cpu")
HISTORY = [Epoch(1, 2.5, 0.25, 1e-3, 128, 0.5), Epoch(2, 1.5, 0.5, 5e-4, 128, 0.5, {"test_accuracy": 0.1, "x": None})]


def trained(steps=2, **options):
    """A backbone, a head with a buffer that evolves, and their optimiser, after some steps."""
    torch.manual_seed(0)
    backbone = build_backbone("tiny", embedding_dim=8)
    head = load_head("curricularface", num_classes=3, embedding_dim=8)
    optimizer = make_optimizer(backbone.train(), head.train(), Config(**options).resolved())
    for _ in range(steps):
        step(backbone, head, optimizer)
    return backbone, head, optimizer


def step(backbone, head, optimizer):
    chance = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=chance)
    make_step = Step(backbone, head, optimizer, images.shape, CPU)
    make_step(images, torch.tensor([0, 1, 2, 0]), torch.rand(7, 4, generator=chance), 0.01)


def refuse(note):
    raise AssertionError(note)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_read_is_what_was_saved(tmp_path):
    backbone, head, optimizer = trained()
    best = {"epoch": 1, "backbone": copy_state(backbone), "head": copy_state(head)}
    step(backbone, head, optimizer)
    save_checkpoint(tmp_path, backbone, head, optimizer, HISTORY, best)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    found = read_checkpoint(tmp_path, CPU, refuse)
    assert same(found["backbone"], backbone.state_dict())
    assert same(found["head"], head.state_dict())
    assert not torch.equal(found["head"]["t"], best["head"]["t"]), "a buffer that evolves"
    assert found["history"] == HISTORY
    assert found["best"]["epoch"] == 1
    assert same(found["best"]["backbone"], best["backbone"])
    assert same(found["best"]["head"], best["head"])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_continues_from_it_bit_by_bit(tmp_path, optimizer):
    options = {"optimizer": optimizer}
    backbone, head, optimizer = trained(**options)
    save_checkpoint(tmp_path, backbone, head, optimizer, HISTORY, None)
    step(backbone, head, optimizer)
    others = trained(0, **options)
    found = read_checkpoint(tmp_path, CPU, refuse)
    for part, name in zip(others, ("backbone", "head", "optimizer"), strict=True):
        part.load_state_dict(found[name])
    assert found["best"] is None
    step(*others)
    assert same(backbone.state_dict(), others[0].state_dict())
    assert same(head.state_dict(), others[1].state_dict())


def test_the_next_one_takes_its_place(tmp_path):
    parts = trained()
    save_checkpoint(tmp_path, *parts, HISTORY[:1], None)
    save_checkpoint(tmp_path, *parts, HISTORY, None)
    assert read_checkpoint(tmp_path, CPU, refuse)["history"] == HISTORY
    assert len(list(tmp_path.iterdir())) == 1


def test_a_copy_does_not_change_with_its_module():
    backbone, head, optimizer = trained()
    kept, before = copy_state(head), head.state_dict()["weight"].clone()
    step(backbone, head, optimizer)
    assert torch.equal(kept["weight"], before)
    assert not torch.equal(kept["weight"], head.weight)
    assert not torch.equal(kept["t"], head.state_dict()["t"])
    assert not kept["weight"].requires_grad


def test_without_a_file_there_is_nothing_to_continue_from(tmp_path):
    assert read_checkpoint(tmp_path, CPU, refuse) is None


class Trap:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("damage", ["cut short", "no checkpoint", "a part is missing", "another history", "code"])
def test_a_damaged_file_counts_as_none_and_is_reported(tmp_path, damage, capsys):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(tmp_path, *trained(), HISTORY, None)
    whole = torch.load(path, weights_only=True)
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    if damage == "no checkpoint":
        path.write_bytes(b"nothing")
    if damage == "a part is missing":
        torch.save({name: part for name, part in whole.items() if name != "optimizer"}, path)
    if damage == "another history":
        torch.save({**whole, "history": [{"epoch": 1, "loss": 2.0}]}, path)
    if damage == "code":
        torch.save({**whole, "best": Trap()}, path, pickle_module=pickle)
    notes = []
    assert read_checkpoint(tmp_path, CPU, notes.append) is None
    assert len(notes) == 1
    assert notes[0].startswith(f"{path} is damaged (")
    assert "\n" not in notes[0]
    assert "executed" not in capsys.readouterr().out


def test_no_process_writes_where_the_first_has_lost_the_runs_claim(in_ranks, tmp_path):
    first, second = in_ranks(2, save_under_a_lost_claim, tmp_path)
    assert first == "ClaimLost: taken over"
    assert second == "ProcessLost: the first process has lost the run to another command"
    assert not list(tmp_path.iterdir())
