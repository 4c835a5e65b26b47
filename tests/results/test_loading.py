"""What a notebook loads: a frame with the figures of the records, and the backbone that was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import bench, network, run_of

import lossbench
from lossbench.data.batches import to_images
from lossbench.errors import InputError
from lossbench.results.arrays import read_arrays
from lossbench.results.store import read_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bench(tmp_path_factory.mktemp("out"), "ce,triplet", epochs=1)[0]


def test_every_figure_of_a_record_stands_in_the_row_of_its_run(folder):
    runs = lossbench.load_results(str(folder))
    assert list(zip(runs.entrant, runs.repeat, strict=True)) == [
        (name, repeat) for name in ("untrained", "ce", "triplet") for repeat in (0, 1)
    ]
    assert {(row.data, row.backbone, row.image_size, row.embedding_dim) for row in runs.itertuples()} == {
        ("orl", "tiny", 32, 128)
    }
    for row in runs.to_dict("records"):
        record = json.loads((Path(row["folder"]) / "run.json").read_text())
        assert (record["entrant"], record["repeat"]) == (row["entrant"], row["repeat"])
        for key in ("test_accuracy", "tpr@0.01", "map_at_r", "train_w_ec"):
            expected = np.nan if record["metrics"][key] is None else record["metrics"][key]
            assert row[key] == pytest.approx(expected, nan_ok=True), key


def test_a_failed_run_is_a_row_with_its_reason(tmp_path):
    (tmp_path / "bad.py").write_text(
        "from lossbench import Head\n\nclass Bad(Head):\n    '''Bad.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "    def forward(self, embeddings, labels):\n        raise RuntimeError('out of luck')\n"
    )
    made, _, _ = bench(tmp_path / "out", f"{tmp_path / 'bad.py'}", repeats=1)
    failed = lossbench.load_results(made).set_index("entrant").loc["bad"]
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: out of luck")
    assert np.isnan(failed["tpr@0.1"])


def test_a_backbone_gives_the_embeddings_that_were_measured(folder, orl, pixels):
    run = run_of(folder, "ce")
    kept = read_arrays(read_record(run) | {"folder": str(run)}, "embeddings.npz", ["query", "query_files"])
    rows = [orl.names.index(name) for name in kept["query_files"][:8].tolist()]
    before = torch.get_rng_state()
    backbone = lossbench.load_backbone(run)
    assert torch.equal(torch.get_rng_state(), before), "random numbers are the caller's"
    assert not any(module.training for module in backbone.modules())
    with torch.inference_mode():
        embeddings = backbone(to_images(pixels[rows]))
    torch.testing.assert_close(embeddings, torch.from_numpy(kept["query"][:8]), rtol=1e-4, atol=1e-4)


def test_a_network_of_ones_own_is_executed_only_where_it_is_named(tmp_path):
    net = network(tmp_path)
    made, _, _ = bench(tmp_path / "out", "ce", epochs=1, repeats=1, backbone=net)
    with pytest.raises(InputError, match="was trained with a network of your own"):
        lossbench.load_backbone(run_of(made, "ce"))
    backbone = lossbench.load_backbone(run_of(made, "ce"), network=Path(net))
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 16)


def test_what_is_no_run_is_refused_in_one_line(folder, tmp_path):
    with pytest.raises(InputError, match=r"\A[^\n]*holds 6 finished runs; name one of the folders in [^\n]*runs\Z"):
        lossbench.load_backbone(folder)
    with pytest.raises(InputError, match=r"\Ano finished run in [^\n]*\Z"):
        lossbench.load_backbone(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"\A[^\n]*is not a benchmark's folder; name a folder[^\n]*\Z"):
        lossbench.load_results(tmp_path)
