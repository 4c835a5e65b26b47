"""A benchmark: entrants x repeats. Skips what is finished, isolates failures, leaves a record of every run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from lossbench.benchmark.engines.engine import Engine, opened
from lossbench.benchmark.execute import can_be_measured, can_go_on
from lossbench.benchmark.inputs import Inputs, gather
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.log_to import LogTo, logged, refuse_missing
from lossbench.benchmark.plan import Again, Run, damaged_resamples, plan_runs
from lossbench.benchmark.queue import one_of, tidy
from lossbench.benchmark.ranks import follow, leading, together
from lossbench.benchmark.settings_file import left_out, write_benchmark_file
from lossbench.benchmark.until_settled import until_settled
from lossbench.config import Config
from lossbench.errors import InputError, refuse_damaged
from lossbench.results.looks import read_looks
from lossbench.results.store import Record


def run_benchmark(
    config: Config,
    listener: Listener,
    *,
    force: bool = False,
    retry_failed: bool = False,
    verify: bool = True,
    once: bool = False,
) -> tuple[Path, list[Record]]:
    """Train every entrant in every repeat and return the benchmark's folder and all records asked for.

    Several processes may do this on one folder: each run is trained by one of them, and all return all records. Those
    that torchrun has started together train each run together; the first of them reports, and the others return none.

    Args:
        config: settings as the user gave them.
        listener: receives the progress.
        force: train everything again, from the start.
        retry_failed: train failed runs again; one whose process was killed resumes from its last epoch.
        verify: refuse data whose files are not what and where its split.json says.
        once: do one run that is free, and return its record alone; no record if there is none. With until_settled it
            is a run of the round that all processes are at.

    Raises:
        InputError: something the user gave is wrong; nothing was trained, and nothing half-written is left.
    """
    refuse_missing(config.log_to)
    if once:
        _refuse_more_than_once(config.jobs, force=force, retry_failed=retry_failed)
    with (
        opened(config, once=once) as engine,
        together(config, lambda: gather(config, listener, verify=verify, device=engine.device)) as inputs,
    ):
        if not inputs.ranks.first:
            return inputs.folder, follow(inputs)
        with leading(inputs), logged(config.log_to, inputs.folder, listener) as listener:
            return _run_benchmark(inputs, engine, listener, force=force, retry_failed=retry_failed, once=once)


def _run_benchmark(
    inputs: Inputs, engine: Engine, listener: LogTo, *, force: bool, retry_failed: bool, once: bool
) -> tuple[Path, list[Record]]:
    if inputs.config.until_settled and len(inputs.specs) < 2:
        raise InputError("--until-settled compares losses; name two or more, such as --losses ce,arcface")
    read_looks(inputs.folder)  # the verdicts will need it: a damaged file is reported before any training
    with _threads(inputs.config) as threads:
        if inputs.device.type == "cpu":
            inputs = replace(inputs, config=replace(inputs.config, threads=threads))
        config = inputs.config

        def do_repeats(repeats: int, done: set[str]) -> list[Record]:
            again = {"force": force, "retry_failed": retry_failed}
            return _do_repeats(inputs, engine, repeats, done, listener, threads, once=once, **again)

        try:
            if config.until_settled:
                records = until_settled(config, inputs.folder, listener, do_repeats, anew=force)
            else:
                assert config.repeats is not None
                records = do_repeats(config.repeats, set())
        except _OnceDone as done:
            return inputs.folder, done.records
        if once:
            listener.note(f"nothing is left to do: all {len(records)} runs are complete")
        return inputs.folder, [] if once else records


class _OnceDone(Exception):
    """Ends the rounds of repeats of a command that does one run."""

    def __init__(self, record: Record | None):
        self.records = [record] if record else []


def _refuse_more_than_once(jobs: int, *, force: bool, retry_failed: bool) -> None:
    """Refuse what would make a loop of commands that do one run each endless, or asks for more than one."""
    if jobs > 1:
        raise InputError(f"--once does one run, --jobs {jobs} does {jobs} at a time; drop one of them")
    if force or retry_failed:
        option = "--force" if force else "--retry-failed"
        raise InputError(f"{option} would do the same run again at every --once; drop --once, or {option}")


def _do_repeats(
    inputs: Inputs,
    engine: Engine,
    repeats: int,
    done: set[str],
    listener: LogTo,
    threads: int,
    *,
    force: bool,
    retry_failed: bool,
    once: bool,
) -> list[Record]:
    """Do all runs of so many repeats and return their records; those in `done` are this command's own."""
    config, folder = inputs.config, inputs.folder
    runs = _planned(inputs, repeats)
    if force or retry_failed:
        runs = [_again(r, force=force) if r.hash not in done and (force or _failed(r)) else r for r in runs]
    todo = [run for run in runs if run.record is None]
    if not once:  # which compares nothing
        refuse_damaged(damaged_resamples([run for run in runs if run.hash not in done]))
    try:
        notes = left_out(folder, _planned(inputs, config.max_repeats or repeats)) if todo and not done else []
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        write_benchmark_file(folder, config, runs)
        for run in runs:
            tidy(run)
    except OSError as error:
        raise InputError(
            f"--out: {folder} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    for note in notes:
        listener.note(note)
    assert config.epochs is not None
    measured = [run for run in todo if run.again is Again.measured]
    trained = sum(run.spec is not None for run in todo) - sum(run.spec is not None for run in measured)
    trained = 0 if once else trained  # whether one is free, and which, shows later
    listener.start(trained, sum(run.record is not None and run.hash not in done for run in runs), config.epochs)
    if measured and not once:
        anew = any((run.replaces or {}).get("measuring") != run.measuring for run in measured)
        what = "the measuring has" if anew else "--keep-embeddings has"
        listener.note(f"{_runs(len(measured))} measured again, not trained: only {what} changed")
    if (failed := sum(_failed(run) and run.hash not in done for run in runs)) > 0:
        listener.note(f"{_runs(failed)} recorded as failed; --retry-failed repeats them")
    if not once:  # whose other runs are other processes'
        listener.catch_up([run for run in runs if run.hash not in done])
    if once and todo:
        raise _OnceDone(one_of(inputs, todo, listener))
    made = engine.do(inputs, todo, listener, threads)
    return [{**(run.record or made[run.hash]), "folder": str(run.folder)} for run in runs]


def _planned(inputs: Inputs, repeats: int) -> list[Run]:
    config = replace(inputs.config, repeats=repeats)
    return plan_runs(
        config, inputs.specs, inputs.faces, inputs.fingerprints, inputs.device.type, inputs.folder, inputs.ranks.size
    )


@contextmanager
def _threads(config: Config) -> Iterator[int]:
    """Give each run the threads asked for, or its share of all; yields that number."""
    before = torch.get_num_threads()
    threads = config.threads or max(1, before // config.jobs)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def _again(run: Run, *, force: bool) -> Run:
    whole = run.record or run.replaces
    how = Again.from_the_start
    if not force and can_go_on(whole):
        how = Again.from_checkpoint
    elif not force and can_be_measured(whole):
        how = Again.measured
    return replace(run, record=None, replaces=whole, again=how)


def _failed(run: Run) -> bool:
    whole = run.record or run.replaces
    return whole is not None and whole["status"] == "failed"


def _runs(count: int) -> str:
    return f"{count} run{'s are' if count > 1 else ' is'}"
