"""A comparison on disk: all of its files, beside the benchmarks or where one says, inert whatever names it holds."""

import re

import pytest
from support import REPORTED, changed, compared, renamed

from lossbench.report.compare.write import comparison_markdown, comparison_page

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}"


def test_the_page_has_the_policy_of_the_report_and_no_dead_link():
    text = comparison_page(compared(x=REPORTED, y=renamed({"a": "b", "b": "a"})))
    assert "default-src &#39;none&#39;; img-src data:" in text
    inside = set(re.findall(r'href="#([^"]+)"', text))
    assert inside == {"answer", "differences", "changes", "figures"}
    assert inside <= set(re.findall(r'id="([^"]+)"', text))
    assert "Reversed: a is ahead of b on x but behind on y," in text


def test_names_are_text():
    runs = renamed({"a": HOSTILE})
    odd = [changed(run, ("machine", "device"), HOSTILE) for run in runs]
    comparison = compared(**{"<b>x</b>": runs, "y|*": odd})
    text = comparison_page(comparison)
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "<b>" not in text
    assert "{{ 7*7 }}" in text
    assert not re.search(r"<(script|b|img)", comparison_markdown(comparison))


def test_long_lists_of_changes_are_cut_in_markdown_alone():
    names = "abcdefghijkl"
    runs = [
        changed(
            {**run, "entrant": name}, ("metrics", "test_accuracy_ncm"), 0.3 + 0.05 * i + 0.002 * (i * run["repeat"] % 3)
        )
        for i, name in enumerate(names)
        for run in REPORTED
        if run["entrant"] == "a"
    ]
    other = renamed(dict(zip(names, reversed(names), strict=True)), runs)
    comparison = compared(x=runs, y=other)
    assert "26 more are in verdicts.csv." in comparison_markdown(comparison)
    assert comparison_page(comparison).count("reversed</td>") == 66


@pytest.mark.parametrize("out", [None, "elsewhere"])
def test_all_files_are_written_and_named(lossbench, tmp_path, out):
    for name, losses in (("p", "ce,cosface"), ("q", "cosface,ce")):
        words = (
            "--losses",
            losses,
            "--name",
            name,
            "--out",
            tmp_path,
            "--epochs",
            1,
            "--image-size",
            32,
            "--repeats",
            1,
        )
        assert lossbench("run", *words)[0] == 0
    place = tmp_path / (out or "compare-p-q")
    code, said, _ = lossbench("report", "--compare", tmp_path / "p", tmp_path / "q", *(["--out", place] if out else []))
    files = ["compare.html", "compare.md", "figures.csv", "figures.tex", "verdicts.csv", "verdicts.tex"]
    assert code == 0
    assert said.splitlines() == [f"wrote {place / file}" for file in files]
    assert sorted(file.name for file in place.iterdir()) == files
    assert (
        (place / "compare.md")
        .read_text()
        .startswith("# p and q compared\n\n- No verdict can be compared yet: p and q ")
    )
    code, _, err = lossbench("report", "--compare", tmp_path / "p", tmp_path / "q", "--out", tmp_path / "p")
    assert (code, err) == (2, f"error: --out: '{tmp_path / 'p'}' is a benchmark's folder; choose another place\n")
