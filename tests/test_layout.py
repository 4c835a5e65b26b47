"""tests/ mirrors lossbench/ file by file; what stands apart is named here, with its reason.

tests/gpu/ is ordered by what is measured: each of its files crosses several modules.
"""

import ast
from pathlib import Path

import pytest

import lossbench

PACKAGE, TESTS = Path(lossbench.__file__).parent, Path(__file__).parent

#: Modules of declarations alone, for which a test file would be empty.
WITHOUT_TESTS = {
    "benchmark/listener.py": "a Protocol; mypy compares cli/progress.py with it",
    "conformance/property.py": "a dataclass and two exceptions; test_check.py measures every property",
}
#: Test files of no single module.
OF_NO_MODULE = {
    "test_examples.py": "docstrings of lossbench, metrics/ and losses/head.py",
    "test_gpu_command.py": "tests/perf/gpu.py, a command started by hand",
    "test_growth_command.py": "tests/perf/growth.py, a command started by hand",
    "test_layout.py": "this file",
    "test_pretend_cuda.py": "losses, steps and metrics on a GPU that is none",
    "test_package.py": "wheel, sdist and checkout",
    "test_readme.py": "README and CONTRIBUTING",
    "benchmark/test_disk.py": "disks that are full or read-only, under run and report",
    "benchmark/test_remeasure.py": "plan, queue and execution of runs that are only measured",
    "metrics/test_invariances.py": "every metric",
    "plugins/test_capture.py": "plugins/, which stands beside the package",
    "plugins/test_losses.py": "plugins/, which stands beside the package",
    "plugins/test_zoo.py": "plugins/, which stands beside the package",
    "report/test_browser.py": "the page in Chromium: templates, style sheet and script together",
    "training/test_resume.py": "training, checkpoint and records of a process that is killed",
    "training/test_selection.py": "training and evaluation: which data may choose the epoch",
}


def below(folder: Path, pattern: str) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob(pattern)}


MODULES = {name for name in below(PACKAGE, "*.py") if not name.endswith("__init__.py") and "plugins/" not in name}
FILES = {name for name in below(TESTS, "test_*.py") if not name.startswith("gpu/")}


def mirrored(module: str) -> str:
    return Path(module).with_name(f"test_{Path(module).name}").as_posix()


def test_every_module_has_a_test_file_or_a_reason():
    assert {name for name in MODULES if mirrored(name) not in FILES} == WITHOUT_TESTS.keys()


def test_every_test_file_has_a_module_or_a_reason():
    assert FILES - {mirrored(name) for name in MODULES} == OF_NO_MODULE.keys()


@pytest.mark.parametrize("module", WITHOUT_TESTS)
def test_a_module_without_a_test_file_computes_nothing(module):
    """Its functions have a docstring and return something, if they do anything."""
    tree = ast.parse((PACKAGE / module).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert all(isinstance(statement, ast.Expr | ast.Return) for one in functions for statement in one.body)
