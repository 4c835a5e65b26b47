"""Where two losses disagree, from embeddings on disk, against plain loops over the same files."""

import numpy as np
import pytest
import torch

from lossbench.errors import RunDamaged
from lossbench.metrics import identification_rate
from lossbench.metrics.disagreement import Kind
from lossbench.report.disagreements import counted, disagreed, disagreement_table, disagreements_part
from lossbench.results.arrays import save_arrays
from lossbench.results.study import Study

FPR, QUERIES, OTHERS = 0.1, 40, 20
FILES = {
    part: np.array([f"{part}/{i}.png" for i in range(n)]) for part, n in (("query", QUERIES), ("distractors", OTHERS))
}


@pytest.fixture
def run(tmp_path):
    """Returns a function that writes a run of random embeddings, with the thresholds that they have."""

    def make(entrant, noise, repeat=0, dim=6, **changes):
        rng = np.random.default_rng([*entrant.encode(), repeat])
        labels = np.arange(QUERIES, dtype=np.int64) % 8
        query = rng.normal(size=(8, dim))[labels] + noise * rng.normal(size=(QUERIES, dim))
        arrays = {"query": query.astype(np.float32), "distractors": rng.normal(size=(OTHERS, dim)).astype(np.float32)}
        rates = identification_rate(*map(torch.from_numpy, (arrays["query"], labels, arrays["distractors"])), [FPR])
        arrays |= {"query_labels": labels, "query_people": np.array([f"p{i}" for i in range(8)])}
        arrays |= {f"{part}_files": files for part, files in FILES.items()} | changes
        folder = tmp_path / f"{entrant}-{repeat}"
        folder.mkdir()
        save_arrays(folder / "embeddings.npz", {name: value for name, value in arrays.items() if value is not None})
        metrics = {f"tpr@{FPR}": rates.tpr.item(), f"threshold@{FPR}": rates.threshold.item()}
        metrics |= {"positives": rates.positives, "negatives": rates.negatives}
        shared = {"entrant": entrant, "repeat": repeat, "status": "finished", "folder": str(folder)}
        return {**shared, "metrics": metrics}

    return make


def plain(record):
    """Return by the names of two images: whether they show one person, the cosine, and whether it is accepted."""
    saved = np.load(f"{record['folder']}/embeddings.npz")
    names = [*saved["query_files"], *saved["distractors_files"]]
    unit = np.concatenate([saved["query"], saved["distractors"]]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    found = {}
    for i in range(QUERIES):
        for j in range(i + 1, len(unit)):
            cosine = float(unit[i] @ unit[j])
            same = j < QUERIES and saved["query_labels"][i] == saved["query_labels"][j]
            accepted = round(cosine * 2**30) > round(record["metrics"][f"threshold@{FPR}"] * 2**30)
            found[names[i], names[j]] = bool(same), cosine, accepted
    return found


def test_the_table_holds_the_clearest_pairs_of_the_two_best_losses(run):
    records = [run("worst", 2.0), run("good", 0.6), run("fine", 0.4, dim=9), run("untrained", 0.1)]
    found = disagreed(Study(tuple(records), {}))
    assert set(found.losses) == {"good", "fine"}
    a, b = (next(r for r in records if r["entrant"] == name) for name in found.losses)
    one, two = plain(a), plain(b)
    cuts = [r["metrics"][f"threshold@{FPR}"] for r in (a, b)]
    for kind, total in found.totals.items():
        own = {
            pair: min(abs(one[pair][1] - cuts[0]), abs(two[pair][1] - cuts[1]))
            for pair, (same, _, yes) in one.items()
            if (same, yes, two[pair][2]) == (kind.same, kind.first_accepts, not kind.first_accepts)
        }
        assert total == len(own) > 0
        clearest = sorted(own, key=own.get, reverse=True)[: min(25, total)]
        assert [case.images for case in found.cases[kind]] == clearest
    table = disagreement_table(found)
    assert len(table) == sum(min(25, total) for total in found.totals.values())
    assert (table["loss_a"] + table["loss_b"] == "".join(found.losses)).all()
    for row in table.to_dict("records"):
        same, cosine, yes = one[row["image_1"], row["image_2"]]
        assert (row["same_person"], row["accepts_a"], row["accepts_b"]) == (same, yes, not yes)
        assert (row["threshold_a"], row["threshold_b"], row["fpr"], row["repeat"]) == (*cuts, FPR, 0)
        assert row["cosine_a"] == pytest.approx(cosine, abs=1e-8)
        assert row["cosine_b"] == pytest.approx(two[row["image_1"], row["image_2"]][1], abs=1e-8)


def test_the_section_counts_and_names_the_images(run):
    found = disagreed(Study((run("good", 0.6), run("fine", 0.4)), {}))
    part = disagreements_part(found)
    a, b = found.losses
    alone = found.totals[Kind(True, True)], found.totals[Kind(True, False)]
    of_two = found.totals[Kind(False, True)], found.totals[Kind(False, False)]
    assert counted(found) == (
        f"Of 80 pairs of one person {a} alone accepts {alone[0]} and {b} alone {alone[1]}; of 1,500 pairs of two "
        f"people {a} alone accepts {of_two[0]} and {b} alone {of_two[1]}."
    )
    assert counted(found) in part.text[0]
    assert "at FPR 0.1; the pairs are those of repeat 1" in part.text[0]
    case = found.cases[Kind(True, True)][0]
    row = [f"same person, accepted by {a} alone ({a} is right)", " – ".join(case.images)]
    assert part.rows[0] == [*row, *(f"{cosine:.3f}" for cosine in case.cosines)]
    assert any(row[0] == f"two people, accepted by {a} alone ({b} is right)" for row in part.rows)
    assert disagreements_part(None) is None


def test_one_loss_or_losses_of_different_repeats_have_nothing_to_disagree_on(run):
    assert disagreed(Study((run("good", 0.6), run("untrained", 0.4)), {})) is None
    assert disagreed(Study((run("fine", 0.6), run("other", 0.4, repeat=1)), {})) is None


@pytest.mark.parametrize(
    "changes", [{"query_files": FILES["query"][::-1]}, {"query_files": FILES["query"][1:]}, {"distractors_files": None}]
)
def test_embeddings_of_other_images_or_without_their_names_are_refused(run, changes):
    with pytest.raises(RunDamaged):
        disagreed(Study((run("good", 0.6), run("fine", 0.4, **changes)), {}))
