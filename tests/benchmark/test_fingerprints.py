"""What retrains a run, what only measures it again, and what does neither."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import lossbench
from lossbench.benchmark import fingerprints
from lossbench.benchmark.fingerprints import MEASURING, TRAINING, measuring_protocol, training_protocol
from lossbench.config import Config

ROOT = Path(lossbench.__file__).parent
#: Reached from training or measuring, but they decide where things lie and how they are said, not what comes out.
HARMLESS = {
    *("config", "errors", "data/catalogue", "data/pairs", "data/set_files", "data/split_file"),
    *("results/history", "results/schema", "results/store"),
    *(
        "utils/files",
        "utils/text",
        "utils/claims",
        "utils/owner",
        "utils/hashing",
        "utils/launch",
        "utils/settings",
        "utils/memory",
        "utils/processes",
    ),
}


def covered(patterns):
    return {file.relative_to(ROOT).with_suffix("").as_posix() for pattern in patterns for file in ROOT.glob(pattern)}


def imported(module):
    """The modules of ours that a module imports, late ones included."""
    path = ROOT / f"{module}.py"
    for node in ast.walk(ast.parse((path if path.is_file() else ROOT / module / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossbench"):
            base = "/".join(node.module.split(".")[1:])
            names = [base, *(f"{base}/{alias.name}".strip("/") for alias in node.names)]
            yield from (name for name in names if (ROOT / f"{name}.py").is_file())


def reached(*modules):
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imported(module)
    return found


def test_every_module_that_training_uses_is_in_a_fingerprint():
    left = reached("training/train", "data/images/store") - covered(TRAINING) - covered(MEASURING) - HARMLESS
    assert left == set()
    assert {"training/step", "losses/blocked_softmax", "models/resnet", "data/batches"} <= covered(TRAINING)


def test_every_module_that_measuring_uses_is_in_a_fingerprint():
    assert reached("evaluation/measure", "evaluation/health") - covered((*TRAINING, *MEASURING)) - HARMLESS == set()
    assert {"metrics/bootstrap", "metrics/exact/pairs", "metrics/operating_point"} <= covered(MEASURING)


def test_every_pattern_names_a_file():
    assert all(list(ROOT.glob(pattern)) for pattern in (*TRAINING, *MEASURING))


CONFIG = Config(threads=1).resolved()


def protocols(config):
    files = {"data": "a", "pairs": "b"}
    return training_protocol(config, files, ["split"], "cpu"), measuring_protocol(config, files)


@pytest.mark.parametrize(
    ("changes", "trained_again", "measured_again"),
    [
        ({"lr": 0.1}, True, False),
        ({"optimizer": "sgd"}, True, False),
        ({"schedule": "poly"}, True, False),
        ({"select": "val"}, True, False),
        ({"track": True}, True, False),
        ({"threads": 2}, True, False),
        ({"flip": True, "pairs": "pairs.txt"}, False, True),
        ({"fpr": (0.01, 0.001)}, False, True),
        ({"jobs": 4, "repeats": 9, "out": "elsewhere", "losses": "arcface"}, False, False),
    ],
)
def test_a_setting_touches_what_it_says(changes, trained_again, measured_again):
    (training, measuring), (other, again) = protocols(CONFIG), protocols(replace(CONFIG, **changes))
    assert (training != other, measuring != again) == (trained_again, measured_again)


@pytest.mark.parametrize(("setting", "looks_ahead"), [({}, False), ({"select": "val"}, True), ({"track": True}, True)])
def test_measuring_code_is_part_of_a_training_that_uses_it(setting, looks_ahead, monkeypatch):
    config = replace(CONFIG, **setting)
    before = protocols(config)
    monkeypatch.setattr(fingerprints, "MEASURING", ("metrics/accuracy.py",))
    after = protocols(config)
    assert before[1] != after[1]
    assert (before[0] != after[0]) == looks_ahead


def test_several_processes_and_sampled_centers_are_other_runs_and_unused_leave_the_hash():
    protocols = [
        training_protocol(config, {"data": "faces"}, ["split"], "cpu", processes)
        for config, processes in ((CONFIG, 1), (CONFIG, 2), (CONFIG, 3), (replace(CONFIG, sample_centers=0.1), 1))
    ]
    assert "processes" not in protocols[0]
    assert "sample_centers" not in protocols[0]["config"]
    assert [protocol.get("processes") for protocol in protocols] == [None, 2, 3, None]
    assert protocols[3]["config"] == protocols[0]["config"] | {"sample_centers": 0.1}
