"""The figures' data against plain computations; what is drawn with it stays readable and the same."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn.manifold import TSNE
from support import small_disk

from lossbench.report import plots
from lossbench.results.arrays import save_arrays
from lossbench.results.metric_fields import shown_in

ENTRANTS = ("a:tag=$x$", "b", "untrained")
PEOPLE, EACH, OTHERS, EPOCHS = 14, 3, 30, 4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two repeats of two losses and of `untrained`, and a failed run, with random embeddings of 14 people."""
    rng, found = np.random.default_rng(0), []
    for entrant in ENTRANTS:
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
            shared["people"] = {"query": PEOPLE}
            found.append({**shared, "metrics": metrics})
    return found


def of(records, entrant):
    return [record for record in records if record["entrant"] == entrant]


def history(record):
    return [json.loads(line) for line in Path(record["folder"], "history.jsonl").read_text().splitlines()]


def drawn_line(ax, entrant):
    """Return x and y of an entrant's line: seaborn draws them in order, and empty ones for the legend."""
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
    return lines[ENTRANTS.index(entrant)].get_xydata().T


def pairs(record):
    """Return the cosines of same-person pairs and of all others, by the whole matrix at once."""
    saved = np.load(f"{record['folder']}/embeddings.npz")
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(len(query), 1)
    cosines, same = (query @ query.T)[i, j], saved["query_labels"][i] == saved["query_labels"][j]
    return cosines[same], np.concatenate([cosines[~same], (query @ other.T).ravel()])


@pytest.mark.parametrize("entrant", ENTRANTS[:2])
def test_training_curves_are_means_over_the_repeats(records, entrant):
    drawing = plots.training_curves(records)
    histories = [history(record) for record in of(records, entrant)]
    losses = [[line["train_loss"] / lines[0]["train_loss"] for line in lines] for lines in histories]
    accuracies = [[line["val_accuracy"] for line in lines] for lines in histories]
    for ax, values in zip(drawing.axes, (losses, accuracies), strict=True):
        epochs, means = drawn_line(ax, entrant)
        assert epochs.tolist() == list(range(1, EPOCHS + 1))
        np.testing.assert_allclose(means, np.mean(values, axis=0))
    assert [text.get_text() for text in drawing.axes[1].get_legend().get_texts()] == list(ENTRANTS[:2])
    assert plots.training_curves(of(records, "untrained")) is None


@pytest.mark.parametrize("entrant", ENTRANTS)
def test_the_curve_of_rates_is_that_of_sorted_scores(records, entrant):
    (ax,) = plots.tpr_fpr(records).axes
    fprs, means = drawn_line(ax, entrant)
    expected = []
    for positives, negatives in map(pairs, of(records, entrant)):
        cuts = np.sort(negatives)[::-1][[math.floor(fpr * len(negatives) + 1e-9) for fpr in fprs]]
        expected.append([(positives > cut).mean() for cut in cuts])
    np.testing.assert_allclose(means, np.mean(expected, axis=0), atol=1e-6)
    assert math.isclose(fprs[-1], 0.5)
    assert fprs[0] * len(negatives) >= 1, "fewer negatives do not support a rate"


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
        metrics = {f"tpr@{fpr:g}": 0.5 for fpr in fprs}
        return {"entrant": entrant, "repeat": seed, "status": "finished", "metrics": metrics, "folder": str(folder)}

    return make


def markers(drawing):
    """The markers of a drawing: (rate, hollow)."""
    points = [line for line in drawing.axes[0].lines if line.get_marker() == "o"]
    return sorted((float(line.get_xdata()[0]), line.get_markerfacecolor() == "white") for line in points)


def test_operating_points_are_marked_and_thin_ones_hollow(run):
    drawing = plots.tpr_fpr(
        [run("ce", (0.2, 0.05, 0.001)), run("ce", (0.2, 0.05, 0.001), seed=1), run("b", (0.2, 0.05))]
    )
    assert markers(drawing) == [(0.05, True)] * 2 + [(0.2, False)] * 2, "those in common: 4 and 16 negatives above"


def test_a_point_that_the_data_does_not_support_is_not_drawn(run):
    drawing = plots.tpr_fpr([run("ce", (0.2, 1e-6))])
    assert markers(drawing) == [(0.2, False)]
    curve = next(line for line in drawing.axes[0].lines if len(line.get_xdata()) > 1)
    assert 1 / 80 <= min(curve.get_xdata()) < 0.05


def test_similarities_are_counted_once_per_pair_in_blocks_too():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 7  # more than one block of 512
    saved = {"query": rng.normal(size=(600, 3)), "query_labels": labels, "distractors": rng.normal(size=(40, 3))}
    edges = np.linspace(-1, 1, 11)
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(600, 1)
    cosines, same = np.sum(query[i] * query[j], axis=1), labels[i] == labels[j]
    negatives = np.concatenate([cosines[~same], (query @ other.T).ravel()])
    expected = [np.histogram(values.clip(-1, 1), edges)[0] for values in (cosines[same], negatives)]
    np.testing.assert_array_equal(plots._similarity_counts(saved, edges), expected)


def test_every_angle_of_every_repeat_is_a_point(records):
    drawing = plots.angles(records)
    for ax, figure in zip(drawing.axes, shown_in("angles"), strict=True):
        points = [offset[0] for dots in ax.collections for offset in dots.get_offsets().tolist()]
        assert sorted(points) == pytest.approx(sorted(record["metrics"][figure.key] for record in records))
        assert [label.get_text() for label in ax.get_yticklabels()] == list(ENTRANTS)


def test_the_map_shows_a_dozen_people_of_the_first_repeat(records):
    own = of(records, "b")
    (ax,) = plots.query_map(own).axes
    query = np.load(f"{own[0]['folder']}/embeddings.npz")["query"][: 12 * EACH].astype(float)
    places = TSNE(metric="cosine", init="random", perplexity=(12 * EACH - 1) / 3, random_state=0).fit_transform(query)
    assert [dots.get_offsets().tolist() for dots in ax.collections] == [places.tolist()]
    assert ax.get_title() == "b"
    assert len({tuple(colour) for colour in ax.collections[0].get_facecolors()}) >= 8


def test_untrained_is_grey_and_a_loss_has_the_same_colour_beside_others(records):
    look, alone = plots._look(records)["palette"], plots._look(records[:4])["palette"]
    assert look["untrained"] == "#808080"
    assert all(look[name] == alone[name] for name in ENTRANTS[:2])
    (ax,) = plots.tpr_fpr(records).axes
    assert to_rgb(ax.get_lines()[2].get_color()) == to_rgb(look["untrained"])


def test_figures_are_files_whose_text_is_text_and_whose_bytes_repeat(records, tmp_path, monkeypatch):
    failed = {**records[0], "status": "failed", "folder": "nowhere"}
    names = [stem for stem, _ in plots.write_figures([failed, *records], tmp_path)]
    assert names == ["training_curves", "tpr_fpr", "similarities", "angles", "query_map"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert b">a:tag=$x$<" in before["angles.svg"]
    with Image.open(io.BytesIO(before["angles.png"])) as image:
        assert image.size[0] > 1000
    monkeypatch.setattr(plots, "_FIGURES", plots._FIGURES[:1])
    plots.write_figures(records, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with small_disk(2000), pytest.raises(OSError, match="File too large"):
        plots.write_figures(records[:2], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
