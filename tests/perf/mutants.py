"""Which changes of the code would no test notice? Mutants of training, losses, metrics and batches, drawn at random.

    pip install -e '.[dev,mutation]'
    python tests/perf/mutants.py [COUNT=200] [SEED=0]

A mutant is one small change of one module: another operator or number, a comparison turned round, a statement or an
argument left out. It is killed if a test fails, or if the tests take twice as long as without it and a minute more;
otherwise it survives. Docstrings, annotations and the text of errors are left as they are. The operators are
cosmic-ray's, and two of our own; places are drawn first and then one of the changes there, so that ``a + b``, which has
eleven, is not eleven times as likely as the rest.

All happens in a copy of the checkout in the temporary folder. This process has imported torch and pytest, and forks
for each mutant: a second instead of six. What was found stays beside the copy, so that the command resumes where it
was interrupted; a mutant is tried again when its module has changed, or the test that killed it, or, for a survivor,
any of its tests.
"""

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutations import Mutant, draw, span, without_prose

ROOT = Path(__file__).parents[2]
#: what is mutated, and the tests of its room
ROOMS = {
    "lossbench/training": ["tests/training"],
    "lossbench/losses": ["tests/losses", "tests/plugins"],
    "lossbench/metrics": ["tests/metrics"],
    "lossbench/data/batches.py": ["tests/data/test_batches.py", "tests/training/test_train.py"],
}
#: they start processes or install a package, which is slow, and check what others check in this process
LEFT_OUT = ["tests/training/test_resume.py"]
LEFT_OUT += [
    f"tests/losses/test_registry.py::{name}" for name in ("test_it_is_listed", "test_it_trains", "test_a_second")
]
SLOW_TO_IMPORT = ["pandas", "pytest", "torchvision", "typer", "rich.progress", "scipy.stats", "sklearn.metrics"]
SLOW_TO_IMPORT += ["sklearn.cluster", "pytorch_metric_learning.losses", "pytorch_metric_learning.miners"]
MEMORY = 8 << 30  # bytes a mutant may take beyond what is mapped at its start


def _modules() -> Iterator[Path]:
    for room in ROOMS:
        path = ROOT / room
        yield from sorted(p for p in (path.rglob("*.py") if path.is_dir() else [path]) if p.stat().st_size)


def digest(folder: Path, paths: list[str]) -> str:
    """Return the SHA-256 over files and the Python files of folders, by name and content."""
    found = hashlib.sha256()
    for path in paths:
        whole = folder / path
        for file in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return found.hexdigest()[:16]


class Survey:
    """A pytest plugin that notes which tests run which lines, and how long each takes."""

    def __init__(self, copy: Path):
        from coverage import Coverage

        self.coverage = Coverage(data_file=None, include=[str(copy / "lossbench" / "*")], messages=False)
        self.copy, self.seconds = copy, {}

    def pytest_sessionstart(self) -> None:
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {str(Path(f).relative_to(self.copy)): data.contexts_by_lineno(f) for f in data.measured_files()}
        (self.copy.parent / "survey.json").write_text(json.dumps({"seconds": self.seconds, "lines": lines}))


class Selection:
    """A pytest plugin that runs some tests alone, in their order, and notes the first that failed."""

    def __init__(self, wanted: list[str], note: Path):
        self.places, self.note = {nodeid: i for i, nodeid in enumerate(wanted)}, note

    def pytest_collection_modifyitems(self, items) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.places), key=lambda item: self.places[item.nodeid])

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.note.exists():
            self.note.write_text(report.nodeid)


def run_tests(copy: Path, paths: list[str], plugin: object, limit: float) -> tuple[str, str]:
    """Run tests in a fork of this process until one fails: "survived", "killed" or "too slow", and by which test."""
    note = copy.parent / "killer"
    note.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _in_child(copy, paths, plugin)
    deadline = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "too slow", ""
        time.sleep(0.02)
    if status == 0:
        return "survived", ""
    return "killed", note.read_text() if note.exists() else "(on import)"


def _in_child(copy: Path, paths: list[str], plugin: object) -> None:
    code = 70
    try:
        os.setsid()
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        out = os.open(copy.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(copy)
        options = ["-x", "--tb=line", "--override-ini=addopts=--import-mode=importlib"]  # in this process alone
        options += ["-p", "no:cacheprovider", f"--basetemp={copy.parent / 'tmp'}"]
        import pytest

        left_out = [f"--deselect={test}" for test in LEFT_OUT]
        code = int(pytest.main([*options, *left_out, *paths], plugins=[plugin]))
    finally:
        os._exit(code)


def make_copy(folder: Path) -> Path:
    """Copy what git knows of, or would add, to `folder`/tree."""
    copy = folder / "tree"
    shutil.rmtree(copy, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith("results/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def prepare(copy: Path) -> None:
    """Import what is slow to import and nothing of lossbench, which is read from the copy from now on."""
    sys.dont_write_bytecode = True  # a mutant written within a second of another would be taken for it
    os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    sys.path[:] = [str(copy), *(p for p in sys.path if Path(p).resolve() not in (ROOT, Path(__file__).parent))]
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    assert not any(name.partition(".")[0] == "lossbench" for name in sys.modules)


class Tests:
    """The tests of each room, surveyed once without a mutant: which of them run a line, and how long each takes."""

    def __init__(self, copy: Path):
        self.copy = copy
        paths = sorted({path for room in ROOMS.values() for path in room})
        survey = copy.parent / "survey.json"
        mark = copy.parent / f"surveyed-{digest(copy, [*paths, 'lossbench', 'plugins'])}"
        if not mark.exists():
            start = time.monotonic()
            found, by = run_tests(copy, paths, Survey(copy), 3600)
            if found != "survived":
                sys.exit(f"the tests do not pass without a mutant: {by or found}; see {copy.parent / 'output.txt'}")
            mark.touch()
            print(f"{', '.join(paths)}: {time.monotonic() - start:.0f} s without a mutant", flush=True)
        self.survey = json.loads(survey.read_text())

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests of the room that run what is changed, those of the mirrored file first, quick ones first."""
        room = next(room for room in ROOMS if mutant.module.startswith(room))
        lines = self.survey["lines"].get(mutant.module, {})
        changed = span(mutant.line, (self.copy / mutant.module).read_text()) or map(int, lines)
        runs = {test for line in changed for test in lines.get(str(line), [])}
        path = Path(mutant.module)
        mirrored = str(Path("tests", *path.parts[1:-1], f"test_{path.name}::"))
        if "" in runs:  # also where tests are collected: what they are about may follow from it
            runs |= {test for test in self.survey["seconds"] if test.startswith(mirrored)}
        chosen = [test for test in self.survey["seconds"] if test in runs and _is_in(ROOMS[room], test)]
        return sorted(chosen, key=lambda test: (not test.startswith(mirrored), self.survey["seconds"][test]))


def _is_in(paths: list[str], test: str) -> bool:
    return any(test.startswith((f"{path}/", f"{path}::")) for path in paths)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant, by which test, and the fingerprint of the tests that say so."""

    result: str
    killer: str
    seconds: float
    tests: str


def attempt(mutant: Mutant, copy: Path, tests: Tests) -> Outcome:
    """Write a mutant into the copy, run the tests that look at it, and put the module back."""
    chosen = tests.of(mutant)
    if not chosen:
        return Outcome("survived", "(no test runs it)", 0.0, _fingerprint(copy, mutant, ""))
    path = copy / mutant.module
    original = path.read_text(encoding="utf-8")
    start = time.monotonic()
    limit = 60 + 2 * sum(tests.survey["seconds"][test] for test in chosen)
    files = list(dict.fromkeys(test.partition("::")[0] for test in chosen))
    try:
        path.write_text(mutant.source, encoding="utf-8")
        result, killer = run_tests(copy, files, Selection(chosen, copy.parent / "killer"), limit)
    finally:
        path.write_text(original, encoding="utf-8")
    return Outcome(result, killer, time.monotonic() - start, _fingerprint(copy, mutant, killer))


def _fingerprint(copy: Path, mutant: Mutant, killer: str) -> str:
    """Return the digest of the file of the test that killed, or of all tests of the room."""
    room = next(room for room in ROOMS if mutant.module.startswith(room))
    paths = [killer.partition("::")[0]] if "::" in killer else ROOMS[room]
    return digest(copy, paths) if all((copy / path).exists() for path in paths) else ""


class Log:
    """Outcomes on disk, a line each, by what the module was before and after the change."""

    def __init__(self, path: Path, copy: Path):
        self.path, self.copy = path, copy
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {key: Outcome(**outcome) for key, outcome in map(json.loads, lines)}

    def find(self, mutant: Mutant) -> Outcome | None:
        outcome = self.known.get(self._key(mutant))
        stands = outcome is not None and outcome.tests == _fingerprint(self.copy, mutant, outcome.killer)
        return outcome if stands else None

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([self._key(mutant), vars(outcome)]) + "\n")

    def _key(self, mutant: Mutant) -> str:
        code = [without_prose((self.copy / mutant.module).read_text(encoding="utf-8")), without_prose(mutant.source)]
        return hashlib.sha256("\0".join([mutant.module, *code]).encode()).hexdigest()


def main() -> None:
    count, seed = (int(word) for word in (*sys.argv[1:], *("200", "0")[len(sys.argv) - 1 :]))
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in _modules()}
    mutants = draw(sources, count, seed)
    folder = Path(tempfile.gettempdir()) / f"lossbench-mutants-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    copy = make_copy(folder)
    prepare(copy)
    tests = Tests(copy)
    log = Log(folder / "outcomes.jsonl", copy)
    outcomes = []
    for number, mutant in enumerate(mutants, 1):
        outcome = log.find(mutant)
        if outcome is None:
            outcome = attempt(mutant, copy, tests)
            log.add(mutant, outcome)
            how = f"{outcome.result} in {outcome.seconds:.1f} s"
            print(f"{number:4} {how:20} {mutant.module}:{mutant.line} {mutant.operator} {outcome.killer}", flush=True)
        outcomes.append(outcome)
    survivors = [m for m, outcome in zip(mutants, outcomes, strict=True) if outcome.result == "survived"]
    for mutant in survivors:
        print(f"\n{mutant.module}:{mutant.line} {mutant.operator}\n{mutant.diff((copy / mutant.module).read_text())}")
    slow = sum(outcome.result == "too slow" for outcome in outcomes)
    killed = len(mutants) - len(survivors)
    print(f"\n{killed} of {len(mutants)} killed ({killed / len(mutants):.1%}), {slow} of these by time", flush=True)


if __name__ == "__main__":
    main()
