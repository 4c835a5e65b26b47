"""`lossbench.run`: a benchmark from Python, with the settings of the command and a bar for Jupyter notebooks."""

import html
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from lossbench.cli import console
from lossbench.cli.comparison import checked, compare
from lossbench.cli.progress import BenchProgress
from lossbench.config import SETTINGS, Config, typed
from lossbench.errors import InputError
from lossbench.utils.launch import launch

if TYPE_CHECKING:
    import pandas as pd


def run(
    losses: str | Sequence[str] = SETTINGS["losses"].default,
    *,
    force: bool = False,
    retry_failed: bool = False,
    verify: bool = True,
    quiet: bool = False,
    **settings: Any,
) -> "pd.DataFrame":
    """Train every loss on the same backbone, split and images, and return one row per run, as `load_results` does.

    It is `lossbench run`: what is finished is not trained again, an interrupted benchmark continues, and a failed run
    is a row with its reason. While it runs, a bar shows how far it is; at the end it prints the answer in words. In a
    script, call it below ``if __name__ == "__main__":`` where `jobs` is above 1, since each job starts as the script
    does.

    Args:
        losses: specs, as a list or separated by commas: ``["ce", "arcface:margin=0.3", "./my_loss.py"]``.
        force: train everything again, from the start.
        retry_failed: train failed runs again.
        verify: compare the data's files with its split.json.
        quiet: print notes alone.
        settings: the options of `lossbench run`, with underscores; lists and paths as Python has them.

    Raises:
        InputError: a setting that does not exist or does not fit, in one line that names the value, rule and cure; or
            torchrun has started this process together with others.

    Example:
        >>> import lossbench, tempfile
        >>> out = tempfile.mkdtemp()
        >>> runs = lossbench.run(["ce", "arcface"], epochs=1, repeats=1, image_size=32, out=out, quiet=True)
        >>> runs[["entrant", "status"]]
             entrant    status
        0  untrained  finished
        1         ce  finished
        2    arcface  finished
        >>> lossbench.run("ce", epocs=1)
        Traceback (most recent call last):
        ...
        lossbench.errors.InputError: lossbench.run: no setting called 'epocs'; did you mean 'epochs'?
    """
    if (size := launch().size) > 1:  # each of them would return, print and write verdicts
        raise InputError(f"lossbench.run is for one process, not torchrun's {size}; use: torchrun ... -m lossbench run")
    config = checked(typed(_plain({"losses": losses, **settings}), "lossbench.run"))
    repeats = config.resolved().repeats
    assert repeats is not None
    progress = NotebookProgress if console.in_notebook() else BenchProgress
    with console.at_level(console.Level.QUIET if quiet else console.Level.NORMAL):
        with _torch_as_before(), progress(repeats) as listener:
            made = compare(config, listener, force=force, retry_failed=retry_failed, verify=verify)
        for sentence in made.answer:
            console.step(sentence)
    from lossbench.results.loading import load_results

    return load_results(made.folder)


@contextmanager
def _torch_as_before() -> Iterator[None]:
    """Leave torch's random numbers and determinism to the caller as they were."""
    import torch

    mode = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # the stubs lack it
    tuned = torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = tuned


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as TOML would have them: tuples as lists, paths as text; None is left out, as the default."""
    return {name: _plain_value(value) for name, value in settings.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain_value(each) for each in value]
    return fspath(value) if isinstance(value, PathLike) else value


def _signature() -> inspect.Signature:
    """Return the signature of `run` with every setting, for the help of notebooks and editors."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    first, *flags, _ = inspect.signature(run).parameters.values()
    settings = [
        inspect.Parameter(one.name, keyword, default=one.default, annotation=one.type)
        for one in fields(Config)
        if one.name != first.name
    ]
    return inspect.Signature([first, *settings, *flags], return_annotation="pd.DataFrame")


class NotebookProgress(BenchProgress):
    """The same for a notebook: the bar is a line of HTML that changes in place, without widgets."""

    def __init__(self, repeats: int) -> None:
        super().__init__(repeats)
        self.live = console.level() > console.Level.QUIET

    def _bar(self) -> Any:
        return _HtmlBar() if console.level() > console.Level.QUIET else super()._bar()


class _HtmlBar:
    """What `BenchProgress` uses of `rich.progress.Progress`, in a notebook."""

    def __init__(self) -> None:
        self.handle: Any = None

    def start(self) -> None: ...

    def stop(self) -> None:
        if self.handle is not None:
            self._show("")

    def add_task(self, description: str, *, total: int, status: str) -> int:
        return 0

    def update(self, task: int, *, description: str, completed: int, total: int, status: str) -> None:
        bar = f'<progress value="{completed}" max="{total}"></progress>'
        self._show(f"{bar} {html.escape(description)} · {completed:,}/{total:,} {html.escape(status)}")

    def _show(self, text: str) -> None:
        ipython: Any = import_module("IPython.display")  # which every notebook has
        if self.handle is None:
            self.handle = ipython.display(ipython.HTML(text), display_id=True)
        else:
            self.handle.update(ipython.HTML(text))


run.__signature__ = _signature()  # type: ignore[attr-defined]  # of a function
