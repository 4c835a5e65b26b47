"""`lossbench list`: what there is, as text and as JSON that says the same."""

import json

import pytest
from support import plugin

from lossbench.losses.registry import find_plugins
from lossbench.models.backbones import BACKBONES


def test_the_document_holds_what_the_list_shows(lossbench):
    code, out, err = lossbench("list", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [loss["name"] for loss in found["losses"]] == list(find_plugins())
    assert [backbone["name"] for backbone in found["backbones"]] == list(BACKBONES)
    assert [data["name"] for data in found["data"]] == ["orl", "DIR"]
    arcface = next(loss for loss in found["losses"] if loss["name"] == "arcface")
    assert arcface["hyperparameters"] == [
        {"name": "margin", "type": "float", "default": 0.5, "range": "0 <= margin < pi"},
        {"name": "scale", "type": "float", "default": 64.0, "range": "scale > 0"},
    ]
    tiny = found["backbones"][0]
    assert (tiny["image_size"], tiny["embedding_dim"], tiny["lr"]) == (64, 128, 0.003)
    shown = lossbench("list")[1]
    assert all(entry["name"] in shown for kind in found.values() for entry in kind)


@pytest.mark.parametrize(("what", "keys"), [("losses", {"losses"}), ("backbones", {"backbones"}), ("data", {"data"})])
def test_only_what_is_asked_for_is_listed(lossbench, what, keys):
    assert json.loads(lossbench("list", what, "--json")[1]).keys() == keys


def test_losses_of_a_folder_and_of_another_library_are_listed_too(lossbench, tmp_path):
    plugin(tmp_path, "mine", "", extra=", *, margin: float, name: str = 'a'")
    found = json.loads(lossbench("list", "losses", "--plugins", tmp_path, "--pml", "--json")[1])["losses"]
    (mine,) = [loss for loss in found if loss["name"] == "mine"]
    assert mine["file"] == str(tmp_path / "mine.py")
    assert [(one["name"], one["default"]) for one in mine["hyperparameters"]] == [("margin", None), ("name", "a")]
    assert "pml:CircleLoss" in {loss["name"] for loss in found}
