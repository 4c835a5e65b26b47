"""What figures and page share: a loss has the same colour in all of them."""

from collections.abc import Sequence

from lossbench.losses.plugin import UNTRAINED

_GREY = "#808080"
_MOST = 10  # losses that seaborn's colour-blind palette can tell apart


def colours(entrants: Sequence[str]) -> dict[str, str]:
    """Return each entrant's colour as ``#rrggbb``; `untrained` is grey.

    Example:
        >>> colours(["ce", "untrained"])
        {'ce': '#0173b2', 'untrained': '#808080'}
    """
    import seaborn as sns

    trained = [name for name in entrants if name != UNTRAINED]
    palette = sns.color_palette("colorblind" if len(trained) <= _MOST else "husl", len(trained)).as_hex()
    found = dict(zip(trained, map(str, palette), strict=True)) | {UNTRAINED: _GREY}
    return {name: found[name] for name in entrants}
