"""`lossbench report --watch`: redraws a benchmark's report whenever runs have finished, until all of them have.

The times and sizes of small files say what has changed, so that watching costs next to nothing. Drawing takes seconds
to minutes of a core that the training could use: it gets a quarter of a core at most.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lossbench.errors import InputError
from lossbench.report.findings import Findings, read_findings
from lossbench.report.page.base import without_refresh
from lossbench.report.write import newest, write_findings
from lossbench.results.benchmark_folder import NoRunsYet
from lossbench.results.looks import FILE as LOOKS
from lossbench.utils.files import write_text

_POLL = 2.0  # seconds between two looks at the files
_REST = 3  # times the processor time that a drawing took: the least pause after it

_DONE = "every run is done"

#: What tells whether anything has changed: each file with its time and its size.
_State = dict[Path, tuple[int, int]]


def watch(folder: Path | None, results: Path, say: Callable[[str], None], *, faces: bool = False) -> list[Path]:
    """Rewrite a benchmark's report whenever runs have finished, until its last run is done.

    It waits where the benchmark, or its first run, is not there yet. While runs are missing, report.html says so and
    reloads by itself; the last one written does neither.

    Args:
        folder: the benchmark's; that of the latest one in `results` if None.
        results: a folder of benchmarks.
        say: called with a line whenever something is waited for or has been written.
        faces: also show the faces on which two losses disagree most.

    Returns:
        The paths written.

    Raises:
        InputError: the folder is none of a benchmark, a record is damaged, or the report cannot be written.
        KeyboardInterrupt: after report.html has been rewritten so that it no longer reloads.
    """
    at, seen = folder, None
    try:
        while True:
            at = folder or newest(results)
            state, began = _state(at), time.process_time()
            if state != seen:
                try:
                    found = _found(at, state, results)
                    paths = [] if at is None or isinstance(found, str) else write_findings(at, found, faces=faces)
                except InputError:
                    if _state(at) == state:
                        raise
                    continue  # a run is trained again, or measured again: its files went while they were read
                seen = state
                say(found if isinstance(found, str) else f"{found.provisional or _DONE}: wrote {paths[0]}")
                if not isinstance(found, str) and not found.provisional:
                    return paths
            _pause(max(_POLL, _REST * (time.process_time() - began)))
    except KeyboardInterrupt:
        if at and (page := at / "report.html").exists():
            write_text(page, without_refresh(page.read_text(encoding="utf-8")))
        raise


def provisional(findings: Findings) -> str:
    """Return how many runs of a benchmark are done, in words; empty where none is missing."""
    settings, records = findings.settings, findings.study.records
    if settings.get("until_settled") is True:
        ended = findings.looks is not None and findings.looks.ended
        return "" if ended else f"{len(records)} runs are done, and repeats are added until all is settled"
    entrants, repeats = set(settings["record"]["entrants"]), settings.get("repeats")
    if not isinstance(repeats, int):
        return ""
    done = sum(record["entrant"] in entrants and record["repeat"] < repeats for record in records)
    planned = len(entrants) * repeats
    return f"{done} of {planned} runs are done" if done < planned else ""


def _found(at: Path | None, state: _State, results: Path) -> Findings | str:
    """Return what a benchmark has found, or what it waits for in words."""
    if at is None or not state:
        if at is not None and any(at.glob("*/benchmark.toml")):
            read_findings(at)  # names the benchmarks in it
        return f"waiting for a benchmark in {at or results}"
    if not any(file.name == "run.json" for file in state):
        return _first(at)
    try:
        found = read_findings(at)
    except NoRunsYet:
        return _first(at)
    return replace(found, provisional=provisional(found))


def _first(at: Path) -> str:
    return f"waiting for the first finished run in {at}"


def _state(at: Path | None) -> _State:
    """Return the files that a report depends on and that change as runs finish; empty where there is no benchmark."""
    if at is None or not (at / "benchmark.toml").exists():
        return {}
    state = {}
    for file in (at / "benchmark.toml", at / LOOKS, *(at / "runs").glob("*/run.json")):
        try:
            seen = file.stat()
        except OSError:  # no looks, or a run that is trained again
            continue
        state[file] = (seen.st_mtime_ns, seen.st_size)
    return state


def _pause(seconds: float) -> None:
    time.sleep(seconds)
