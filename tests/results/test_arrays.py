"""Arrays of a run: written whole or not at all, and checked when they are read."""

import json
import shutil

import numpy as np
import pytest
from support import bench, figures

from lossbench.errors import InputError, RunDamaged
from lossbench.evaluation.embed import embed
from lossbench.results.arrays import keeps_train, read_embeddings, read_resamples, save_arrays
from lossbench.results.history import read_history
from lossbench.results.store import load_records
from lossbench.results.study import Study
from lossbench.results.weights import load_backbone

SPOILT = {
    "zero": ("query", lambda a: a * 0),
    "one row": ("query", lambda a: a[0]),
    "three dimensions": ("distractors", lambda a: a[:, :, None]),
    "fewer images than labels": ("query", lambda a: a[:5]),
    "shorter embeddings": ("distractors", lambda a: a[:, :5]),
    "whole numbers": ("distractors", lambda a: a.astype(int)),
    "numbers that torch has not": ("query", lambda a: a.astype(np.longdouble)),
    "another byte order": ("distractors", lambda a: a.astype(">f4")),
    "labels in another byte order": ("query_labels", lambda a: a.astype(">i8")),
    "norms without a square": ("query", lambda a: a.astype(np.float64) * 1e-200),
    "not finite": ("distractors", lambda a: a * np.nan),
    "text": ("query", lambda a: a.astype(str)),
    "a label of nobody": ("query_labels", lambda a: a + 100),
    "a label below 0": ("query_labels", lambda a: a - 1),
    "labels with fractions": ("query_labels", lambda a: a * 0.5),
    "names in a square": ("query_people", lambda a: a[None]),
    "numbers for names": ("query_people", lambda a: np.arange(len(a))),
}


@pytest.mark.parametrize(("name", "spoil"), SPOILT.values(), ids=SPOILT.keys())
def test_embeddings_of_others_are_looked_at(benchmark, name, spoil):
    path = next(benchmark.glob("runs/ce-r0-*/embeddings.npz"))
    arrays = dict(np.load(path))
    assert read_embeddings({"folder": str(path.parent)})["query"].shape == arrays["query"].shape
    np.savez(path, **{**arrays, name: spoil(arrays[name])})
    with pytest.raises(RunDamaged, match="does not hold a run's embeddings"):
        read_embeddings({"folder": str(path.parent)})


def test_resamples_and_histories_of_others_are_looked_at(benchmark):
    folder = next(benchmark.glob("runs/ce-r0-*"))
    record = {"folder": str(folder)}
    arrays = dict(np.load(folder / "resamples.npz"))
    for spoilt in (arrays["test_accuracy"][None], arrays["test_accuracy"][:-1], arrays["test_accuracy"].astype(str)):
        np.savez(folder / "resamples.npz", **{**arrays, "test_accuracy": spoilt})
        with pytest.raises(RunDamaged, match="does not hold a run's resamples"):
            read_resamples(record)
    np.savez(folder / "resamples.npz", **{name: array[:-1] for name, array in arrays.items()})
    with pytest.raises(InputError, match=r"have .* resamples; is one of another benchmark"):
        Study.of(load_records(benchmark))
    other = shutil.copytree(benchmark / "runs", benchmark.parent / "other" / "runs")
    for path in other.glob("*/run.json"):  # in another repeat, other people may be drawn another number of times
        path.write_text(json.dumps({**json.loads(path.read_text()), "repeat": 1}))
    second = [record for record in load_records(other.parent) if record["entrant"] == "ce"]
    first_of_others = [record for record in load_records(benchmark) if record["entrant"] == "arcface"]
    assert len(Study.of([*first_of_others, *second]).resamples) == 2
    path = folder / "history.jsonl"
    first, *rest = path.read_text().splitlines()
    for key in ("epoch", "train_loss", "val_accuracy", "tracked"):
        for value in ("x", [1], {"a": "b"}, 10**400):
            path.write_text("\n".join([json.dumps({**json.loads(first), key: value}), *rest]))
            with pytest.raises(InputError, match=r"history\.jsonl is damaged"):
                read_history(record)


def test_embeddings_of_train_are_kept_on_request_alone_and_the_weights_give_them_back(orl, pixels, tmp_path):
    options = {"epochs": 1, "repeats": 1}
    _, lean, _ = bench(tmp_path / "lean", "ce", **options)
    _, whole, _ = bench(tmp_path / "whole", "ce", **options, keep_embeddings=True)
    assert [keeps_train(record) for record in (*lean, *whole)] == [False, False, True, True]
    assert [record["protocol_hash"] for record in lean] == [record["protocol_hash"] for record in whole]
    train = orl.split(0).train
    for less, more in zip(lean, whole, strict=True):
        arrays, all_arrays = (dict(np.load(f"{record['folder']}/embeddings.npz")) for record in (less, more))
        saved = all_arrays.pop("train")
        assert arrays.keys() == all_arrays.keys()
        assert all(np.array_equal(arrays[name], all_arrays[name]) for name in arrays)
        assert np.array_equal(embed(load_backbone(less), pixels, train).numpy(), saved)
        assert arrays["train_labels"].tolist() == list(train.labels)
        assert arrays["train_files"].tolist() == [orl.names[row] for row in train.rows]
        unit = saved / np.linalg.norm(saved, axis=1, keepdims=True)
        means = np.stack([unit[arrays["train_labels"] == label].mean(axis=0) for label in range(len(train.people))])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(arrays["train_means"], means, atol=1e-6)
    _, again, heard = bench(tmp_path / "lean", "ce", **options, keep_embeddings=True)
    assert (heard.trained, heard.notes) == (
        [],
        ["2 runs are measured again, not trained: only --keep-embeddings has changed"],
    )
    assert all(keeps_train(record) for record in again)
    assert figures(again) == figures(lean)
    _, _, heard = bench(tmp_path / "lean", "ce", **options, keep_embeddings=True)
    assert (heard.skipped, heard.notes) == (2, [])
    _, _, heard = bench(tmp_path / "lean", "ce", **options)
    assert (heard.skipped, heard.notes) == (2, []), "what is there stays"


def test_arrays_that_cannot_be_written_leave_nothing(tmp_path):
    (tmp_path / "embeddings.npz").mkdir()
    with pytest.raises(OSError, match="directory"):
        save_arrays(tmp_path / "embeddings.npz", {"query": np.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npz"]
