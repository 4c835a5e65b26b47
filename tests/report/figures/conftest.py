"""A small study whose embeddings, histories and angles are random, and single runs with few negatives."""

import json

import matplotlib as mpl
import numpy as np
import pytest

from lossbench.report.figures.look import style
from lossbench.results.arrays import save_arrays
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study

PEOPLE, EACH, OTHERS, EPOCHS = 14, 3, 30, 4


@pytest.fixture(autouse=True)
def _theme():
    """Figures are drawn in their theme, as `write_figures` does."""
    with mpl.rc_context(style()):
        yield


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two repeats of two losses and of `untrained`, and a failed run, with random embeddings of 14 people."""
    rng, records = np.random.default_rng(0), []
    for entrant in ("a:tag=$x$", "b", "untrained"):
        for repeat in range(2):
            folder = tmp_path_factory.mktemp("run")
            labels = np.arange(PEOPLE).repeat(EACH)
            query = rng.normal(size=(PEOPLE, 8))[labels] + rng.normal(size=(len(labels), 8))
            arrays = {"query": query, "distractors": rng.normal(size=(OTHERS, 8)) * 5}
            arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
            people = np.array([f"p{i}" for i in range(PEOPLE)])
            save_arrays(folder / "embeddings.npz", {**arrays, "query_labels": labels, "query_people": people})
            epochs = range(EPOCHS if entrant != "untrained" else 0)
            lines = [{"epoch": i + 1, "train_loss": rng.uniform(1, 9), "val_accuracy": rng.uniform()} for i in epochs]
            (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            metrics = {"tpr@0.1": 0.5, "tpr@0.01": 0.5, **{one.key: rng.uniform(10, 90) for one in shown_in("angles")}}
            shared = {"entrant": entrant, "repeat": repeat, "status": "finished", "folder": str(folder)}
            records.append({**shared, "people": {"query": PEOPLE, "test": PEOPLE}, "metrics": metrics})
    failed = {**records[0], "repeat": 2, "status": "failed", "folder": "nowhere", "metrics": {}}
    return Study((*records[:2], failed, *records[2:]), {})


@pytest.fixture
def run(tmp_path):
    """Returns a function that writes the embeddings of a run with 80 negatives and returns its record."""

    def make(entrant, fprs, seed=0):
        rng = np.random.default_rng(seed)
        folder = tmp_path / f"{entrant}-{seed}"
        folder.mkdir()
        query, distractors = (rng.normal(size=(8, 5)).astype(np.float32) for _ in range(2))
        labels, people = np.repeat([0, 1], 4), np.asarray(["a", "b"])
        np.savez(
            folder / "embeddings.npz", query=query, distractors=distractors, query_labels=labels, query_people=people
        )
        metrics = {f"tpr@{fpr:g}": 0.5 if 80 * fpr >= 1 else None for fpr in fprs}
        return {"entrant": entrant, "repeat": seed, "status": "finished", "metrics": metrics, "folder": str(folder)}

    return make
