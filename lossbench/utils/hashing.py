"""Fingerprints: of values, and of source code as far as it can change what it computes."""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sha(value: Any) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys.

    Example:
        >>> sha({"b": 1, "a": 2}) == sha({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return the SHA-256 over the code of some modules and their places; comments and docstrings are left out.

    Args:
        files: Python files, in any order.
        root: the folder that their places are relative to.

    Raises:
        SyntaxError: one of them is no Python.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root).as_posix()}\0{code_of(file.read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()


def code_of(source: str) -> str:
    """Return source text without comments, docstrings and blank lines: the same from every version of Python.

    Example:
        >>> code_of('def f():\\n    \"\"\"Say one.\"\"\"\\n\\n    return 1  # one\\n')
        'def f():\\n    return 1'
    """
    lines, text, opened = source.split("\n"), set[int](), list[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
        elif tokenize.tok_name[token.type].endswith("STRING_START"):  # of an f-string, from Python 3.12 on
            opened.append(token.start[0])
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type].endswith("STRING_END"):
            first = token.start[0] if token.type == tokenize.STRING else opened.pop()
            text |= set(range(first - 1, token.end[0] - 1))  # the last line may end with code
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            _blank(lines, docstring)
            assert docstring.end_lineno is not None
            text -= set(range(docstring.lineno - 1, docstring.end_lineno))
    return "\n".join(line if i in text else line.rstrip() for i, line in enumerate(lines) if i in text or line.strip())


def _blank(lines: list[str], node: ast.stmt) -> None:
    """Empty the lines of a statement, keeping what stands before and behind it on its first and last line."""
    assert node.end_lineno is not None
    first, last = node.lineno - 1, node.end_lineno - 1
    before = lines[first].encode()[: node.col_offset].decode()  # offsets count bytes of UTF-8
    behind = lines[last].encode()[node.end_col_offset :].decode()
    lines[first : last + 1] = [before + behind, *[""] * (last - first)]
