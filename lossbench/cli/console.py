"""Everything printed goes through here: progress, tables, errors, JSON. Plain lines if the output is not a terminal.

Names and reasons come from files: control characters in them never reach the terminal.

rich is imported only where a table or a progress bar is drawn, since it would double the start-up time.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from lossbench.utils.text import json_text, shown

if TYPE_CHECKING:
    from rich.console import Console


_COLOURS = {"pass": "32", "fail": "1;31", "skip": "33"}  # of a terminal
_WIDE = 200  # columns of tables in files and pipes, so that they are not cut


class Level(IntEnum):
    """How much is printed: results, notes and errors alone; progress too; or more of it."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_level = ContextVar("level", default=Level.NORMAL)
_in_document = ContextVar("in_document", default=False)


def level() -> Level:
    """Return how much is to be printed."""
    return _level.get()


@contextmanager
def at_level(chosen: Level) -> Iterator[None]:
    """Print so much in this context."""
    before = _level.set(chosen)
    try:
        yield
    finally:
        _level.reset(before)


@contextmanager
def document(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Yield a function that takes a command's result, and prints it as one JSON document where that is wanted.

    Progress and notes then go to standard error, and tables and lists, which say the same, are left out.
    """
    if not wanted:
        yield lambda value: None
        return
    out, before = sys.stdout, _in_document.set(True)
    try:
        with redirect_stdout(sys.stderr):
            yield lambda value: print(json_text(value), file=out)
    finally:
        _in_document.reset(before)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook: IPython is imported, and its shell has one."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def terminal() -> "Console":
    """Return rich's console, wide if the output is a file, a pipe or a notebook, which gets plain text."""
    from rich.console import Console

    # a notebook's kernel sets FORCE_COLOR, which rich takes for a terminal
    plain = False if in_notebook() else None
    console = Console(highlight=False, force_jupyter=False, force_terminal=plain)
    if console.is_terminal:
        return console
    return Console(highlight=False, force_jupyter=False, force_terminal=plain, width=_WIDE)


def error(message: str) -> None:
    """Print one line to standard error."""
    mark = "\033[1;31merror:\033[0m" if sys.stderr.isatty() else "error:"
    print(mark, shown(" ".join(message.split())), file=sys.stderr)


def say(message: str) -> None:
    """Print one line."""
    print(shown(message))


def step(message: str) -> None:
    """Print one line of progress, unless the command is to be quiet."""
    if level() > Level.QUIET:
        say(message)


def listing(title: str, entries: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Print entries, each a name and the lines about it, as plain text."""
    if _in_document.get():
        return
    width = max(len(name) for name, _ in entries) + 2
    print(f"{title}:")
    for name, lines in entries:
        print("\n".join(f"  {name if i == 0 else '':<{width}}{shown(line)}" for i, line in enumerate(lines)))
    print()


def finding(status: str, name: str, figure: str) -> None:
    """Print one property of a loss: pass, fail or skip, its name, and what was measured."""
    mark = "FAIL" if status == "fail" else status
    if sys.stdout.isatty():
        mark = f"\033[{_COLOURS[status]}m{mark:4}\033[0m"
    print(f"{mark:4}  {name:34} {shown(figure)}")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", numbers: bool = True) -> None:
    """Print a table; all columns but the first are right-aligned where they are numbers.

    Where the terminal is too narrow for all columns, several tables are printed, each with the first column.
    """
    if _in_document.get():
        return
    from rich.markup import escape
    from rich.table import Table

    for number, columns in enumerate(_fitting(headers, rows)):
        titled = title if not number else f"{title}, continued"
        drawn = Table(title=escape(shown(titled)) if title else None, title_justify="left", header_style="bold")
        for i in columns:
            drawn.add_column(escape(headers[i]), justify="right" if i and numbers else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*("[dim]–[/dim]" if row[i] == "–" else escape(shown(row[i])) for i in columns))
        terminal().print(drawn)


def _fitting(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return which columns each table shows, so that no number is broken in a terminal of this width."""
    from rich.cells import cell_len

    def words(header: str) -> int:  # a header may wrap between its words
        return max(map(cell_len, header.split()), default=0)

    widths = [max(words(h), *(cell_len(shown(row[i])) for row in rows), 0) + 3 for i, h in enumerate(headers)]
    found, used = [[0]], widths[0] + 1
    for i, width in enumerate(widths[1:], start=1):
        if used + width > terminal().width and len(found[-1]) > 1:
            found.append([0])
            used = widths[0] + 1
        found[-1].append(i)
        used += width
    return found


class Quarters:
    """Notices when a count passes a quarter of its total, whatever its step. A count that falls starts again.

    Of verbose commands it notices twentieths.
    """

    def __init__(self) -> None:
        self.last = 0

    def passed(self, done: int, total: int) -> bool:
        """Return whether a quarter lies between the last count and this one."""
        before = self.last if done > self.last else 0
        self.last = done
        parts = 20 if level() is Level.VERBOSE else 4
        return done * parts // total > before * parts // total


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a count: a bar on a terminal, else a line per quarter; nothing if the command is to be quiet.

    Yields a function to call with done and total. A verbose command says how long it took.
    """
    if level() is Level.QUIET:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, started, counted = terminal(), time.monotonic(), 0
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, quarters = bar.add_task(what, total=None), Quarters()

        def advance(done: int, total: int) -> None:
            nonlocal counted
            counted = total
            bar.update(task, completed=done, total=total)
            if quarters.passed(done, total) and not console.is_terminal:
                console.print(f"{what}: {done:,} of {total:,}", soft_wrap=True, markup=False)

        yield advance
    if counted and level() is Level.VERBOSE:
        say(f"{what}: {counted:,} in {time.monotonic() - started:.1f} s")


@contextmanager
def counting_in_turn(*whats: str) -> Iterator[list[Callable[[int, int], None]]]:
    """Show counts one after the other: each begins when its function is first called, and ends the one before it."""
    with ExitStack() as shown_now:
        begun: dict[str, Callable[[int, int], None]] = {}

        def counter(what: str) -> Callable[[int, int], None]:
            def advance(done: int, total: int) -> None:
                if what not in begun:
                    shown_now.close()
                    begun[what] = shown_now.enter_context(counting(what))
                begun[what](done, total)

            return advance

        yield [counter(what) for what in whats]
