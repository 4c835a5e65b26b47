"""All LaTeX tables of a report: one beside each CSV, well-formed, and printed by TeX whatever names it holds."""

import re
import shutil
import subprocess

import pytest
from support import REPORTED, SETTINGS, changed

from lossbench.report.findings import Findings
from lossbench.report.latex.tables import label_of, latex_tables
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

HOSTILE = r"\input{/etc/passwd}$x$ 50% a_b #1 {{}} [x] * & ^~ <b>|\end{document} Łukasz 名 «é» --'' " + '"`\u202e\x07'


def tables_of(runs):
    study = Study(tuple(runs), {})
    return latex_tables(Findings(SETTINGS, study, verdicts(study), []), r"my \faces")


def hostile():
    """Names, data and reasons that TeX would stumble over."""
    places = (("entrant",), ("reason",), ("sampler",))
    runs = []
    for run in REPORTED:
        for place in places if run["entrant"] == "c" else ():
            run = changed(run, place, HOSTILE)
        runs.append({**run, "data": HOSTILE, "plain_twin": "b"})
    return [{**run, "entrant": "[a]*"} if run["entrant"] == "a" else run for run in runs]


def width(cell):
    found = re.match(r"\\multicolumn\{(\d+)\}", cell)
    return int(found[1]) if found else 1


@pytest.mark.parametrize("runs", [REPORTED, hostile()])
def test_rows_are_as_wide_as_the_table_and_all_is_ascii(runs):
    made = tables_of(runs)
    assert list(made) == ["summary", "runs", "verdicts", "ranks"]
    for text in made.values():
        assert text.isascii()
        columns = re.search(r"\{@\{\}([lcr]+)@\{\}\}", text)[1]
        rows = [re.split(r"(?<!\\)&", line) for line in text.splitlines() if re.search(r"(?<!\\)&", line)]
        assert {sum(width(cell.strip()) for cell in cells) for cells in rows} == {len(columns)}
        assert text.count(r"\begin{") == text.count(r"\end{")
        assert r"\input{/etc" not in text
        assert not re.search(r"(?m)^[\[*]", text)


def test_labels_are_of_the_benchmark_and_of_the_table():
    made = tables_of(REPORTED)
    assert all(rf"\label{{tab:my-faces-{stem}}}" in text for stem, text in made.items())
    assert label_of("ünï", "a_b") == "tab:n-a-b"


def test_scale_and_margin_have_a_table_where_twins_were_trained():
    names = {"a": "ce", "b": "b", "c": "c"}
    runs = [{**run, "entrant": names.get(run["entrant"], "untrained")} for run in REPORTED]
    runs = [{**run, "plain_twin": "c"} if run["entrant"] == "b" else run for run in runs]
    assert r"\caption{Scale and margin separated.}" in tables_of(runs)["scale_and_margin"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex: apt-get install texlive-latex-base")
def test_tex_prints_every_table(tmp_path):
    many = [{**run, "entrant": f"{run['entrant']}{i}"} for i in range(12) for run in hostile()]
    made = {f"few-{k}": v for k, v in tables_of(hostile()).items()} | {
        f"many-{k}": v for k, v in tables_of(many).items()
    }
    for stem, text in made.items():
        (tmp_path / f"{stem}.tex").write_text(text)
    packages = sorted(set(re.findall(r"\\usepackage\{\w+\}", " ".join(text.splitlines()[0] for text in made.values()))))
    taken = [rf"\input{{{stem}.tex}} \clearpage" for stem in made]
    paper = [r"\documentclass{article}", *packages, r"\begin{document}", *taken, r"\end{document}"]
    (tmp_path / "paper.tex").write_text("\n".join(paper))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
