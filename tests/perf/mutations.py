"""The changes that `mutants.py` makes to source text: cosmic-ray's operators and two of our own, drawn at random."""

import ast
import contextlib
import difflib
import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

_AUGMENTED = ("+=", "-=", "*=", "/=", "|=")
_KEPT = ("strict", "device")  # arguments: zip's assertion, and where tensors lie, which is the CPU in all tests
_Position = tuple[int, int]  # line and column


class DropStatement(Operator):
    """Leave out a statement: a call, or a change of a variable or an attribute in place."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and node.children[0].type not in ("string", "strings"):
            statement = node.children[0]
            call = statement.type in ("atom_expr", "power") and statement.get_last_leaf().value == ")"
            in_place = statement.type == "expr_stmt" and (
                statement.children[0].type in ("atom_expr", "power")
                or statement.children[1].get_code().strip() in _AUGMENTED
            )
            if call or in_place:
                yield statement.start_pos, statement.end_pos

    def mutate(self, node, index):
        node.children[0] = parso.python.tree.Name("pass", node.start_pos, prefix=node.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls):
        return ()


class DropArgument(Operator):
    """Leave out a keyword argument of a call."""

    def mutation_positions(self, node):
        if node.type == "arglist" and node.parent.type == "trailer":
            for child in _optional(node):
                yield child.start_pos, child.end_pos

    def mutate(self, node, index):
        at = node.children.index(_optional(node)[index])
        del node.children[max(at - 1, 0) : at + 1 + (at == 0)]
        return node

    @classmethod
    def examples(cls):
        return ()


def _optional(arguments):
    named = [c for c in arguments.children if c.type == "argument" and c.children[0].type == "name"]
    return [c for c in named if c.children[0].value not in _KEPT]


class Change(NamedTuple):
    """A possible change of a module: its `occurrence`-th place that `operator` finds, in this line."""

    operator: str
    occurrence: int
    line: int


@dataclass(frozen=True)
class Mutant:
    """A module after a change."""

    module: str
    operator: str
    line: int
    source: str

    def diff(self, original: str) -> str:
        """Return the lines that are other than in the original."""
        lines = difflib.unified_diff(original.splitlines(), self.source.splitlines(), lineterm="", n=0)
        return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


def operators() -> dict[str, Operator]:
    """Return all operators by name."""
    provider = OperatorProvider()
    left_out = {"VariableReplacer", "VariableInserter", "NoOp"}  # they need settings of their own
    found = {name: provider[name]() for name in provider if name not in left_out}
    return {**found, "DropStatement": DropStatement(), "DropArgument": DropArgument()}


def places(source: str) -> list[list[Change]]:
    """Return the places of a module that can be changed, each with its possible changes."""
    silent, lines = _silent(source), source.splitlines()
    by_place: dict[tuple[_Position, _Position], list[Change]] = {}
    nodes = list(ast_nodes(get_ast(source)))
    for name, operator in operators().items():
        spans = (span for node in nodes for span in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(spans):
            marker = lines[start[0] - 1][start[1] :].startswith(("*,", "/,"))  # of a signature
            if not marker and not any(low <= start < high for low, high in silent):
                by_place.setdefault((start, end), []).append(Change(name, occurrence, start[0]))
    return [by_place[place] for place in sorted(by_place)]


def _silent(source: str) -> list[tuple[_Position, _Position]]:
    """Return the spans that stay as they are: annotations, what an error says, imports, and zip's ``strict``."""
    nodes = list(ast.walk(ast.parse(source)))
    found: list[ast.AST | None] = [node.exc for node in nodes if isinstance(node, ast.Raise)]
    found += [node.annotation for node in nodes if isinstance(node, ast.arg | ast.AnnAssign)]
    found += [node.returns for node in nodes if isinstance(node, ast.FunctionDef)]
    found += [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    found += [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "strict"]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in found if n is not None]


def mutate(source: str, operator: Operator, occurrence: int) -> str | None:
    """Return the source with one change, or None where it is no Python any more, or the same as before."""
    tree = get_ast(source)
    number = 0
    for node in list(ast_nodes(tree)):
        for index, _ in enumerate(operator.mutation_positions(node)):
            if number == occurrence:
                changed = operator.mutate(node, index)
                if changed is not node:
                    siblings = node.parent.children
                    at = next(i for i, child in enumerate(siblings) if child is node)
                    siblings[at : at + 1] = [] if changed is None else [changed]
                code = tree.get_code()
                with contextlib.suppress(SyntaxError):
                    if ast.dump(ast.parse(code)) != ast.dump(ast.parse(source)):
                        return code
                return None
            number += 1
    raise IndexError(occurrence)


def draw(sources: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """Draw `count` places at random, none twice, and a change at each.

    Chance is a hash of the seed and of the line, so that a change elsewhere leaves most of the draw as it was.
    """
    every = []
    for module, source in sources.items():
        lines, seen = source.splitlines(), Counter()
        for place in places(source):
            text = lines[place[0].line - 1]
            every.append((_chance(seed, module, text, seen[text]), module, text, place))
            seen[text] += 1
    known, drawn = operators(), []
    for _, module, text, place in sorted(every):
        for change in sorted(place, key=partial(_preference, seed, module, text)):
            source = mutate(sources[module], known[change.operator], change.occurrence)
            if source is not None:
                drawn.append(Mutant(module, change.operator, change.line, source))
                break
        if len(drawn) == count:
            break
    print(f"{len(drawn)} mutants at {len(every)} places of {len(sources)} modules, seed {seed}", flush=True)
    return drawn


def _preference(seed: int, module: str, text: str, change: Change) -> str:
    return _chance(seed, module, text, change.operator)


def _chance(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def span(line: int, source: str) -> range | None:
    """Return the lines of the statement at a line, of its head alone if it has a body; None stands for the module.

    That is so outside functions, and where a function keeps its results: only the first test of all runs its lines.
    """
    found = None
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    if any("cache" in ast.unparse(decorator) for function in functions for decorator in function.decorator_list):
        return None
    for function in functions:
        for statement in (n for part in function.body for n in ast.walk(part) if isinstance(n, ast.stmt)):
            body = getattr(statement, "body", None)
            last = max(body[0].lineno - 1 if body else statement.end_lineno, statement.lineno)
            if statement.lineno <= line <= last:
                found = range(statement.lineno, last + 1)
    return found


def without_prose(source: str) -> str:
    """Return a module without its comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)
