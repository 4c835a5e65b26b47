"""The map of query embeddings: whose images are drawn, that panels match, and that no name is in it."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from lossbench.errors import RunDamaged
from lossbench.report.figures.look import style
from lossbench.report.figures.query_map import layout, query_map, shown_images
from lossbench.results.arrays import save_arrays
from lossbench.results.study import Study

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def runs(tmp_path):
    """Returns a function that writes runs whose people have the numbers of images it is given."""

    def make(entrants, counts=(3, 9, 5, 4), people=None):
        labels, records = np.repeat(np.arange(len(counts)), counts), []
        for seed, entrant in enumerate(entrants):
            rng = np.random.default_rng(seed)
            query = (rng.normal(size=(len(counts), 6))[labels] + 0.3 * rng.normal(size=(len(labels), 6))).astype("f4")
            names = np.array([f"{HOSTILE}{i}" for i in range(len(counts))] if people is None else people[seed])
            folder = tmp_path / f"run{seed}"
            folder.mkdir()
            arrays = {"query": query, "query_labels": labels, "query_people": names, "distractors": query[:2]}
            save_arrays(folder / "embeddings.npz", arrays)
            shared = {"entrant": entrant, "repeat": 0, "status": "finished", "folder": str(folder)}
            records.append({**shared, "metrics": {"r_precision": 0.5 + seed / 100, "tpr@0.1": seed / 100}})
        return records

    return make


def places(ax):
    return np.concatenate([np.asarray(dots.get_offsets()) for dots in ax.collections])


def look(ax):
    return [(to_hex(dots.get_facecolor()[0]), dots.get_paths()[0].vertices.tolist()) for dots in ax.collections]


def test_people_with_most_images_come_first_and_their_look_is_the_same_everywhere(runs):
    records = runs(["a", "b", "untrained"])
    axes = query_map(Study(tuple(records), {}), []).drawing.axes
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "untrained"]
    assert [text.get_text() for ax in axes for text in ax.texts] == [f"R-precision 0.{50 + i}" for i in range(3)]
    for ax in axes:
        assert [len(dots.get_offsets()) for dots in ax.collections] == [9, 5, 4, 3]
        assert look(ax) == look(axes[0])
    assert len({str(one) for one in look(axes[0])}) == 4


def test_what_is_drawn_is_the_map_of_the_run_s_embeddings(runs):
    records = runs(["a", "b"])
    axes = query_map(Study(tuple(records), {}), []).drawing.axes
    first = None
    for ax, record in zip(axes, records, strict=True):
        saved = np.load(f"{record['folder']}/embeddings.npz")
        rows, person = shown_images(saved["query_labels"])
        expected = layout(saved["query"][rows], person, like=first)
        first = expected if first is None else first
        np.testing.assert_allclose(places(ax), expected)


def test_the_images_of_a_person_lie_together(runs):
    (ax,) = query_map(Study(tuple(runs(["a"], counts=(10,) * 6)), {}), []).drawing.axes
    found, person = places(ax), np.arange(6).repeat(10)
    apart = np.linalg.norm(found[:, None] - found[None], axis=2) + np.diag(np.full(60, np.inf))
    assert (person[apart.argmin(axis=1)] == person).mean() > 0.9


def test_no_turn_or_mirroring_brings_a_panel_nearer_to_the_first(runs):
    first, second = map(places, query_map(Study(tuple(runs(["a", "b"])), {}), []).drawing.axes)
    cross = second.T @ first
    np.testing.assert_allclose(cross, cross.T, atol=1e-9)
    assert (np.linalg.eigvalsh(cross) >= -1e-9).all()


def test_at_most_a_dozen_people_and_16_images_of_each_are_drawn_and_said():
    rows, person = shown_images(np.repeat(np.arange(14), [3] * 13 + [30]))
    assert np.bincount(person).tolist() == [16] + [3] * 11
    assert rows[:16].tolist() == list(range(39, 55))


def test_the_caption_says_what_is_left_out(runs):
    drawn = query_map(Study(tuple(runs([f"l{i}" for i in range(10)], counts=(3,) * 13)), {}), [])
    assert len(drawn.drawing.axes) == 8
    assert "the 12 people with most images. A marker" in drawn.caption
    assert drawn.caption.endswith(
        "Shown are the 6 best losses by identification rate at FPR 0.1 and the two worst; the other 2 are left out."
    )


def test_no_name_of_a_person_is_in_the_figure_and_its_bytes_repeat(runs):
    study = Study(tuple(runs(["a", "$x$<b>"])), {})
    found = []
    for _ in range(2):
        with mpl.rc_context(style()):
            whole = io.StringIO()
            query_map(study, []).drawing.savefig(whole, format="svg", metadata={"Date": None})
            found.append(whole.getvalue())
    assert found[0] == found[1]
    assert "script" not in found[0]
    assert "$x$&lt;b&gt;" in found[0]


def test_runs_of_other_people_are_not_shown_side_by_side(runs):
    records = runs(["a", "b"], people=[list("abcd"), list("abce")])
    with pytest.raises(RunDamaged, match="do not hold embeddings of the same people"):
        query_map(Study(tuple(records), {}), [])


def test_too_few_images_have_no_map(runs):
    assert query_map(Study(tuple(runs(["a"], counts=(2, 2))), {}), []) is None
