"""Identification rate of files, by tasks, against the function of tensors and against sorting in float64."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lossbench.errors import InputError
from lossbench.metrics import identification, identification_rate, identification_rate_of_files
from lossbench.metrics.exact import order_statistics, shards

FPRS = [0.5, 0.1, 0.05, 0.01, 0.001, 1e-7]


class Here:
    """An executor that works only when a result is wanted, so that brackets are as old as they can be."""

    def __init__(self):
        self.tasks = []

    def submit(self, function, *arguments):
        self.tasks.append(arguments)
        return Later(function, arguments)


class Later:
    def __init__(self, function, arguments):
        self.work = lambda: function(*arguments)

    def result(self):
        found = self.work()
        for values, places, *_ in found:
            for array in (values, places):
                array.flags.writeable = False  # as Ray's are
        return found

    def cancel(self):
        self.work = None


def saved(folder, query, labels, distractors, edges=(), dtype=np.float32):
    """The arrays in files, the distractors cut at `edges`."""
    parts = np.split(np.asarray(distractors, dtype), edges)
    np.save(folder / "query.npy", np.asarray(query, dtype))
    np.save(folder / "labels.npy", np.asarray(labels))
    names = [folder / f"distractors-{number}.npy" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        np.save(name, part)
    return folder / "query.npy", folder / "labels.npy", names


def brute(query, labels, distractors, fprs):
    """Every score in float64, sorted: TPR, threshold and achieved FPR for each rate."""
    everyone = np.concatenate([query, distractors]).astype(np.float64)
    unit = everyone / np.sqrt((everyone**2).sum(1, keepdims=True))
    scores = np.round((unit[: len(query)] @ unit.T) * 2**30)
    i, j = np.triu_indices(len(query), 1, len(everyone))
    same = np.zeros(len(i), bool)
    same[j < len(query)] = labels[i[j < len(query)]] == labels[j[j < len(query)]]
    positives, negatives = scores[i[same], j[same]], np.sort(scores[i[~same], j[~same]])[::-1]
    points = []
    for fpr in fprs:
        k = math.floor(fpr * len(negatives) + 1e-9)
        cut = negatives[k] if k >= 1 else math.nan
        points.append(((positives > cut).mean(), cut / 2**30, (negatives > cut).mean()) if k >= 1 else (math.nan,) * 3)
    return np.array(points).T


def assert_same(found, expected):
    for name in ("fpr", "tpr", "threshold", "achieved_fpr"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)
    for name in ("positives", "negatives", "query_negatives"):
        assert getattr(found, name) == getattr(expected, name)


def faces(kind, seed=0):
    """Query [60, 6], labels and distractors [120, 6]."""
    chance = np.random.default_rng(seed)
    labels = np.arange(60) % 9
    query = chance.normal(size=(9, 6))[labels] + chance.normal(size=(60, 6))
    others = chance.normal(size=(120, 6))
    if kind == "ties":
        query, others = query.round(), others.round()
        query[~query.any(1)] = others[~others.any(1)] = 1
    if kind == "nearly a point":
        query, others = 1 + 1e-6 * query, 1 + 1e-6 * others
    if kind == "a point":
        query, others = np.ones_like(query), 3 * np.ones_like(others)
    if kind == "files differ":
        others[:80] = 0.05 * others[:80] + query[0]
        others = others[np.lexsort([others @ query[0]])]
    return query.astype(np.float32), labels, others.astype(np.float32)


@pytest.fixture
def small(monkeypatch):
    """Blocks of 8 columns and memory for few scores: many tasks, brackets that narrow, and further passes."""
    monkeypatch.setattr(shards, "BLOCK", 8)
    monkeypatch.setattr(shards, "RUN", 2)
    monkeypatch.setattr(shards, "_PART", 1000)
    monkeypatch.setattr(identification, "_MOST", 300)
    monkeypatch.setattr(identification, "_LEAST", 40)
    monkeypatch.setattr(order_statistics, "_LEAST", 20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("edges", [(), (1, 17, 17, 110), (0, 120)], ids=["one file", "uneven files", "empty files"])
@pytest.mark.parametrize("kind", ["plain", "ties", "nearly a point", "a point", "files differ"])
def test_the_rate_of_files_is_that_of_tensors(kind, edges, tmp_path):
    query, labels, others = faces(kind)
    executor = Here()
    found = identification_rate_of_files(
        *saved(tmp_path, query, labels, others, edges), FPRS, executor=executor, in_flight=3
    )
    assert_same(found, identification_rate(*map(torch.from_numpy, (query, labels, others)), FPRS))
    tpr, threshold, achieved = brute(query, labels, others, FPRS)
    np.testing.assert_array_equal(found.tpr, tpr)
    np.testing.assert_array_equal(found.threshold, threshold)
    np.testing.assert_allclose(found.achieved_fpr, achieved, rtol=1e-15)
    assert len(executor.tasks) >= 5
    if kind == "a point":
        assert any(any(exactly) for *_, exactly in executor.tasks), "tasks should have counted exact scores"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(12))
def test_any_memory_any_delay_and_any_files_give_the_same(seed, tmp_path, monkeypatch):
    chance = np.random.default_rng(seed)
    images, others, spread = int(chance.integers(12, 40)), int(chance.integers(0, 120)), 10.0 ** -chance.integers(0, 7)
    points = (chance.normal(size=8) + spread * chance.normal(size=(images + others, 8))).astype(np.float32)
    labels = chance.integers(0, images // 2, images)
    monkeypatch.setattr(shards, "_FEW", int(chance.integers(0, 3)))
    monkeypatch.setattr(shards, "_BLOCKS", int(chance.integers(1, 4)))
    monkeypatch.setattr(order_statistics, "_CROWD", int(chance.choice([1, 3])))
    edges = np.sort(chance.integers(0, others + 1, 3))
    files = saved(tmp_path, points[:images], labels, points[images:], edges)
    found = identification_rate_of_files(*files, FPRS, executor=Here(), in_flight=int(chance.integers(1, 6)))
    tensors = (torch.from_numpy(part) for part in (points[:images], labels, points[images:]))
    assert_same(found, identification_rate(*tensors, FPRS))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_and_threads(dtype, tmp_path):
    query, labels, others = (np.asarray(part) for part in faces("plain"))
    files = saved(tmp_path, query, labels, others, (100,), dtype)
    with ThreadPoolExecutor(1) as executor:
        found = identification_rate_of_files(*files, FPRS, executor=executor)
    tensors = torch.from_numpy(query.astype(dtype)), torch.from_numpy(labels), torch.from_numpy(others.astype(dtype))
    assert_same(found, identification_rate(*tensors, FPRS))


def test_without_distractors_and_without_negatives(tmp_path):
    query, labels, others = faces("plain")
    query_file, labels_file, _ = saved(tmp_path, query, labels, others)
    found = identification_rate_of_files(query_file, labels_file, [], FPRS, executor=Here())
    tensors = torch.from_numpy(query), torch.from_numpy(labels), torch.from_numpy(others[:0])
    assert_same(found, identification_rate(*tensors, FPRS))
    np.save(labels_file, np.zeros(60, np.int64))
    assert identification_rate_of_files(query_file, labels_file, [], FPRS, executor=Here()).tpr.isnan().all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
@pytest.mark.parametrize(("name", "row"), [("query", 7), ("distractors-0", 3), ("distractors-1", 15)])
def test_an_embedding_without_direction_is_named(value, name, row, tmp_path):
    files = saved(tmp_path, *faces("plain"), (100,))
    array = np.load(tmp_path / f"{name}.npy")
    array[row] = value
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(ValueError, match=rf"{name}\.npy: row {row} is zero or not finite"):
        identification_rate_of_files(*files, FPRS, executor=Here())


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("query", np.ones((60, 5), np.float32), r"numbers and .*query\.npy of 5; use those of one model"),
        ("query", np.ones(60, np.float32), r"query\.npy holds float32 \[60\]; embeddings are \[N, D\]"),
        (
            "distractors-0",
            np.ones((9, 6), np.int64),
            r"0\.npy holds int64 \[9, 6\]; embeddings are \[N, D\]",
        ),
        ("distractors-0", np.ones((9, 6), ">f4"), r"0\.npy holds >f4 \[9, 6\]; embeddings are"),
        ("labels", np.zeros(59, np.int64), r"labels\.npy holds int64 \[59\]; labels are integers \[60\]"),
        ("labels", np.zeros(60), r"labels\.npy holds float64 \[60\]; labels are integers"),
        ("labels", np.array([None] * 60), r"labels\.npy cannot be read \(.*; write the array with numpy\.save"),
    ],
)
def test_files_that_do_not_fit_are_refused(name, array, says, tmp_path):
    files = saved(tmp_path, *faces("plain"))
    np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=says) as error:
        identification_rate_of_files(*files, FPRS, executor=Here())
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_and_wrong_rates_are_refused(tmp_path):
    query, labels, others = saved(tmp_path, *faces("plain"))
    with pytest.raises(InputError, match=r"no\.npy cannot be read \(No such file or directory\)"):
        identification_rate_of_files(query, labels, [tmp_path / "no.npy"], FPRS, executor=Here())
    others[0].write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"distractors-0\.npy cannot be read"):
        identification_rate_of_files(query, labels, others, FPRS, executor=Here())
    with pytest.raises(ValueError, match=r"rate 1\.0 is not between 0 and 1"):
        identification_rate_of_files(query, labels, [], [1.0], executor=Here())


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
    files = shards.open_files(*saved(tmp_path, *faces("plain")))
    np.save(tmp_path / "distractors-0.npy", np.ones((9, 6), np.float32))
    with pytest.raises(InputError, match=r"0\.npy is not the file that the command began with; start it again"):
        shards.screened_blocks(files, 0, [], [], [])


@pytest.mark.usefixtures("small")
def test_a_worker_of_another_version_is_refused(tmp_path, monkeypatch):
    class Other(Here):
        def submit(self, function, *arguments):
            def work(*given):
                with monkeypatch.context() as patch:
                    patch.setattr(shards, "RUN", 1)
                    return function(*given)

            return super().submit(work, *arguments)

    with pytest.raises(ValueError, match=r"a pass has shown \d+ of 8799 scores; let all tasks run the same lossbench"):
        identification_rate_of_files(*saved(tmp_path, *faces("plain")), FPRS, executor=Other())


def test_worker_processes_give_the_same_and_a_dead_one_is_one_line(tmp_path):
    from joblib.externals.loky import ProcessPoolExecutor

    query, labels, others = faces("ties")
    others = np.tile(others, (250, 1))  # 15 blocks: four here, the others in three tasks
    files = saved(tmp_path, query, labels, others, (100, 100))
    expected = identification_rate(*map(torch.from_numpy, (query, labels, others)), FPRS)
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        assert_same(identification_rate_of_files(*files, FPRS, executor=executor), expected)

        class Dying(Here):
            def submit(self, function, *arguments):
                super().submit(function, *arguments)
                return executor.submit(*((os._exit, 9) if len(self.tasks) == 2 else (function, *arguments)))

        with pytest.raises(InputError, match=r"\Aa worker process died \(out of memory\?\); start fewer workers\Z"):
            identification_rate_of_files(*files, FPRS, executor=Dying())
