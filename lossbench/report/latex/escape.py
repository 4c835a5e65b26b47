"""Text as LaTeX: nothing in it is a command, whoever wrote it, and every engine can print it.

The result is ASCII, so that pdflatex, xelatex and lualatex take it with any input or font encoding.
"""

import re
import unicodedata

_ASCII = {
    **{c: f"\\{c}" for c in "{}$&#_%"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # other letters in the fonts of pdflatex
    '"': r"{\ttfamily\char34}", "`": r"{\ttfamily\char96}",
    **{c: f"{{{c}}}" for c in "[]*"},  # an option or a star of the command before it
}  # fmt: skip
_OTHERS = {
    "±": r"$\pm$", "−": "$-$", "–": "--", "—": "---", "×": r"$\times$", "·": r"$\cdot$", "≈": r"$\approx$",
    "≤": r"$\le$", "≥": r"$\ge$", "°": r"$^\circ$", "†": r"$^\dagger$", "…": r"\dots{}", "‘": "`", "’": "'",
    "“": "``", "”": "''", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}",
    "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "¡": "!`", "¿": "?`", "§": r"\S{}", "©": r"\copyright{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H", "\u030c": r"\v", "\u0323": r"\d",
    "\u0327": r"\c", "\u0331": r"\b",
}  # fmt: skip
_JOINED = re.compile(r"([-,'!?])(?=[-,'`])")  # pairs that fonts draw as one: -- '' ,, ?`


def escaped(text: str) -> str:
    r"""Return plain text as LaTeX for a line of a table or of a caption.

    What has no letter in the usual fonts is shown by its code point; line breaks become blanks.

    Example:
        >>> escaped("50 % of a_b, Müller"), escaped("\\input{x}"), escaped("名")
        ('50 \\% of a\\_b, M\\"{u}ller', '\\textbackslash{}input\\{x\\}', '{\\ttfamily U+540D}')
    """
    return "".join(_piece(part) for part in re.split(_JOINED, " ".join(text.split())))


def number(text: str) -> str:
    """Return the text of a number, such as -0.012 ± 0.030, with its minus signs as such.

    Example:
        >>> number("-0.012 [-0.040, 0.016]")
        '$-$0.012 {[}$-$0.040, 0.016{]}'
    """
    return escaped(re.sub(r"-(?=\d)", "−", text))


def power(rate: str) -> str:
    """Return a rate as tables write it: powers of ten as such.

    Example:
        >>> power("0.01"), power("1e-5"), power("2e-5")
        ('0.01', '$10^{-5}$', '$2\\\\cdot10^{-5}$')
    """
    found = re.fullmatch(r"(\d[\d.]*)e-(\d+)", rate)
    if not found:
        return escaped(rate)
    factor = "" if found[1] == "1" else rf"{found[1]}\cdot"
    return f"${factor}10^{{-{found[2]}}}$"


def _piece(text: str) -> str:
    joined = "".join(_letter(c) for c in unicodedata.normalize("NFC", text))
    return f"{joined}{{}}" if text in tuple("-,'!?") else joined


def _letter(c: str) -> str:
    if c.isascii() and c.isprintable():
        return _ASCII.get(c, c)
    if c in _OTHERS:
        return _OTHERS[c]
    parts = unicodedata.normalize("NFD", c)
    base, marks = parts[0], parts[1:]
    if base.isascii() and base.isalpha() and marks and all(mark in _ACCENTS for mark in marks):
        for mark in marks:
            base = f"{_ACCENTS[mark]}{{{base}}}"
        return base
    return rf"{{\ttfamily U+{ord(c):04X}}}"
