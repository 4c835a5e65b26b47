"""Options of a command from settings declared elsewhere, and help that shows options in groups, as plain text."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from lossbench.cli.completion import completion_of
from lossbench.errors import InputError
from lossbench.utils.settings import Setting, read_list, settings_of, split_up

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document; progress and notes go to standard error.")
]


def speaks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that prints progress the options -q and -v, which it need not know of."""
    signature = inspect.signature(command)

    def called(*, quiet: bool, verbose: bool, **values: Any) -> None:
        from lossbench.cli.console import Level, at_level

        if quiet and verbose:
            raise InputError("--quiet and --verbose exclude each other; leave out one of the two")
        with at_level(Level.QUIET if quiet else Level.VERBOSE if verbose else Level.NORMAL):
            command(**values)

    own = [
        _flag("quiet", "-q", "Print results, notes and errors alone, no progress."),
        _flag("verbose", "-v", "Print more progress."),
    ]
    parameters = [*signature.parameters.values(), *own]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called


def _flag(name: str, letter: str, help: str) -> inspect.Parameter:
    option = typer.Option(False, f"--{name}", letter, help=help)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=bool)


def takes(*declared: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every setting that these dataclasses declare.

    The command's first argument becomes what the user gave of them, by name; an option left out is not in it. Its own
    required options are shown before them, its others after them.
    """
    settings = [setting for options in declared for setting in settings_of(options)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command).parameters.values()

        def called(**values: Any) -> None:
            given = {setting.name: values.pop(setting.name) for setting in settings}
            given = {name: value for name, value in given.items() if value is not None}
            for one in (one for one in settings if one.repeats and one.name in given):
                given[one.name] = (read_list if one.is_list else split_up)(one, given[one.name])
            command(given, **values)

        required = [one for one in own if one.default is one.empty]
        optional = [one for one in own if one.default is not one.empty]
        parameters = [*required, *map(_parameter, settings), *optional]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        return called

    return decorate


def _parameter(setting: Setting) -> inspect.Parameter:
    """Return a setting as a parameter whose default, None, means: not given."""
    option = typer.Option(
        None,
        *([setting.option] if setting.kind is bool else []),  # or there would be a --no-... beside it
        help=f"{setting.help}{_default(setting)}",
        show_default=False,
        metavar="LIST" if setting.is_list else f"[{'|'.join(setting.choices)}]" if setting.choices else None,
        rich_help_panel=setting.group or None,
        autocompletion=completion_of(setting),
    )
    kind: Any = str if setting.is_list else list[str] if setting.repeats else setting.kind
    return inspect.Parameter(
        setting.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=option, annotation=kind | None
    )


def _default(setting: Setting) -> str:
    if setting.default_text:
        return f"  [default: {setting.default_text}]"
    unsaid = setting.kind is bool or setting.default in (None, ())
    return "" if unsaid else f"  [default: {setting.default}]"


class GroupedCommand(TyperCommand):
    """A command whose help shows its options by `rich_help_panel`, without rich, which would double the start-up."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section per group, in the order in which groups first appear; their columns line up."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Other", []).append(row)
        width = max(len(option) for rows in groups.values() for option, _ in rows)
        for title, rows in groups.items():
            with formatter.section(title):
                own = max(len(option) for option, _ in rows)
                formatter.write_dl(rows, col_max=width, col_spacing=2 + width - own)
