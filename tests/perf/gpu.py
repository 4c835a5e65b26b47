"""Everything that only a GPU can show, in one table with the goal beside each figure: tests/gpu, then the timings.

    python tests/perf/gpu.py                          # ends within eight minutes
    python tests/perf/gpu.py --against ceb1eeb        # an old commit too, in the same call on the same card
    python tests/perf/gpu.py --only heads,metrics  # some of: tests, heads, metrics, training, pixels, evaluation, loop

``--against`` takes a commit, or a folder that holds one (a machine without git). Each measurement, and each file of
tests, is a process of its own with a time budget; what does not end within it, or within --minutes in all, is said to
be out of time, and the next begins. Exit code 1 where a goal is missed or a figure is missing, 2 without CUDA.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Figure(NamedTuple):
    """A number in what a command prints: its name, where it stands, and the goal: at least or at most."""

    name: str
    pattern: str
    goal: float
    least: bool = False

    def read(self, text: str) -> float | None:
        found = re.search(self.pattern, text)
        return float(found[1].replace(",", "")) if found else None

    def met(self, value: float | None) -> bool:
        return value is not None and (value >= self.goal if self.least else value <= self.goal)


class Check(NamedTuple):
    """A command of tests/perf/ with its time budget in seconds, and the figures that it prints.

    `old` are the words for an old commit's own file, where its modules had other names; else this one measures it too.
    """

    group: str
    title: str
    words: tuple[str, ...]
    seconds: int
    figures: tuple[Figure, ...]
    old: tuple[str, ...] = ()


TIME = Figure("time / library", r"time ([\d.]+) \(pairs", 0.5)
MEMORY = Figure("extra memory / library", r"memory ([\d.]+)\n", 0.3)
STREAM = tuple(
    Figure(f"{name}", rf"{name}, .*: median ([\d.]+),", 3.0)
    for name in ("identification_rate", "cmc", "open_set", "threshold_transfer")
)
GRAPH = Figure("real run / one graph", r"real run / one graph, replayed: ([\d.]+)", 0.8, least=True)
SPEED = Figure("images/s", r"\breal run: ([\d,]+) images/s", 0.0, least=True)


def _training(folder: Path, backbone: str, side: int, batch: int) -> Check:
    words = "training.py", str(folder), "--backbone", backbone, "--side", str(side), "--batch", str(batch)
    words = *words, "--epochs", "2", "--pairs", "2"
    title = f"training, {backbone}, {side} px, batch {batch}"
    return Check("training", title, (*words, "--graph"), 60, (SPEED, GRAPH), words)


def _head(title: str, *words: str) -> Check:
    return Check("heads", f"head, B 128, D 512, {title}", ("many_classes.py", *words), 60, (TIME, MEMORY))


def checks(folder: Path) -> list[Check]:
    """Return what is measured, most wanted first; `folder` holds training images, one folder a person."""
    embed = Figure("embed / bare", r"embed / bare: ([\d.]+)", 0.95, least=True)
    streamed = Figure("streamed / resident", r"streamed / resident: ([\d.]+)", 0.8, least=True)
    loop = Figure("lossbench / plain loop", r"lossbench / plain: ([\d.]+)", 6.0, least=True)
    net = "--backbone", "resnet18", "--side", "112"
    embedding = "evaluation.py", *net, "--pairs", "5"
    plain = "plain_loop.py", str(folder), "--workers", "8", *net, "--pairs", "3"
    return [
        _head("ArcFace, C 100,000"),
        _head("ArcFace, C 1,000,000", "--classes", "1000000"),
        Check("metrics", "time / bare products, 10,000 x 1,000,000", ("exact_metrics.py", "--pairs", "3"), 120, STREAM),
        _training(folder, "resnet18", 112, 64),
        _training(folder, "tiny", 64, 32),
        _training(folder, "small", 64, 64),
        _training(folder, "resnet50", 112, 128),
        _head("CurricularFace, C 100,000", "--spec", "curricularface"),
        _head("Sub-center ArcFace, C 100,000", "--spec", "subcenter_arcface"),
        Check("evaluation", "embed, resnet18, 112 px", embedding, 40, (embed,), embedding),
        Check(
            "pixels",
            "streamed images, resnet18, 112 px",
            ("pixels.py", str(folder), *net, "--epochs", "2", "--pairs", "2"),
            40,
            (streamed,),
        ),
        Check("loop", "plain loop, 8 workers, resnet18, 112 px", plain, 60, (loop,), plain),
    ]


def answer(words: tuple[str, ...], package: Path, scripts: Path, seconds: float) -> str:
    """Return what a command of `scripts` prints when it imports the package of another tree; its error where it fails.

    A process group of its own is ended with it: it may have started others.
    """
    command = [sys.executable, str(scripts / words[0]), *words[1:], "--device", "cuda"]
    return output(command, {"PYTHONPATH": str(package)}, seconds)


def output(command: list[str], environment: dict[str, str], seconds: float) -> str:
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            return process.communicate(timeout=max(1.0, seconds))[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return "out of time"


def is_tree(commit: str) -> bool:
    git = "git", "-C", str(ROOT), "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}"
    return Path(commit).is_dir() or subprocess.run(git, capture_output=True, check=False).returncode == 0


@contextmanager
def tree_of(commit: str | None) -> Iterator[Path | None]:
    """Yield a folder with the files of a commit, or the folder that is named."""
    if commit is None or Path(commit).is_dir():
        yield Path(commit).resolve() if commit else None
        return
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", folder, commit], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run([*git, "remove", "--force", folder], check=True)


def orl_folders(folder: Path) -> Path:
    """Link the ORL faces into one folder a person, each ten times: in epochs of 400, their ends would count."""
    from lossbench.data.catalogue import open_data

    for i, file in enumerate(open_data("orl").files):
        person = folder / f"s{i // 10:02}"
        person.mkdir(exist_ok=True)
        for copy in range(10):
            (person / f"{file.stem}-{copy}{file.suffix}").symlink_to(file.resolve())
    return folder


def row(title: str, name: str, value: str, goal: str, verdict: str, old: str = "") -> str:
    return f"{title:<46} {name:<24} {value:>12} {old:>12} {goal:>9}  {verdict}"


def said(text: str) -> str:
    """Return the last line of what went wrong."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:120] if lines else "nothing printed"


def tests_row(file: Path, seconds: float) -> tuple[str, bool]:
    """Run one file of tests; one that is skipped needs more GPUs than there are, and is said in the row."""
    command = [sys.executable, "-m", "pytest", str(file), "-n", "0", "-q", "-p", "no:cacheprovider"]
    text = output(command, {"PYTHONPATH": str(ROOT)}, seconds)
    fine = bool(re.search(r"^\d+ passed", said(text))) and "error" not in said(text)  # as of a fixture
    if not fine:
        print("\n".join(line for line in text.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))))
    return row(f"tests/gpu/{file.name}", said(text)[:24], "", "all", "met" if fine else "MISSED"), fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit, or the tree in this folder, as well")
    parser.add_argument("--only", help="groups, separated by commas")
    parser.add_argument("--minutes", type=float, default=8.0, help="in all")
    options = parser.parse_args()
    wanted = set(options.only.split(",")) if options.only is not None else None
    groups = ["tests", *dict.fromkeys(check.group for check in checks(Path()))]
    if unknown := sorted((wanted or set()) - set(groups)):
        parser.error(f"--only {unknown[0]!r} is no group; choose from {', '.join(groups)}")
    if options.against and not is_tree(options.against):
        parser.error(f"--against {options.against!r} is neither a commit of this repository nor a folder")
    import torch

    if not torch.cuda.is_available():
        print("tests/perf/gpu.py needs a CUDA device, and this machine has none; nothing was measured", file=sys.stderr)
        sys.exit(2)
    end = time.monotonic() + 60 * options.minutes - 10
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {os.cpu_count()} cores")
    print(row("what", "figure", "measured", "goal", "", options.against or ""))
    fine = True
    for file in sorted((ROOT / "tests/gpu").glob("test_*.py")) if wanted is None or "tests" in wanted else ():
        line, passed = tests_row(file, min(100.0, end - time.monotonic()))
        print(line, flush=True)
        fine &= passed
    with tree_of(options.against) as old, tempfile.TemporaryDirectory() as folder:
        for check in checks(orl_folders(Path(folder))):
            if wanted is not None and check.group not in wanted:
                continue
            text = answer(check.words, ROOT, HERE, min(check.seconds, end - time.monotonic()))
            before = ""
            if old is not None and check.words[:2] != ("many_classes.py", "--spec"):  # which it had not
                words, scripts = (check.old, old / "tests/perf") if check.old else (check.words, HERE)
                before = answer(words, old, scripts, min(check.seconds, end - time.monotonic()))
            for figure in check.figures:
                value, then = figure.read(text), figure.read(before)
                fine &= figure.met(value)
                goal = f"{'>=' if figure.least else '<='} {figure.goal:g}" if figure.goal else ""
                verdict = said(text) if value is None else "MISSED" if not figure.met(value) else "met" if goal else ""
                shown = ["" if number is None else f"{number:,g}" for number in (value, then)]
                print(row(check.title, figure.name, shown[0], goal, verdict, shown[1]), flush=True)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
