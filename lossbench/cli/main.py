"""The commands, thin: parse, call, exit code. Nothing here imports torch before a command needs it."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lossbench.cli import comparison, data, doctor, evaluate, export, lists, losses, models, report
from lossbench.cli.completion import complete_topics
from lossbench.cli.options import GroupedCommand, Json, speaks, takes
from lossbench.config import Config
from lossbench.errors import InputError, NobodyListens, ProcessLost, stopped
from lossbench.utils.files import too_long
from lossbench.utils.launch import launch

# typer names this one class of usage errors publicly; its base is the class of them all.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

_NO_RUN, _RUN_FAILED = 3, 4  # exit codes of `run --once`; 1 would also be that of a crash, which ends a loop
_STOPPED = 130  # what shells call a process that Ctrl-C ended

_EXIT_CODES = """\b
Exit codes:
  0    done
  1    done, but something is wrong: every loss failed, a check found faults,
       a damaged run was left out; the command's own help says when
  2    bad input: one line names the value, the rule and the cure
  3    run --once: no run is free
  4    run --once: its run failed
  130  stopped by Ctrl-C
  143  stopped by SIGTERM"""

app = typer.Typer(
    name="lossbench",
    help="Which loss should I train my face-recognition network with?",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs more time than everything else at start-up
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line. Bad input ends in one line and exit code 2; Ctrl-C in exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    try:
        code = app(standalone_mode=False)
    except ProcessLost as error:
        raise _end(2, str(error), said=error.said) from None
    except InputError as error:
        raise _end(2, str(error)) from None
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the whole help is its message
            typer.echo(_message(error), err=True)
            raise SystemExit(2) from None
        command = getattr(getattr(error, "ctx", None), "command_path", "lossbench")
        raise _end(2, f"{_message(error)} ({command} --help shows what there is)") from None
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except (NobodyListens, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise _end(2, too_long(error.filename)) from None
    if code == _STOPPED:  # typer turns Ctrl-C into this code
        raise _end(_STOPPED, stopped(sys.argv[1:]))
    raise SystemExit(code if isinstance(code, int) else 0)


def _end(code: int, message: str, *, said: bool | None = None) -> SystemExit:
    """Print the line and return what ends the process; of torchrun's processes the first says it, if not told."""
    from lossbench.cli import console

    if not (launch().silent if said is None else said):
        console.error(message)
    return SystemExit(code)


def _message(error: Exception) -> str:
    return str(error.format_message()) if hasattr(error, "format_message") else str(error)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from lossbench.cli import console
        from lossbench.utils.machine import lossbench_version

        console.say(f"lossbench {lossbench_version()}")
        raise typer.Exit


_DATA, _WHERE = "Data", "Where and how"  # groups of options in lossbench.config


@app.command(cls=GroupedCommand)
@speaks
@takes(Config)
def run(
    given: dict[str, Any],
    no_verify: Annotated[
        bool,
        typer.Option("--no-verify", help="Do not compare the data's files with its split.json.", rich_help_panel=_DATA),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Settings from a TOML file; options given here win.", rich_help_panel=_WHERE)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Train everything again, from the start.", rich_help_panel=_WHERE)
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Train failed runs again; one whose process was killed continues from its last epoch.",
            rich_help_panel=_WHERE,
        ),
    ] = False,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help=f"Do one run that is free, and end: exit code 0 if it finished, {_RUN_FAILED} if it failed, {_NO_RUN} "
            "if none is free.",
            rich_help_panel=_WHERE,
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Train every loss on the same backbone, split and images; print the comparison.

    Each run has a folder below OUT/NAME/runs: run.json, history.jsonl, weights.safetensors, embeddings.npz and
    resamples.npz. Finished runs are not trained again; where only the measuring has changed, they are measured again
    from their weights. After Ctrl-C or a crash the same command continues, on a CPU to the same bits. Several commands
    on one results folder share the work, on several hosts too: a run whose process has died is taken over at once on
    its host, and after three minutes without a sign of life from another. The exit code is 1 if every loss failed, or
    a Ray cluster was lost in mid-run, and 0 if only some losses failed.

    With --once, the untrained backbone counts as a run, runs of other processes are not waited for, and nothing is
    compared: `lossbench report` does that. With --until-settled it is a run of the current round of repeats; exit code
    3 may then mean that others are still at that round. torchrun has exit codes 0 and 1 alone: with it a failed run is
    1, and where none is free it is 0, as after a run; a loop over it ends where --json has no runs, or where "no run is
    free" or "nothing is left to do" is printed.

    With --json: {benchmark, folder, answer: [sentence], losses: [{loss, runs, failed, figures: {KEY: {mean, low, high,
    n}}}], runs: [{entrant, repeat, status, reason, folder, hash, metrics, timings}]}; low and high end the 95 %
    interval, and n counts repeats. With --once there is no answer, and no losses.
    """
    from lossbench.cli import console

    options = {"force": force, "retry_failed": retry_failed, "verify": not no_verify}
    chosen = comparison.checked(given, _read(config) if config else None)
    if launch().silent:  # one of torchrun's processes, of which the first reports
        _take_part(chosen, options)
        return
    if once:
        raise typer.Exit(_once(chosen, json, options))
    with console.document(json) as write:
        made = _run(chosen, options)
        if not json:
            comparison.show(made)
        write(comparison.figures(made))
    if made.nothing_finished:
        raise typer.Exit(1)


def _take_part(config: Config, options: dict[str, bool]) -> None:
    from lossbench.benchmark.driver import run_benchmark
    from lossbench.benchmark.ranks import Silence

    run_benchmark(config, Silence(), **options)


def _read(config: Path) -> dict[str, Any]:
    from lossbench.benchmark.settings_file import read_config  # it imports torch

    return read_config(config)


def _run(config: Config, options: dict[str, bool]) -> comparison.Comparison:
    from lossbench.cli.progress import BenchProgress

    repeats = config.resolved().repeats
    assert repeats is not None
    with BenchProgress(repeats) as progress:
        return comparison.compare(config, progress, **options)


def _once(config: Config, json: bool, options: dict[str, bool]) -> int:
    """Do one run and return the exit code."""
    from lossbench.benchmark.driver import run_benchmark
    from lossbench.cli import console
    from lossbench.cli.progress import BenchProgress

    repeats = config.resolved().repeats
    assert repeats is not None
    with console.document(json) as write:
        with BenchProgress(repeats, once=True) as progress:
            folder, records = run_benchmark(config, progress, once=True, **options)
        write({"benchmark": config.benchmark, "folder": str(folder), "runs": comparison.runs_of(records)})
    if not records:
        return 0 if launch().size > 1 else _NO_RUN  # torchrun would end any other in a traceback
    return _RUN_FAILED if records[0]["status"] == "failed" else 0


report.mount(app)
lists.mount(app)
doctor.mount(app)


@app.command()
def explain(
    topic: Annotated[
        list[str] | None,
        typer.Argument(
            help="A term: fpr, verdict, threshold-transfer.", show_default="list them", autocompletion=complete_topics
        ),
    ] = None,
) -> None:
    """Print what a word or a figure of the report means: definition, formula, unit and source.

    `large-scale` prints what 93 million images of 2 million people would need.
    """
    from lossbench.cli import console
    from lossbench.report import large_scale
    from lossbench.report.explain import explained, parts
    from lossbench.report.glossary import GLOSSARY

    if topic and "-".join(topic).casefold() == large_scale.TOPIC:
        for line in large_scale.lines():
            console.say(line)
        return
    if topic:
        term = explained(" ".join(topic))
        console.say(term.title)
        console.say(f"  {term.text}")
        for label, text in parts(term):
            console.say(f"  {label}: {text}")
        if term.topic == "scale":  # not the scale that was meant, perhaps
            console.say(f"  of data: lossbench explain {large_scale.TOPIC}")
        return
    for title, terms in GLOSSARY.items():
        console.listing(title, [(term.topic, [term.title]) for term in terms])
    console.listing("Beyond one machine", [(large_scale.TOPIC, [large_scale.TITLE])])


evaluate.mount(app)
models.mount(app)
export.mount(app)
losses.mount(app)
