"""How often the 95 % interval covers the truth, and how often identical entrants are called different; by simulation.

    python tests/perf/coverage.py [EXPERIMENTS]

Each experiment draws people and trains nothing: an entrant's embeddings are the people's own directions, seen through
noise whose strength is the repeat's (the seed) and the person's. The truth is the mean over very many experiments.
Goals: coverage 0.92 to 0.98, false verdicts at most 0.05 of experiments with three identical entrants.
"""

import sys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.bootstrap import bootstrap_identification, multiplicities
from lossbench.metrics.uncertainty import estimate, holm, paired_difference

#: people per repeat, repeats, and how many of the people are others than in the repeat before: as the query people of
#: ORL's folds (all), as their closed set (8 of 24, out of 40), and as in a tree of folders (none)
DESIGNS = {"folds": (8, 5, 8), "overlapping folds": (24, 5, 8), "one tree": (24, 3, 0)}
FPR, IMAGES, DIM, ENTRANTS, RESAMPLES = 0.05, 5, 16, 3, 200


@dataclass(frozen=True)
class Simulated:
    """Shares of experiments."""

    coverage: float
    false_verdicts: float


def simulate(design: str, experiments: int, seed: int) -> Simulated:
    people, repeats, step = DESIGNS[design]
    rng = np.random.default_rng(seed)
    outcomes = [_experiment(rng, people, repeats, step, number) for number in range(experiments)]
    truth = float(np.mean([value for means, _, _ in outcomes for value in means]))  # entrants are alike
    covered = [abs(m - truth) <= h for means, halves, _ in outcomes for m, h in zip(means, halves, strict=True)]
    return Simulated(float(np.mean(covered)), float(np.mean([wrong for _, _, wrong in outcomes])))


def _experiment(rng, people, repeats, step, number):
    """Return each entrant's mean, its half-width, and whether any two entrants were called different."""
    values = [{} for _ in range(ENTRANTS)]
    draws = [{} for _ in range(ENTRANTS)]
    everyone = _people(rng, max(people, repeats * step))
    for repeat in range(repeats):
        who = (np.arange(people) + repeat * step) % len(everyone[1])
        population = everyone[0][:, who], everyone[1][who]
        names = [f"{number}-{i}" for i in who]
        drawn = multiplicities(names, RESAMPLES), multiplicities([f"d{n}" for n in names], RESAMPLES)
        for entrant in range(ENTRANTS):
            query, labels, others, other_labels = _faces(rng, population, noise=0.9 * np.exp(rng.normal(0, 0.08)))
            values[entrant][repeat] = identification_rate(query, labels, others, [FPR]).tpr.item()
            rates = bootstrap_identification(query, labels, others, other_labels, *drawn, [FPR])
            draws[entrant][repeat] = rates[:, 0].numpy()
    found = [estimate(v, d, people) for v, d in zip(values, draws, strict=True)]
    pairs = [
        paired_difference(values[a], values[b], draws[a], draws[b], people) for a, b in combinations(range(ENTRANTS), 2)
    ]
    wrong = any(p < 0.05 for p in holm([pair.p_value for pair in pairs]))
    return [f.mean for f in found], [f.half_width for f in found], wrong


def _people(rng, count):
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


def main() -> None:
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    torch.set_num_threads(1)
    for design, (people, repeats, step) in DESIGNS.items():
        found = simulate(design, experiments, seed=0)
        whom = f"{step} of them others than in the repeat before"
        print(
            f"{design}: {repeats} repeats on {people} query people, {whom}: interval covers {found.coverage:.3f} "
            f"(goal 0.92 to 0.98), false verdicts {found.false_verdicts:.3f} (goal <= 0.05), {experiments} experiments"
        )


if __name__ == "__main__":
    main()
