"""A setting declared once, as a field of a dataclass: type, default, range, help. Options and checks follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from lossbench.errors import InputError, did_you_mean
from lossbench.utils.files import check_path
from lossbench.utils.text import clipped, comma_list

_Options = TypeVar("_Options")


class Setting(NamedTuple):
    """What is declared of a setting, and its name and type.

    `kind` is the type without None, that of one value where the setting `repeats`. The range is `low` to `high`.
    `default_text` says what a default of None stands for. `path` marks what names a file or a folder. `touches` says
    what another value changes (`lossbench.config`).
    """

    name: str
    kind: type
    repeats: bool
    default: Any
    help: str
    group: str
    touches: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    default_text: str
    path: bool

    @property
    def is_list(self) -> bool:
        """Whether it holds numbers, which are typed with commas between them."""
        return self.repeats and self.kind is not str

    @property
    def option(self) -> str:
        """How it is typed on the command line."""
        return "--" + self.name.replace("_", "-")


def declare(
    default: Any,
    *,
    help: str,
    group: str = "",
    touches: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    default_text: str = "",
    path: bool = False,
) -> Any:
    """Return a dataclass field that carries its declaration; see `Setting`."""
    declared = {name: value for name, value in locals().items() if name != "default"}
    return field(default=default, metadata=declared)


def settings_of(options: type) -> tuple[Setting, ...]:
    """Return the settings that a dataclass declares, in its order.

    Raises:
        TypeError: a field that was not declared.
    """
    found = []
    for one in fields(options):
        if not one.metadata:
            raise TypeError(f"{options.__name__}.{one.name} is not declared: say its help, range and what it touches")
        kind: Any = next(iter(get_args(one.type)), one.type)
        found.append(Setting(one.name, kind, get_origin(one.type) is tuple, one.default, **one.metadata))
    return tuple(found)


def check(options: Any) -> None:
    """Check the values of a dataclass of settings against what they declare; None always fits.

    Raises:
        InputError: a value out of range, an unknown choice, or a path that no disk can hold.
    """
    for setting in settings_of(type(options)):
        value = getattr(options, setting.name)
        if value is None:
            continue
        for one in value if setting.repeats else (value,):
            if setting.choices and one not in setting.choices:
                known = " or ".join(f"'{choice}'" for choice in setting.choices)
                raise InputError(f"{setting.option} '{one}' is not known; use {known}")
            if setting.low is not None and setting.high is not None and not setting.low <= one <= setting.high:
                raise InputError(f"{setting.option} {one} is out of range; use {setting.low} to {setting.high}")
            if setting.path:
                check_path(one, setting.option)


def read_list(setting: Setting, text: str) -> tuple[Any, ...]:
    """Return the values of a setting that is a list of numbers.

    Raises:
        InputError: something between two commas is no number, or nothing.
    """
    items = comma_list(text, setting.option)
    try:
        return tuple(setting.kind(item) for item in items)
    except ValueError:
        raise InputError(f"{setting.option} '{clipped(text)}' is no list of numbers; write 0.01,0.001") from None


def split_up(setting: Setting, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the values of a setting that is a list of text: one that has choices takes commas between them, too.

    Raises:
        InputError: there is nothing between two commas, or after the last.

    Example:
        >>> from lossbench.config import SETTINGS
        >>> split_up(SETTINGS["log_to"], ["tensorboard,wandb", "trackio"])
        ('tensorboard', 'wandb', 'trackio')
    """
    lists = (comma_list(text, setting.option) if setting.choices else [text] for text in texts)
    return tuple(item for items in lists for item in items)


def fields_of(settings: Mapping[str, Setting], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values, as TOML or a caller gives them, as fields of a dataclass of settings; names and types are checked.

    Args:
        settings: what there is, by name.
        table: values by the names of settings.
        where: what an error begins with: the place that they come from.

    Raises:
        InputError: an unknown setting, or a value of the wrong type.
    """
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name not in settings:
            raise InputError(f"{where}: no setting called '{name}'{did_you_mean(name, list(settings))}")
        one = settings[name]
        if one.repeats and one.choices and isinstance(value, str):
            value = [value]
        values = value if one.repeats and isinstance(value, list) else [value]
        if isinstance(value, list) != one.repeats or not all(_fits(each, one.kind) for each in values):
            kind = f"a list of {one.kind.__name__}" if one.repeats else f"of type {one.kind.__name__}"
            raise InputError(f"{where}: {name} = {value!r} should be {kind}")
        found[name] = value if not one.repeats else tuple(value) if one.is_list else split_up(one, value)
    return found


def _fits(value: Any, kind: type) -> bool:
    return type(value) is kind or (type(value) is int and kind is float)


def build(options: type[_Options], given: Mapping[str, Any]) -> _Options:
    """Return a dataclass of settings with those values of `given` that are its own, checked.

    Raises:
        InputError: as `check`.
    """
    built = options(**{one.name: given[one.name] for one in settings_of(options) if one.name in given})
    check(built)
    return built
