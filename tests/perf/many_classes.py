"""One step (forward + backward) of a head with very many classes: lossbench beside pytorch-metric-learning, in turn.

    python tests/perf/many_classes.py                       # B = 128, D = 512, C = 100,000: both, 5 alternating pairs
    python tests/perf/many_classes.py --classes 1000000 --only lossbench
    python tests/perf/many_classes.py --spec curricularface --device cuda

The library's side is its ArcFace, or its Sub-center ArcFace beside `subcenter_arcface`. Goal on CUDA: half the time and
0.3 of the memory; where both cannot be had, memory.

Extra peak memory is the highest resident size of a fresh process during one step (on CUDA: bytes allocated in this one)
less what lies there before it, weights and embeddings included in neither.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

WAYS = ("lossbench", "pytorch-metric-learning")


def build(way: str, args: argparse.Namespace, classes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.device(args.device):  # a million rows drawn on a CPU take seconds
        if way == "lossbench":
            from lossbench import load_head

            return load_head(args.spec, num_classes=classes, embedding_dim=args.dim).to(args.device)
        from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss

        sizes = {"num_classes": classes, "embedding_size": args.dim, "margin": 28.6479, "scale": 64}
        made = SubCenterArcFaceLoss(**sizes) if args.spec.startswith("subcenter") else ArcFaceLoss(**sizes)
        return made.to(args.device)


def step(head: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    head.zero_grad(set_to_none=True)
    x.grad = None
    head(x, labels).backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return float(x.grad.abs().sum())


def given(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(args.batch, args.dim, generator=generator).to(args.device).requires_grad_()
    return x, torch.randint(args.classes, (args.batch,), generator=generator).to(args.device)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def memory(way: str, args: argparse.Namespace) -> dict[str, float]:
    """Measure one step of a process that has made a step of ten classes before: libraries are loaded."""
    x, labels = given(args)
    step(build(way, args, 10), x, labels % 10)
    head = build(way, args, args.classes)
    if x.is_cuda:
        before = torch.cuda.memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        step(head, x, labels)
        return {"extra": torch.cuda.max_memory_allocated() / 2**20 - before, "peak": float("nan")}
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again: building has one of its own
    step(head, x, labels)
    status = Path("/proc/self/status").read_text().splitlines()
    high = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    return {"extra": high - before, "peak": high}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--spec", default="arcface")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=WAYS)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(json.dumps(memory(args.memory_of, args)))
        return
    ways = (args.only,) if args.only else WAYS
    print(
        f"{args.spec}, B = {args.batch}, D = {args.dim}, C = {args.classes}, {args.device}, "
        f"{torch.get_num_threads()} threads"
    )
    found = {}
    for way in ways:
        if args.device != "cpu":
            found[way] = memory(way, args)
            continue
        command = [sys.executable, __file__, "--memory-of", way, "--spec", args.spec]
        for name in ("batch", "dim", "classes"):
            command += [f"--{name}", str(getattr(args, name))]
        found[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    x, labels = given(args)
    heads = {way: build(way, args, args.classes) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for pair in range(args.pairs + 1):
        for way in ways:
            start = time.perf_counter()
            step(heads[way], x, labels)
            if pair:  # the first warms up
                seconds[way].append(time.perf_counter() - start)
    for way in ways:
        s = sorted(seconds[way])
        print(
            f"{way:>24}: median {statistics.median(s):.3f} s (min {s[0]:.3f}, max {s[-1]:.3f}, {len(s)} steps); "
            f"extra peak memory {found[way]['extra']:,.0f} MiB, process peak {found[way]['peak']:,.0f} MiB"
        )
    if len(ways) == 2:
        ours, theirs = (seconds[way] for way in ways)
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        share = found[ways[0]]["extra"] / found[ways[1]]["extra"]
        print(f"time {statistics.median(ratios):.2f} (pairs {ratios[0]:.2f} to {ratios[-1]:.2f}), memory {share:.2f}")


if __name__ == "__main__":
    main()
