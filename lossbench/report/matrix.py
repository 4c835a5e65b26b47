"""The verdicts at one figure, losses by losses: what each row is to each column."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lossbench.report.markup import table
from lossbench.results.metric_fields import Metric
from lossbench.results.verdicts import Verdict

DENSE = 12  # losses, beyond which a matrix shows marks without numbers

Kind = Literal["ahead", "behind", "equivalent", "open", "single", "none", "self"]

_SAID: dict[Kind, str] = {
    "ahead": "ahead", "behind": "behind", "equivalent": "equivalent", "open": "not separable",
    "single": "needs a second repeat", "none": "not compared", "self": "",
}  # fmt: skip
MARKS: dict[Kind, str] = {"ahead": "▲", "behind": "▼", "equivalent": "≈", "open": "·", "single": "?", "none": "–"}


class Cell(NamedTuple):
    """What the loss of a row is to that of a column: `difference` is row minus column, empty where there is none."""

    kind: Kind
    difference: str = ""

    @property
    def mark(self) -> str:
        """One character that stands for the kind."""
        return MARKS.get(self.kind, "")

    @property
    def said(self) -> str:
        """The kind in words."""
        return _SAID[self.kind]


class Matrix(NamedTuple):
    """All verdicts at one figure; `rows` has a list of cells per name, in the order of `names`."""

    figure: Metric
    names: list[str]
    rows: list[list[Cell]]


def matrices(found: Sequence[Verdict]) -> list[Matrix]:
    """Return a matrix per figure, operating points first."""
    names = list(dict.fromkeys(name for v in found for name in (v.a, v.b)))
    made = []
    for figure in sorted(dict.fromkeys(v.figure for v in found), key=lambda figure: figure.point is None):
        pairs = {(v.a, v.b): v for v in found if v.figure == figure}
        made.append(Matrix(figure, names, [[_cell(pairs, row, column) for column in names] for row in names]))
    return made


def matrix_lines(matrix: Matrix, thin: str = "") -> list[str]:
    """Return the lines of a matrix as a table in Markdown, a dense one without numbers; `thin` marks its figure."""
    numbers = len(matrix.names) <= DENSE
    rows = [
        [name, *(" ".join(filter(None, [cell.mark, cell.difference if numbers else ""])) for cell in row)]
        for name, row in zip(matrix.names, matrix.rows, strict=True)
    ]
    return table([matrix.figure.title + thin, *matrix.names], rows)


def _cell(pairs: dict[tuple[str, str], Verdict], row: str, column: str) -> Cell:
    if row == column:
        return Cell("self")
    turned = (column, row) in pairs
    v = pairs.get((column, row) if turned else (row, column))
    if v is None:
        return Cell("none")
    mean = -v.difference.mean if turned else v.difference.mean
    return Cell(_kind(v, row), _signed(mean, v.figure.digits))


def _signed(value: float, digits: int) -> str:
    text = f"{value:z.{digits}f}"
    return f"+{text}" if text.strip("-0.") and value > 0 else text.replace("-", "−")


def _kind(v: Verdict, row: str) -> Kind:
    if v.difference.count < 2:
        return "single"
    if v.ahead:
        return "ahead" if v.ahead == row else "behind"
    return "equivalent" if v.equivalent else "open"
