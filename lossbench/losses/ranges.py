"""Ranges of hyper-parameters, declared as a paper would write them: ``0 <= margin < pi, scale > 0``.

They are read from the text, never evaluated as code.
"""

import ast
import math
from typing import Any, NamedTuple


class Range(NamedTuple):
    """The values that one hyper-parameter may take, from `low` to `high`; an open end is not one of them."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    low_is_open: bool = False
    high_is_open: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether `value` is a number inside the range."""
        try:
            above = self.low < value if self.low_is_open else self.low <= value
            below = value < self.high if self.high_is_open else value <= self.high
        except TypeError:  # no number
            return False
        return bool(above and below)

    @property
    def rule(self) -> str:
        """The range in words: ``at least 0 and below pi``."""
        low = f"{'above' if self.low_is_open else 'at least'} {_number(self.low)}"
        high = f"{'below' if self.high_is_open else 'at most'} {_number(self.high)}"
        return " and ".join([low] * (self.low > -math.inf) + [high] * (self.high < math.inf))


def parse_ranges(text: str) -> dict[str, Range]:
    """Return the range of each hyper-parameter that `text` names.

    Args:
        text: comparisons of a name with numbers or ``pi``, separated by commas; empty for no ranges.

    Raises:
        ValueError: `text` is anything else, names a hyper-parameter twice, or leaves it no value.

    Example:
        >>> parse_ranges("0 <= margin < pi, scale > 0")["margin"].rule
        'at least 0 and below pi'
    """
    try:
        tree = ast.parse(text.strip() or "()", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"'{text}' cannot be read") from error
    found: dict[str, Range] = {}
    for part in tree.elts if isinstance(tree, ast.Tuple) else [tree]:
        name, declared = _comparison(part)
        if name in found:
            raise ValueError(f"'{name}' has two ranges, '{found[name].text}' and '{declared.text}'")
        if declared.low > declared.high or (declared.low == declared.high and not declared.accepts(declared.low)):
            raise ValueError(f"no number satisfies '{declared.text}'")
        found[name] = declared
    return found


def _comparison(part: ast.expr) -> tuple[str, Range]:
    """Read ``scale > 0``, ``0 < scale`` or ``0 <= margin < pi``, in either direction."""
    text = ast.unparse(part)
    if isinstance(part, ast.Compare):
        operands = [_operand(operand) for operand in (part.left, *part.comparators)]
        operators = [type(operator) for operator in part.ops]
        if set(operators) <= {ast.Gt, ast.GtE}:
            operands, operators = operands[::-1], operators[::-1]
        elif not set(operators) <= {ast.Lt, ast.LtE}:
            operands = []
        is_open = [operator in (ast.Lt, ast.Gt) for operator in operators]
        match operands:
            case [str(name), float(high)]:
                return name, Range(text, high=high, high_is_open=is_open[0])
            case [float(low), str(name)]:
                return name, Range(text, low=low, low_is_open=is_open[0])
            case [float(low), str(name), float(high)]:
                return name, Range(text, low, high, *is_open)
    raise ValueError(f"'{text}' does not compare one hyper-parameter with numbers")


def _operand(node: ast.expr) -> float | str | None:
    """Return a number, the name of a hyper-parameter, or None for anything else."""
    if isinstance(node, ast.Name):
        return math.pi if node.id == "pi" else node.id
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):  # no literal, or one that cannot be, such as {[]}
        return None
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _number(value: float) -> str:
    return "pi" if value == math.pi else f"{value:g}"
