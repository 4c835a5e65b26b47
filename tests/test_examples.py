"""Every public function, of lossbench itself, metrics/ and losses/head.py, has an example, and it is right."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import lossbench
from lossbench import metrics
from lossbench.losses import head

MODULES = [
    head,
    *(importlib.import_module(m.name) for m in pkgutil.walk_packages(metrics.__path__, "lossbench.metrics.")),
]
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
} | {f"lossbench.{name}": value for name in lossbench.__all__ if inspect.isfunction(value := getattr(lossbench, name))}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_a_public_function_gives_what_it_says(name, capsys):
    function = FUNCTIONS[name]
    (example,) = doctest.DocTestFinder(recurse=False).find(
        function, name, globs=dict(inspect.unwrap(function).__globals__)
    )
    assert example.examples, f"{name} has no Example in its docstring"
    assert any(line.want for line in example.examples), f"the example of {name} shows no result"
    failed = doctest.DocTestRunner(verbose=False).run(example).failed
    assert not failed, capsys.readouterr().out


def test_functions_of_every_module_are_found():
    assert {"lossbench.metrics.exact.products.where", "lossbench.losses.head.angle"} <= FUNCTIONS.keys()
    assert {f"lossbench.{name}" for name in ("run", "load_results", "load_backbone", "load_head")} <= FUNCTIONS.keys()
    assert len(FUNCTIONS) > 40
