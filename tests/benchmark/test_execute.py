"""What goes wrong in other people's plugins: one line or a failed record, and the other entrants finish."""

import json
from pathlib import Path

import pytest
import torch
from support import FORWARD, LOSS, Recorder, network, plugin
from support import bench as short_bench

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone


def bench(losses: list[str], out: Path):
    settings = {"identities": 4, "batch_size": 8, "epochs": 2, "repeats": 1, "image_size": 32, "device": "cpu"}
    return run_benchmark(Config(losses=",".join(losses), out=str(out), **settings), Recorder())


def test_failing_plugins_become_records_and_the_others_finish(tmp_path):
    raises = "\n    def forward(self, embeddings, labels):\n        raise KeyError('no such center')\n"
    nan = f"""
    def forward(self, embeddings, labels):
        self.epoch += 1 / 3  # three batches make an epoch of 24 images
        return {LOSS} * torch.where(self.epoch > 1.01, torch.nan, 1.0)
"""
    rows = f"\n    def forward(self, embeddings, labels):\n        return {LOSS} * torch.ones(len(labels))\n"
    number = "\n    def forward(self, embeddings, labels):\n        return 1.5\n"
    wide = (
        FORWARD + "\n    def logits(self, embeddings):\n        return embeddings @ self.weight.T @ torch.ones(4, 7)\n"
    )
    bad = {
        "raises": (raises, 1, "KeyError: 'no such center'"),
        "nan_later": (nan, 2, "the loss became nan"),
        "rows": (rows, 1, "one differentiable number, not of shape [8]"),
        "number": (number, 1, "one differentiable number, not a float"),
        "wide": (wide, 1, "logits have shape (8, 7), not [8, 4]"),
    }
    specs = [plugin(tmp_path, name, methods) for name, (methods, _, _) in bad.items()]
    _, records = bench(["ce", *specs, "arcface+0.5*triplet"], tmp_path / "out")
    found = {record["entrant"]: record for record in records}
    for name in ("ce", "arcface+0.5*triplet"):
        assert found[name]["status"] == "finished", name
    for name, (_, epoch, reason) in bad.items():
        assert found[name]["status"] == "failed", name
        assert found[name]["epoch"] == epoch, name
        assert reason in found[name]["reason"], name
        assert "\n" not in found[name]["reason"]
    mix = found["arcface+0.5*triplet"]
    assert mix["sampler"] == "P x 4"
    assert mix["hyperparameters"]["triplet.weight"] == 0.5
    assert mix["hyperparameters"]["arcface.weight"] == 1.0
    assert json.loads((Path(mix["folder"]) / "run.json").read_text())["hyperparameters"] == mix["hyperparameters"]


@pytest.mark.parametrize(
    ("extra", "spec", "message"),
    [
        (", temperature", "", "missing 1 required positional argument: 'temperature'"),
        (", *, temperature: float", "", "needs a value for 'temperature'"),
        (", *, temperature: float = 1.0", ":temperature=hot", "temperature must be a number, not 'hot'"),
    ],
    ids=["positional", "keyword", "not a number"],
)
def test_an_argument_that_nobody_gave_is_one_line_before_anything_is_trained(tmp_path, extra, spec, message):
    path = plugin(tmp_path, "greedy", FORWARD, extra)
    with pytest.raises(InputError, match=message) as error:
        bench(["ce", path + spec], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_constructor_that_raises_is_one_line(tmp_path):
    path = plugin(tmp_path, "moody", FORWARD)
    Path(path).write_text(Path(path).read_text().replace("super().__init__()", "raise RuntimeError('not today')"))
    with pytest.raises(InputError, match="moody cannot be built: RuntimeError: not today"):
        bench(["ce", path], tmp_path / "out")


def test_a_traceback_that_no_encoding_holds_is_written_and_stops_nobody(tmp_path):
    raises = "\n    def forward(self, embeddings, labels):\n        raise ValueError('\\ud800')\n"
    folder, records, _ = short_bench(tmp_path / "out", f"ce,{plugin(tmp_path, 'mine', raises)}", repeats=1)
    assert [record["status"] for record in records] == ["finished", "finished", "failed"]
    assert "\\ud800" in next(folder.glob("runs/mine-*/traceback.txt")).read_text(encoding="utf-8")


def test_a_record_says_how_images_were_normalised(tmp_path):
    """None where the network is a file, which does it itself."""
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    _, records, _ = short_bench(tmp_path, "ce", epochs=1, repeats=1)
    assert [record["image_statistics"] for record in records] == [half, half]
    state = build_backbone("tiny", image_size=32).state_dict()
    torch.save({**state, "0.mean": torch.full((3, 1, 1), 0.25)}, tmp_path / "w.pth")
    other = {"epochs": 1, "repeats": 1, "pretrained": str(tmp_path / "w.pth")}
    _, records, _ = short_bench(tmp_path / "w", "ce", **other)
    assert [record["image_statistics"] for record in records] == [half | {"mean": [0.25] * 3}] * 2
    _, records, _ = short_bench(tmp_path / "net", "ce", epochs=1, repeats=1, backbone=network(tmp_path))
    assert [record["image_statistics"] for record in records] == [None, None]


class Overwrites(Recorder):
    """A listener that overwrites a file once the first loss is trained: the other's run may not start from it."""

    def __init__(self, path: Path, data: bytes):
        super().__init__()
        self.path, self.data = path, data

    def finished(self, run, record):
        if run.entrant == "ce":
            self.path.write_bytes(self.data)


def test_a_run_whose_weights_or_network_changed_is_not_trained(tmp_path):
    net = Path(network(tmp_path))
    weights = tmp_path / "w.pth"
    torch.save(build_backbone(str(net)).state_dict(), weights)
    before = {path: path.read_bytes() for path in (net, weights)}
    words = {"backbone": str(net), "pretrained": str(weights), "epochs": 1, "repeats": 1, "image_size": 32}
    for path, data in before.items():
        heard = Overwrites(path, data + b"\n# more")
        config = Config(losses="ce,arcface", out=str(tmp_path / path.stem), **words)
        with pytest.raises(InputError, match=rf"{path} have just changed; run the same command again\Z"):
            run_benchmark(config, heard)
        assert [entrant for entrant, _, _ in heard.trained] == ["ce"]
        (other,) = (tmp_path / path.stem).glob("*/runs/arcface-*")
        assert not (other / "run.json").exists()
        path.write_bytes(data)
