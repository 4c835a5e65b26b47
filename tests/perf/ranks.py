"""Memory of each process when a head's classes are shared out: classes by processes, on the CPU.

    python tests/perf/ranks.py                 # ArcFace, D = 128, 200,000 and 1,000,000 classes, 1, 2 and 4 processes
    python tests/perf/ranks.py --classes 1000000 --ranks 4 --dim 512 --sample-centers 0.1

Each process holds its own classes: float32 weights, AdamW's two moments, and during a step their gradient, 16 bytes a
number. `start` is the highest resident size while the head is made: its weights are drawn block by block, the bits of
one process, and only its own rows kept. `step` is the highest during three steps of the batch. Both are those of the
process that takes most, less what it takes before the head is there, in MiB.

What it printed on two cores, torch 2.14, for a million classes: 1,984 MiB in one process, 995 in each of two, 516 in
each of four; for 200,000: 416, 295 and 154. `start`: 124 MiB in each of four (612 when each drew the whole).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

CLEAR_PEAK = "5"  # what /proc/PID/clear_refs takes for it


def peak() -> float:
    from lossbench.utils.machine import peak_memory_mib

    return peak_memory_mib(torch.device("cpu")) or 0.0


def clear_peak() -> None:
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)


def one_process(args: argparse.Namespace) -> None:
    """Be one of the processes that torchrun starts, or the only one; the first prints what all have found."""
    from lossbench.config import Config
    from lossbench.losses.head import Head
    from lossbench.losses.loading import load_head, trial_head
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.sharing import built_shared
    from lossbench.losses.spec import parse_spec
    from lossbench.training.step import make_optimizer
    from lossbench.utils.distributed import joined

    with joined(torch.device("cpu")) as ranks:
        few = load_head(args.spec, num_classes=10, embedding_dim=args.dim)
        steps(few, 10, args, make_optimizer(torch.nn.Linear(1, 1), few, Config()))  # libraries are loaded
        ranks.wait()
        clear_peak()
        before = peak()

        def build() -> Head:
            return load_head(args.spec, num_classes=args.classes[0], embedding_dim=args.dim)

        trial = trial_head(parse_spec(args.spec, find_plugins()))
        together = ranks.size > 1 or args.sample_centers
        head = built_shared(build, args.classes[0], trial, ranks, args.sample_centers)[0] if together else build()
        start = peak() - before
        optimizer = make_optimizer(torch.nn.Linear(1, 1), head, Config())
        clear_peak()
        steps(head, args.classes[0], args, optimizer)
        found = [max(ranks.everyones(round(mib))) for mib in (start, peak() - before)]
        if ranks.first:
            print(json.dumps(found))


def steps(head: torch.nn.Module, classes: int, args: argparse.Namespace, optimizer: torch.optim.Optimizer) -> None:
    from lossbench.losses.sharing import shards_of
    from lossbench.training.parallel import update_drawn

    drawn = torch.Generator().manual_seed(1)
    for _ in range(3):
        embeddings = torch.randn(args.batch, args.dim, generator=drawn).requires_grad_()
        head(embeddings, torch.randint(classes, (args.batch,), generator=drawn)).backward()
        optimizer.step()
        for shard in shards_of(head):
            update_drawn(shard, optimizer)
        head.zero_grad(set_to_none=True)


def measured(args: argparse.Namespace, classes: int, ranks: int) -> list[int]:
    own = [__file__, "--inside", "--classes", str(classes), "--dim", str(args.dim), "--batch", str(args.batch)]
    own += ["--spec", args.spec, *(["--sample-centers", str(args.sample_centers)] if args.sample_centers else [])]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *torchrun, *own], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{classes:,} classes, {ranks} processes: {done.stderr[-2000:]}")
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--spec", default="arcface")
    parser.add_argument("--sample-centers", type=float)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return one_process(args)
    print(f"{args.spec}, D = {args.dim}, B = {args.batch}; MiB in the process that takes most")
    print(f"{'classes':>10}  {'processes':>9}  {'start':>6}  {'step':>6}  {'16 bytes a number':>17}")
    for classes in args.classes:
        for ranks in args.ranks:
            start, step = measured(args, classes, ranks)
            expected = 16 * classes * args.dim / ranks / 2**20
            print(f"{classes:>10,}  {ranks:>9}  {start:>6,}  {step:>6,}  {expected:>17,.0f}", flush=True)
    return None


if __name__ == "__main__":
    main()
