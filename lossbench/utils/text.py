"""Text for one line of a message, and for the name of a file."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lossbench.errors import InputError


def shown(path: object) -> str:
    """Return a path for one line of a message: line breaks, control characters and stray bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def clipped(text: str, most: int = 80) -> str:
    """Return a file's text for one line of a message: escaped, and no more than `most` characters of it."""
    return shown(text[:most]) + ("..." if len(text) > most else "")


def comma_list(text: str, option: str) -> list[str]:
    """Return the items of a list that is typed with commas between them, without blanks around them.

    Args:
        text: the list; one without any comma has one item, even if that is empty.
        option: what an error names it by.

    Raises:
        InputError: an item is empty, as after a last comma.

    Example:
        >>> comma_list("ce, arcface", "--losses")
        ['ce', 'arcface']
        >>> comma_list("ce,", "--losses")
        Traceback (most recent call last):
        ...
        lossbench.errors.InputError: --losses 'ce,': item 2 of 2 is empty; drop a comma, or write what is missing
    """
    items = [item.strip() for item in text.split(",")]
    if len(items) > 1 and "" in items:
        number = f"item {items.index('') + 1} of {len(items)}"
        raise InputError(f"{option} '{clipped(text)}': {number} is empty; drop a comma, or write what is missing")
    return items


def file_name(text: str, limit: int = 80) -> str:
    """Return text reduced to at most `limit` characters that any file system takes in a name; others become '_'.

    Example:
        >>> file_name("pml:ArcFaceLoss+0.5*triplet")
        'pml_ArcFaceLoss+0.5_triplet'
    """
    return re.sub(r"[^A-Za-z0-9._+=-]", "_", text)[:limit]


def listed(words: Sequence[str], joint: str = "and") -> str:
    """Return words as a list in a sentence, the last of them after `joint`.

    Example:
        >>> listed(["ce"]), listed(["ce", "arcface", "cosface"]), listed(["ce", "arcface"], "or")
        ('ce', 'ce, arcface and cosface', 'ce or arcface')
    """
    return f" {joint} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def some(names: Sequence[str]) -> str:
    """Return the first three names for one line of a message.

    Example:
        >>> some(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    return ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def rate_text(rate: float, digits: int = 6) -> str:
    """Return a rate as people write it.

    Example:
        >>> rate_text(0.001), rate_text(1e-5), rate_text(1 / 9200, digits=2)
        ('0.001', '1e-5', '0.00011')
    """
    return f"{rate:.{digits}g}".replace("e-0", "e-")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type where the message is empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def described(error: BaseException) -> str:
    """Return the name of an error's type and the first line of its message, where it has one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def json_text(value: Any) -> str:
    """Return a value as JSON, one line per entry; NaN and infinity, which JSON does not have, become null.

    Example:
        >>> json_text({"tpr@0.1": float("nan")})
        '{\\n "tpr@0.1": null\\n}'
    """
    import json  # late: few commands need it

    return json.dumps(_without_nan(value), indent=1, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
