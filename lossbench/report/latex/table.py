"""A table in LaTeX with booktabs' rules: a float, or a longtable where it may fill pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossbench.report.latex.escape import escaped

_MOST = 42  # lines of a float: more would not fit on a page


@dataclass(frozen=True)
class Table:
    """A table, whose texts are LaTeX already.

    `columns` says how each is set, as in ``lcc``; `head` are the lines above the rule, `blocks` those below it, with a
    rule between two blocks. A line is a `row`, or a command of booktabs. `label` is a key of ASCII letters, digits and
    ``:-``.
    """

    caption: str
    label: str
    columns: str
    head: Sequence[str]
    blocks: Sequence[Sequence[str]]
    long: bool = False

    @property
    def text(self) -> str:
        """The content of the file that a paper takes in by ``\\input``."""
        long = self.long or sum("&" in line for block in self.blocks for line in block) > _MOST
        needed = r"\usepackage{booktabs}" + r" \usepackage{longtable}" * long
        told = rf"% Written by lossbench. A paper takes this file in by \input; its preamble needs {needed}"
        lines = [told, *(self._long() if long else self._float())]
        return "\n".join(lines) + "\n"

    def _float(self) -> list[str]:
        return [
            r"\begin{table}[htbp]", r"\centering\small", r"\setlength{\tabcolsep}{4pt}",
            r"\setlength{\belowcaptionskip}{6pt}", rf"\caption{{{self.caption}}}", rf"\label{{{self.label}}}",
            rf"\begin{{tabular}}{{@{{}}{self.columns}@{{}}}}", r"\toprule",
            *map(_ended, self.head), r"\midrule", *self._body(), r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip

    def _long(self) -> list[str]:
        head = [*map(_ended, self.head), r"\midrule"]
        return [
            r"{\small", r"\setlength{\tabcolsep}{4pt}", rf"\begin{{longtable}}{{@{{}}{self.columns}@{{}}}}",
            rf"\caption{{{self.caption}}}\label{{{self.label}}}\\", r"\toprule", *head, r"\endfirsthead",
            r"\toprule", *head, r"\endhead", r"\bottomrule", r"\endfoot",
            *self._body(), r"\end{longtable}", "}",
        ]  # fmt: skip

    def _body(self) -> list[str]:
        lines: list[str] = []
        for block in self.blocks:
            lines += [*([r"\midrule"] if lines and block else []), *map(_ended, block)]
        return lines


def row(cells: Sequence[str]) -> str:
    """Return the line of these cells."""
    return " & ".join(cells)


def over(count: int, text: str, align: str = "c") -> str:
    """Return a cell over so many columns."""
    return rf"\multicolumn{{{count}}}{{{align}}}{{{text}}}"


def caption(sentences: Sequence[str]) -> str:
    """Return plain sentences as a caption; empty ones are left out."""
    return " ".join(f"{escaped(sentence)}." for sentence in sentences if sentence)


def _ended(line: str) -> str:
    """Break the line of a row."""
    return line if line.startswith((r"\cmidrule", r"\addlinespace")) else rf"{line} \\"
