"""What a shell completes: losses, backbones, data sets, choices and topics. Nothing here imports torch.

`lossbench --install-completion` sets it up in bash, zsh, fish and PowerShell.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from lossbench.errors import InputError
from lossbench.utils.files import is_litter
from lossbench.utils.settings import Setting

Complete = Callable[..., list[str]]


def completion_of(setting: Setting) -> Complete | None:
    """Return what completes the values of a setting of `lossbench run`; None leaves it to the shell."""
    if setting.choices:
        return lambda incomplete: _starting(setting.choices, incomplete)
    return _BY_NAME.get(setting.name)


def complete_losses(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return specs that what was typed may become: the word after its last comma, plus or weight is completed."""
    before, word = _last_word(incomplete)
    if word.startswith("pml:"):
        from lossbench.losses.pml import names

        return [f"{before}pml:{name}" for name in _starting(names(), word[4:])]
    if "/" in word or word.startswith("."):
        return [before + path for path in _paths(word, ".py")]
    from lossbench.losses.registry import find_plugins

    try:
        known = find_plugins(ctx.params.get("plugins") or ())
    except InputError:  # the command itself says what is wrong
        return []
    named = set(before.split(","))
    return [before + name for name in _starting(known, word) if name not in named]


def complete_entrants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what `complete_losses` does, and the word for all losses where an entrant begins."""
    from lossbench.losses.spec import ALL

    before, _, word = incomplete.rpartition(",")
    every = [] if ALL in before.split(",") else _starting((ALL,), word)
    return [incomplete[: len(incomplete) - len(word)] + name for name in every] + complete_losses(ctx, incomplete)


def complete_backbones(incomplete: str) -> list[str]:
    """Return backbones that begin so, or files of one's own."""
    if "/" in incomplete or incomplete.startswith("."):
        return _paths(incomplete, ".py")
    from lossbench.models.backbones import BACKBONES

    return _starting(BACKBONES, incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Return data sets that begin so, and folders."""
    from lossbench.data.catalogue import NAMES

    return [*_starting(NAMES, incomplete), *_paths(incomplete)]


def complete_checked(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what `lossbench check` takes: losses, or networks with --backbone."""
    return complete_backbones(incomplete) if ctx.params.get("backbone") else complete_losses(ctx, incomplete)


def complete_topics(incomplete: str) -> list[str]:
    """Return the topics of `lossbench explain` that begin so."""
    from lossbench.report.glossary import TERMS
    from lossbench.report.large_scale import TOPIC

    return _starting((*(term.topic for term in TERMS), TOPIC), incomplete)


def complete_device(incomplete: str) -> list[str]:
    """Return the devices."""
    return _starting(("auto", "cpu", "cuda"), incomplete)


_BY_NAME: dict[str, Complete] = {
    "losses": complete_entrants,
    "backbone": complete_backbones,
    "data": complete_data,
    "device": complete_device,
}


def _last_word(text: str) -> tuple[str, str]:
    """Return a list of specs up to the word that is being typed, and that word.

    Example:
        >>> _last_word("ce,arcface+0.5*tri")
        ('ce,arcface+0.5*', 'tri')
    """
    found = re.match(r"(.*[,+*])?(.*)", text, re.DOTALL)
    assert found is not None
    return found[1] or "", found[2]


def _starting(words: Iterable[str], beginning: str) -> list[str]:
    return [word for word in words if word.startswith(beginning)]


def _paths(beginning: str, suffix: str | None = None) -> list[str]:
    """Return the folders whose paths begin so, and the files of a suffix."""
    above, _, name = beginning.rpartition("/")
    folder = Path(f"{above}/" if above or beginning.startswith("/") else ".")
    place = beginning[: len(beginning) - len(name)]
    try:
        found = sorted(entry for entry in folder.iterdir() if entry.name.startswith(name))
    except OSError:  # no such folder, or a closed one
        return []
    there = [entry for entry in found if not is_litter(entry.name)]
    return [
        place + entry.name + ("/" if suffix and entry.is_dir() else "")
        for entry in there
        if entry.is_dir() or (suffix and entry.suffix == suffix)
    ]
