"""The sphere: what is drawn are the run's numbers, turned as a whole; stars are the head's class centers."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lossbench.errors import RunDamaged
from lossbench.report.figures.sphere import hemispheres, sphere, to_the_front
from lossbench.results.arrays import save_arrays
from lossbench.results.study import Study
from lossbench.results.weights import head_weight

TRAINED, UNSEEN, EACH = 5, 4, 6


@pytest.fixture
def run(tmp_path):
    """Returns a function that writes a run with embeddings of three dimensions, and weights where it is given them."""

    def make(entrant, weight=None, dim=3, **changes):
        rng = np.random.default_rng(list(entrant.encode()))
        folder = tmp_path / entrant
        folder.mkdir()
        arrays = {"train_means": rng.normal(size=(TRAINED, dim)), "distractors": rng.normal(size=(3, dim))}
        sizes = {"val": TRAINED * EACH, "test": TRAINED * EACH, "query": UNSEEN * EACH}
        arrays |= {name: rng.normal(size=(count, dim)) * 5 for name, count in sizes.items()}
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        arrays |= {f"{name}_labels": np.arange(count) // EACH for name, count in sizes.items()}
        save_arrays(folder / "embeddings.npz", arrays | {"query_people": np.array(list("abcd"))} | changes)
        if weight is not None:
            save_file(
                {"head.weight": torch.tensor(weight), "backbone.x": torch.zeros(1)}, folder / "weights.safetensors"
            )
        shared = {"entrant": entrant, "repeat": 0, "status": "finished", "folder": str(folder)}
        metrics = {"train_intra": 12.34, "query_intra": 45.6}
        return {**shared, "metrics": metrics, "protocol": {"config": {"embedding_dim": dim}}}

    return make


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def directions(offsets):
    """Return unit rows [N, 3] of places in a panel, by the inverse of the projection."""
    x, y = np.asarray(offsets).T
    back = x > 0
    x, y = x + np.where(back, -1.06, 1.06), y - np.where(y > 0, 1.22, -1.22)
    square = x**2 + y**2
    assert (square <= 1 + 1e-9).all(), "inside its disc"
    z = 1 - square
    scale = np.sqrt(1 + z)
    return np.stack([np.where(back, -x, x) * scale, y * scale, np.where(back, -z, z)], axis=1)


def drawn_in(ax):
    """Return the directions of the training people's images, of the query images, and of the stars."""
    people = [np.asarray(dots.get_offsets()) for dots in ax.collections]
    closed, query, stars = people[:TRAINED], people[TRAINED : TRAINED + UNSEEN], people[TRAINED + UNSEEN :]
    return tuple(directions(np.concatenate(part)) for part in (closed, query, stars))


def saved(record):
    arrays = np.load(f"{record['folder']}/embeddings.npz")
    order = np.concatenate([arrays["val_labels"], arrays["test_labels"]]).argsort(kind="stable")
    return (
        unit(np.concatenate([arrays["val"], arrays["test"]])[order]),
        unit(arrays["query"]),
        unit(arrays["train_means"]),
    )


def test_what_is_drawn_are_the_embeddings_and_the_head_s_centers(run):
    weight = np.random.default_rng(1).normal(size=(TRAINED, 3)).astype("f4")
    record = run("a", weight)
    drawn = sphere(Study((record,), {}), [])
    (ax,) = drawn.drawing.axes
    closed, query, stars = drawn_in(ax)
    expected = saved(record)
    turn = to_the_front(expected[2].mean(axis=0))
    np.testing.assert_allclose(closed, expected[0] @ turn, atol=1e-6)
    np.testing.assert_allclose(query, expected[1] @ turn, atol=1e-6)
    np.testing.assert_allclose(stars, unit(weight) @ turn, atol=1e-6)
    assert ax.get_title(loc="left") == "a"
    assert "Intra: train 12°, query 46°" in [text.get_text() for text in ax.texts]
    assert "hollow" not in drawn.caption


def test_without_centers_the_stars_are_class_means_and_hollow(run):
    records = run("a"), run("subcenters", np.ones((2 * TRAINED, 3), dtype="f4"))
    drawn = sphere(Study(records, {}), [])
    assert "hollow" in drawn.caption
    for record, ax in zip(records, drawn.drawing.axes, strict=True):
        assert all(len(dots.get_facecolor()) == 0 for dots in ax.collections[TRAINED + UNSEEN :])
        np.testing.assert_allclose(
            drawn_in(ax)[2] @ drawn_in(ax)[2].T, saved(record)[2] @ saved(record)[2].T, atol=1e-6
        )


def test_the_mean_of_the_people_shown_faces_the_reader(run):
    (ax,) = sphere(Study((run("a"),), {}), []).drawing.axes
    across, up, front = drawn_in(ax)[2].mean(axis=0)
    assert (across, up) == pytest.approx((0, 0), abs=1e-6)
    assert front > 0


@pytest.mark.parametrize("direction", [(0, 0, 2), (0, 0, -1), (1, 0, 0), (1e-9, 0, 1), (-0.3, 0.2, -0.1), (0, 0, 0)])
def test_turning_keeps_angles(direction):
    turn = to_the_front(np.array(direction, dtype=float))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.array(direction) @ turn, (0, 0, np.linalg.norm(direction)), atol=1e-8)


def test_a_panel_is_turned_as_a_whole_to_match_the_first(run):
    records = run("a"), run("b")
    first, second = (np.concatenate(drawn_in(ax)) for ax in sphere(Study(records, {}), []).drawing.axes)
    own = np.concatenate(saved(records[1]))
    np.testing.assert_allclose(second @ second.T, own @ own.T, atol=1e-6)
    cross = second[-TRAINED:].T @ first[-TRAINED:]
    np.testing.assert_allclose(cross, cross.T, atol=1e-6)
    assert (np.linalg.eigvalsh(cross) >= -1e-6).all(), "no turn or mirroring brings the class means nearer"


def test_the_projection_keeps_areas():
    points = unit(np.random.default_rng(0).normal(size=(40_000, 3)))
    places, back = hemispheres(points)
    assert back.mean() == pytest.approx(0.5, abs=0.01)
    square = (places**2).sum(axis=1)
    for share in (0.1, 0.5, 0.9):
        assert (square < share).mean() == pytest.approx(share, abs=0.01)


def test_other_dimensions_have_no_sphere(run):
    assert sphere(Study((run("a", dim=4),), {}), []) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"val": np.zeros((TRAINED * EACH, 3), dtype="f4")},
        {"test_labels": np.full(TRAINED * EACH, TRAINED)},
        {"train_means": np.ones((TRAINED, 2), dtype="f4")},
        {"query": np.ones((UNSEEN * EACH, 4), dtype="f4"), "distractors": np.ones((1, 4), dtype="f4")},
    ],
)
def test_damaged_embeddings_are_refused(run, changes):
    with pytest.raises(RunDamaged, match="does not hold a run's embeddings"):
        sphere(Study((run("a", **changes),), {}), [])


def test_weights_of_another_run_are_refused(run):
    record = run("a", np.ones((TRAINED, 3), dtype="f4")) | {"weights_sha256": "0" * 64}
    with pytest.raises(RunDamaged, match="not the file that this run wrote"):
        head_weight(record)
