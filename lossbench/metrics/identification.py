"""Identification rate: the true-positive rate on unseen people at a fixed false-positive rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions
from lossbench.metrics.exact.order_statistics import Ranked, of_passes, order_statistics
from lossbench.metrics.exact.pairs import Pairs
from lossbench.metrics.exact.products import full_precision
from lossbench.metrics.exact.shards import Shards, Submits, open_files
from lossbench.metrics.operating_point import DEFAULT_FPRS, allowed
from lossbench.utils.processes import cores
from lossbench.utils.threads import threads_for

_SPREAD, _LEAST, _MOST = 8, 1 << 20, 8 << 20  # scores kept: so many standard deviations of what columns differ by


@dataclass(frozen=True)
class IdentificationRate:
    """Operating points, one per requested false-positive rate; tensors are float64 [F] on the CPU.

    `tpr`, `threshold` and `achieved_fpr` are NaN where the data does not support the point, FPR·N < 1; `tpr` also where
    there is no positive pair. `positives` and `negatives` are numbers of pairs; `query_negatives` of these are pairs of
    two query images, the rest of a query image and a distractor.
    """

    fpr: Tensor
    tpr: Tensor
    threshold: Tensor
    achieved_fpr: Tensor
    positives: int
    negatives: int
    query_negatives: int


def identification_rate(
    query: Tensor,
    query_labels: Tensor,
    distractors: Tensor,
    fprs: Sequence[float] = DEFAULT_FPRS,
    *,
    block: int | None = None,
) -> IdentificationRate:
    """Share of same-person pairs accepted at thresholds that hold each false-positive rate.

    Positives are all pairs of two query images of one person; negatives are all pairs of two query images of
    different people and every query image with every distractor image. With N negatives in descending order and
    k = floor(FPR·N + 1e-9), the threshold is the (k+1)-th largest negative, and a pair is accepted when its score is
    strictly above it: ties never push the achieved rate over the target.

    Scores are cosines in float64, rounded to multiples of 2^-30 (see `metrics.products`). The result is exact and the
    same for every block size; memory grows with the images alone, and `distractors` may be a memory-mapped file.

    Args:
        query: [Q, D], any norm, not zero.
        query_labels: [Q] integers.
        distractors: [M, D]; M may be 0.
        fprs: target rates, each in (0, 1).
        block: columns of one product, and four times its rows, by default as suits the device; changes memory and
            speed only.

    Raises:
        ValueError: shapes that do not fit, a rate outside (0, 1), or an embedding that is zero or not finite.

    Example:
        >>> query, labels = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = identification_rate(query, labels, torch.tensor([[-1.0, 0.0], [1.0, 1.0]]), [0.2, 0.01])
        >>> found.tpr  # 12 negatives do not support 0.01
        tensor([1., nan], dtype=torch.float64)
        >>> found.threshold
        tensor([0.7071,    nan], dtype=torch.float64)
        >>> found.positives, found.negatives
        (2, 12)
    """
    _refuse_wrong(fprs)
    pairs = Pairs(Directions(query), query_labels, Directions(distractors), block)
    threads, slack, columns = threads_for(query.device), pairs.query.slack, max(1, len(query) + len(distractors))

    def order(ranks: list[int], kept: int) -> list[Ranked]:
        with full_precision():
            return order_statistics(
                pairs.jobs, pairs.exact, ranks, pairs.total, slack, columns, kept=kept, threads=threads
            )

    return _operating_points(pairs, pairs.total, columns, fprs, order)


def identification_rate_of_files(
    query: Path | str,
    query_labels: Path | str,
    distractors: Sequence[Path | str],
    fprs: Sequence[float] = DEFAULT_FPRS,
    *,
    executor: Submits,
    in_flight: int | None = None,
) -> IdentificationRate:
    """Identification rate of embeddings in .npy files, by tasks that each take a part of the distractors.

    The result is that of `identification_rate` of the same numbers, to the last bit. Tasks may run wherever the files
    have the same paths, on other machines as well: each maps the files and gets nothing but their names, row numbers
    and the scores between which thresholds may lie; it returns counts, and the few scores that lie there. The caller
    keeps 12 bytes of each of at most 8 million scores, and a few copies.

    On one machine `identification_rate` of a memory-mapped array is the simpler way and uses all cores too. This one is
    for distractors in several files, and for several machines.

    Args:
        query: file of [Q, D] float16, float32 or float64, any norm, not zero.
        query_labels: file of [Q] integers.
        distractors: files of [M, D], M may differ and be 0; their order changes nothing.
        fprs: target rates, each in (0, 1).
        executor: whatever has a `submit` like that of `concurrent.futures`; give each of its processes one thread.
        in_flight: tasks handed over at a time, by default twice this machine's cores; use twice the workers.

    Raises:
        InputError: a file that cannot be read or does not fit the others, or a process of a pool that died.
        Exception: what a task of any other executor fails with.
        ValueError: a rate outside (0, 1), or an embedding that is zero or not finite.

    Example:
        >>> import tempfile, numpy as np
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "query.npy", [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]])
        >>> np.save(folder / "labels.npy", [0, 0, 1, 1])
        >>> np.save(folder / "a.npy", [[-1.0, 0.0]])
        >>> np.save(folder / "b.npy", [[1.0, 1.0]])
        >>> files = folder / "query.npy", folder / "labels.npy", [folder / "a.npy", folder / "b.npy"]
        >>> with ThreadPoolExecutor(1) as executor:
        ...     identification_rate_of_files(*files, [0.2], executor=executor).threshold
        tensor([0.7071], dtype=torch.float64)

        Processes of this machine, and tasks of a Ray cluster, whose `submit` is one line. joblib's loky works, too, but
        takes the mapped pages of large files for a leak of memory, and starts its processes again and again::

            concurrent.futures.ProcessPoolExecutor(8, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))

            class Cluster:
                def submit(self, function, *arguments):
                    return ray.remote(num_cpus=1)(function).remote(*arguments).future()
    """
    _refuse_wrong(fprs)
    shards = Shards(open_files(query, query_labels, distractors), executor, in_flight or 2 * cores())

    def order(ranks: list[int], kept: int) -> list[Ranked]:
        return of_passes(
            shards.screened, shards.exact, ranks, shards.total, shards.pairs.query.slack, shards.columns, kept=kept
        )

    return _operating_points(shards.pairs, shards.total, shards.columns, fprs, order)


def _refuse_wrong(fprs: Sequence[float]) -> None:
    if wrong := [rate for rate in fprs if not 0 < rate < 1]:
        raise ValueError(f"false-positive rate {wrong[0]} is not between 0 and 1")


def _operating_points(
    pairs: Pairs, total: int, columns: int, fprs: Sequence[float], order: Callable[[list[int], int], list[Ranked]]
) -> IdentificationRate:
    """Return the operating points of `total` negatives; `order` finds ranks of them and keeps so many scores."""
    ranks = [allowed(rate, total) for rate in fprs]  # negatives that may lie above the threshold
    supported = [rank for rank in ranks if rank >= 1]
    kept = min(_MOST, max(_LEAST, round(_SPREAD * sum(supported) / math.sqrt(columns))))
    selected = dict(zip(supported, order(supported, kept), strict=True))
    accepted = dict.fromkeys(supported, 0)
    for scores, _ in pairs.positives():
        for rank in accepted:
            accepted[rank] += int((scores > selected[rank].score).sum())
    points = torch.full((len(ranks), 3), math.nan, dtype=torch.float64)
    for point, rank in zip(points, ranks, strict=True):
        if rank in selected:
            tpr = accepted[rank] / pairs.same if pairs.same else math.nan
            values = tpr, selected[rank].score / GRID, selected[rank].above / total
            point[:] = torch.tensor(values, dtype=torch.float64)
    fpr = torch.tensor(list(fprs), dtype=torch.float64)
    return IdentificationRate(fpr, points[:, 0], points[:, 1], points[:, 2], pairs.same, total, pairs.within)
