"""What a run's hash covers: every module of ours that its numbers come from."""

import ast
from pathlib import Path

import lossbench
from lossbench.benchmark import plan

ROOT = Path(lossbench.__file__).parent
#: Reached, but they decide which runs there are, where things lie, and how they are said; not what a run finds.
HARMLESS = {
    *("artifacts", "config", "errors", "inputs", "memory", "plan", "record_shape", "registry", "results", "twins"),
    *("data/atomic", "data/collection", "data/manifest", "data/names", "data/parallel", "data/splitting"),
    "data/unreadable",
    "pml",  # in the plugin's own fingerprint
}


def imported(module):
    """The modules of ours that a module imports, late ones included."""
    path = ROOT / f"{module}.py"
    tree = ast.parse((path if path.is_file() else ROOT / module / "__init__.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossbench"):
            base = "/".join(node.module.split(".")[1:])
            names = [base, *(f"{base}/{alias.name}".strip("/") for alias in node.names)]
            yield from (name for name in names if (ROOT / f"{name}.py").is_file() or (name and (ROOT / name).is_dir()))


def test_the_hash_covers_every_module_that_makes_numbers():
    reached, waiting = set(), ["execute", "train", "measure", "unseen", "data/images"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imported(module)
    hashed = {*plan._MAKE_NUMBERS, *(f"data/{name}" for name in plan._MAKE_PIXELS)}
    left = {m for m in reached - hashed - HARMLESS if m != "data" and not m.startswith("metrics")}
    assert left == set()
    assert hashed <= reached, "it hashes what nothing comes from"
