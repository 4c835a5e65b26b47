"""Text as LaTeX: no character of it is a command, none is lost in silence."""

import string

import pytest

from lossbench.report.latex.escape import escaped, number, power


@pytest.mark.parametrize(
    ("text", "as_latex"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a_b & 5 % of $x$ #1 ^2 ~", r"a\_b \& 5 \% of \$x\$ \#1 \textasciicircum{}2 \textasciitilde{}"),
        ("<b>|", r"\textless{}b\textgreater{}\textbar{}"),
        ("[3cm] *", "{[}3cm{]} {*}"),
        ('say "x" `y`', r"say {\ttfamily\char34}x{\ttfamily\char34} {\ttfamily\char96}y{\ttfamily\char96}"),
        ("Ångström", r"\r{A}ngstr\"{o}m"),
        ("Łódź ß", r"\L{}\'{o}d\'{z} \ss{}"),
        ("名\u202e\x07", r"{\ttfamily U+540D}{\ttfamily U+202E}{\ttfamily U+0007}"),
        ("\udcff", r"{\ttfamily U+DCFF}"),
        ("a\n\\\\\tb", r"a \textbackslash{}\textbackslash{} b"),
        ("0.9 ± 0.1 – † ≈", r"0.9 $\pm$ 0.1 -- $^\dagger$ $\approx$"),
    ],
)
def test_what_is_special_is_escaped(text, as_latex):
    assert escaped(text) == as_latex


@pytest.mark.parametrize("pair", ["--", "---", "''", ",,", "?`", "!`"])
def test_characters_that_fonts_would_join_stay_apart(pair):
    made = escaped(f"a{pair}b").replace(r"{\ttfamily\char96}", "`")
    assert made.replace("{}", "") == f"a{pair}b"
    assert pair not in made


def test_the_result_is_ascii_with_matching_braces():
    everything = "".join(map(chr, [*range(0x250), 0x2014, 0x3B1, 0x4E00, 0x1F600, 0xD800]))
    made = escaped(everything)
    assert made.isascii()
    assert made.isprintable()
    depth = 0
    for before, c in zip(" " + made, made, strict=False):
        if c in "{}" and before != "\\":
            depth += 1 if c == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_letters_and_digits_stay_as_they_are():
    assert escaped(string.ascii_letters + string.digits) == string.ascii_letters + string.digits


def test_numbers_have_minus_signs_and_names_have_hyphens():
    assert number("-0.012 [-0.040, 0.016]") == "$-$0.012 {[}$-$0.040, 0.016{]}"
    assert number("−0.5") == "$-$0.5"
    assert escaped("semi-hard") == "semi-hard"


@pytest.mark.parametrize(
    ("rate", "as_latex"),
    [("0.1", "0.1"), ("1e-5", "$10^{-5}$"), ("2.5e-6", r"$2.5\cdot10^{-6}$"), ("1e-5$", r"1e-5\$"), ("by_x", r"by\_x")],
)
def test_rates_are_powers_of_ten_where_they_are_small(rate, as_latex):
    assert power(rate) == as_latex
