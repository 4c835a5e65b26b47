"""The judge of verdicts: how often identical losses are called different, real differences found, and truths covered.

    python tests/perf/coverage.py [EXPERIMENTS=4000] [PART ...]

The parts, all by default:

- `seeds`: normal or heavy-tailed noise between seeds, and nothing else. *Error* is the share of experiments in which
  any two identical entrants are called different, at its worst over three settings: all identical; the calmest
  identical to the most restless and all others far apart; likewise the two most restless. *Power* is the share of true
  differences that are found where one entrant (each in turn) is 5 seed-standard-deviations ahead of all others.
- `people`: the same with people who are easier for one entrant than for another, resampled as a report resamples them.
- `faces`: embeddings, not numbers: people's own directions seen through noise whose strength is the repeat's (the seed)
  and the person's, measured by the identification rate and its bootstrap.
- `looks`: identical entrants looked at after every repeat, as `run --until-settled` does.

Nothing is trained. *Coverage* is the share of 95 % intervals of single figures that include the truth. Goals: error at
most 0.06 everywhere, power of 3 entrants in 3 repeats at least 0.85 where spreads are equal and 0.6 where they are not,
coverage 0.93 to 0.97.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.bootstrap import bootstrap_identification, multiplicities
from lossbench.metrics.multiplicity import step_down
from lossbench.metrics.pooling import differences, estimates
from lossbench.results.looks import Plan
from lossbench.results.verdicts import SMALLEST

LEVEL, SIZE, FAR = 0.05, 5.0, 1e4
#: standard deviations of the entrants' seeds, from the calmest to the most restless; their mean square is made 1
SPREADS = {
    "equal": lambda k: np.ones(k),
    "1 to 4": lambda k: np.linspace(1, 4, k),
    "one restless": lambda k: np.r_[np.ones(k - 1), 4],
    "one calm": lambda k: np.r_[1, np.full(k - 1, 4)],
    "one dead": lambda k: np.r_[0.02, np.ones(k - 1)],
}
#: people per repeat, and how many of them are others than in the repeat before: as the query people of ORL's folds
#: (all), as their closed set (8 of 24, out of 40), and as in a tree of folders (none)
DESIGNS = {"folds": (8, 8), "overlapping folds": (24, 8), "one tree": (24, 0), "a large tree": (118, 0)}
FPR, IMAGES, DIM, RESAMPLES = 0.05, 5, 16, 200


@dataclass(frozen=True)
class Cell:
    """One row of the table: what is simulated."""

    part: str
    entrants: int
    repeats: int
    spreads: str = "equal"
    tails: str = "normal"  # or Student's t with 4 degrees of freedom
    failed: bool = False  # the last run of the last entrant
    design: str = ""

    @property
    def name(self) -> str:
        what = [self.design] if self.design else []
        what += [f"{self.entrants} entrants, {self.repeats} repeats", f"spreads {self.spreads}"]
        what += ["heavy tails"] * (self.tails != "normal") + ["one failed run"] * self.failed
        return ", ".join(what)


@dataclass(frozen=True)
class Found:
    """Shares of experiments."""

    error: float
    power: float
    coverage: float
    least_coverage: float  # of the entrant that is covered least


def cells(part: str) -> Iterator[Cell]:
    """Yield what a part simulates."""
    if part == "seeds":
        for entrants in (2, 3, 4, 6):
            for repeats in (2, 3, 5, 10):
                for spreads in SPREADS:
                    yield Cell(part, entrants, repeats, spreads)
                    yield Cell(part, entrants, repeats, spreads, tails="heavy")
                    if repeats > 2 and spreads in ("equal", "1 to 4"):
                        yield Cell(part, entrants, repeats, spreads, failed=True)
    if part == "people":
        for design in DESIGNS:
            for entrants in (2, 3, 6):
                for repeats in (2, 3, 5):
                    for spreads in ("equal", "1 to 4"):
                        yield Cell(part, entrants, repeats, spreads, design=design)
    if part == "faces":
        for design, repeats in (("folds", 5), ("overlapping folds", 5), ("one tree", 3)):
            yield Cell(part, 3, repeats, design=design)
    if part == "looks":
        for entrants in (2, 3, 6):
            for spreads in ("equal", "1 to 4", "one restless"):
                yield Cell(part, entrants, 20, spreads)


def simulate(cell: Cell, experiments: int, seed: int = 0) -> Found:
    """Run the experiments of one cell."""
    rng = np.random.default_rng([seed, *cell.name.encode()])
    if cell.part == "looks":
        return _looked_at(rng, cell, experiments)
    truth = 0.0
    errors, power, means, halves = [], [], [], []
    for _ in range(experiments):
        values, draws, people = _experiment(rng, cell)
        compared = differences(values, draws, people)
        errors.append([_any_false(compared, shift) for shift in _nulls(cell.entrants)])
        power.append(np.mean([_found(compared, who) for who in range(cell.entrants)]))
        own = estimates(values, draws, people).values()
        means.append([e.mean for e in own])
        halves.append([e.half_width for e in own])
    if cell.part == "faces":
        truth = float(np.mean(means))
    covered = np.mean(np.abs(np.array(means) - truth) <= np.array(halves), axis=0)
    power_ = float("nan") if cell.part == "faces" else float(np.mean(power))
    return Found(float(np.mean(errors, axis=0).max()), power_, float(np.mean(covered)), float(np.min(covered)))


def _looked_at(rng, cell, experiments):
    """Return how often identical entrants are called different at any look, and how many repeats that took."""
    wrong, plan = [], Plan("", "", {}, cell.repeats, SMALLEST)
    for _ in range(experiments):
        values, _, people = _experiment(rng, cell)
        found = False
        for repeats in range(2, cell.repeats + 1):
            level = plan.level_of_look(repeats, before=repeats - 1 if repeats > 2 else 0)
            seen = {e: {r: own[r] for r in range(repeats)} for e, own in values.items()}
            p_values = step_down([d.p_value for d in differences(seen, {}, people).values()])
            found = found or min(p_values) < level
        wrong.append(found)
    return Found(float(np.mean(wrong)), *[float("nan")] * 3)


def _nulls(entrants: int) -> list[list[float]]:
    """Return by how far the entrants differ, where some of them do not."""
    calm = [0.0, *(FAR * i for i in range(1, entrants - 1)), 0.0]
    restless = [*(FAR * i for i in range(1, entrants - 1)), 0.0, 0.0]
    return [[0.0] * entrants, *([calm, restless] if entrants > 2 else [])]


def _p_values(compared, shift):
    shifted = {(a, b): _moved(found, shift[a] - shift[b]) for (a, b), found in compared.items()}
    return dict(zip(shifted, step_down([found.p_value for found in shifted.values()]), strict=True))


def _moved(found, by):
    """A difference between entrants moves the mean, and nothing that is known of its error."""
    return replace(found, mean=found.mean + by)


def _any_false(compared, shift):
    return any(p < LEVEL for (a, b), p in _p_values(compared, shift).items() if shift[a] == shift[b])


def _found(compared, who):
    shift = [SIZE * (i == who) for i in range(1 + max(b for _, b in compared))]
    return np.mean([p < LEVEL for pair, p in _p_values(compared, shift).items() if who in pair])


def _experiment(rng, cell):
    """Return values and resamples by entrant and repeat, and the number of people; the truth is 0, or that of faces."""
    if cell.part == "faces":
        return _measured_faces(rng, cell)
    spread = SPREADS[cell.spreads](cell.entrants)
    spread = spread / np.sqrt(np.mean(spread**2))
    shape = (cell.entrants, cell.repeats)
    noise = rng.normal(size=shape) if cell.tails == "normal" else rng.standard_t(4, size=shape) / np.sqrt(2)
    table = spread[:, None] * noise + rng.normal(size=cell.repeats)
    draws, people = {}, 1000
    if cell.part == "people":
        people, step = DESIGNS[cell.design]
        own, drawn = _of_people(rng, *shape, people, step)
        table = table + own
        draws = {e: dict(enumerate(drawn[e])) for e in range(cell.entrants)}
    values = {e: dict(enumerate(row)) for e, row in enumerate(table)}
    if cell.failed:
        values[cell.entrants - 1][cell.repeats - 1] = float("nan")
    return values, draws, people


def _of_people(rng, entrants, repeats, people, step):
    """Return what the people add to a figure [E, R], and to its resamples [E, R, B].

    A person is easier than others for all entrants, easier for one than for another, and varies from run to run.
    """
    everyone = max(people, repeats * step)
    ease = 3 * rng.normal(size=everyone) + 3 * rng.normal(size=(entrants, 1, everyone))
    scores = ease + rng.normal(size=(entrants, repeats, everyone))
    weights = rng.poisson(1.0, size=(RESAMPLES, everyone)).astype(np.float64)
    means, drawn = [], []
    for repeat in range(repeats):
        who = (np.arange(people) + repeat * step) % everyone
        own = scores[:, repeat, who]
        means.append(own.mean(axis=1))
        drawn.append(own @ weights[:, who].T / np.maximum(weights[:, who].sum(axis=1), 1))
    return np.stack(means, axis=1), np.stack(drawn, axis=1)


def _measured_faces(rng, cell):
    people, step = DESIGNS[cell.design]
    values, draws = ({e: {} for e in range(cell.entrants)} for _ in range(2))
    directions, variability = _population(rng, max(people, cell.repeats * step))
    number = rng.integers(1 << 62)  # other people in each experiment
    for repeat in range(cell.repeats):
        who = (np.arange(people) + repeat * step) % len(variability)
        population = directions[:, who], variability[who]
        names = [f"{number}-{i}" for i in who]
        drawn = multiplicities(names, RESAMPLES), multiplicities([f"d{n}" for n in names], RESAMPLES)
        for entrant in range(cell.entrants):
            query, labels, others, other_labels = _faces(rng, population, noise=0.9 * np.exp(rng.normal(0, 0.08)))
            values[entrant][repeat] = identification_rate(query, labels, others, [FPR]).tpr.item()
            rates = bootstrap_identification(query, labels, others, other_labels, *drawn, [FPR])
            draws[entrant][repeat] = rates[:, 0].numpy()
    return values, draws, people


def _population(rng, count):
    """Directions of query people and distractors, and how variable each query person's face is."""
    return rng.normal(size=(2, count, DIM)), np.exp(rng.normal(0, 0.25, count))


def _faces(rng, population, noise):
    (own, other), variability = population
    count = len(own)
    labels = np.repeat(np.arange(count), IMAGES)
    spread = (noise * variability)[labels][:, None]
    query = own[labels] + spread * rng.normal(size=(len(labels), DIM))
    others = other[labels] + noise * rng.normal(size=(len(labels), DIM))
    return *(torch.from_numpy(x) for x in (query, labels, others)), torch.from_numpy(labels)


def _in_process(work):
    torch.set_num_threads(1)
    cell, experiments = work
    return cell, simulate(cell, experiments)


def main() -> None:
    experiments, *parts = sys.argv[1:] or ["4000"]
    wanted = [cell for part in parts or ("seeds", "people", "faces", "looks") for cell in cells(part)]
    print(f"{experiments} experiments a row: error, power, coverage of all intervals and of the worst entrant's")
    worst = 0.0
    with multiprocessing.Pool(int(os.environ.get("PROCESSES", os.cpu_count() or 1))) as pool:
        for cell, found in pool.imap(_in_process, [(cell, int(experiments)) for cell in wanted]):
            worst = max(worst, found.error)
            figures = f"{found.error:.3f}  {found.power:.2f}  {found.coverage:.3f}  {found.least_coverage:.3f}"
            print(f"{figures}  {cell.part}: {cell.name}", flush=True)
    print(f"largest error {worst:.3f} (goal at most 0.06)")


if __name__ == "__main__":
    main()
