"""Commands that can be typed again, and what was not the same for all."""

import shlex

from support import STUDY, changed

from lossbench.config import Config
from lossbench.report.provenance import command, differences, fingerprints, versions
from lossbench.results.study import Study

SETTINGS = {"record": {"lossbench": "9.8.7"}}


def test_a_command_quotes_what_a_shell_would_read():
    settings = {"losses": "ce,arcface+0.5*triplet", "data": "my; faces", "fpr": [0.1, 1e-5], "plugins": ["a b", "c"]}
    settings |= {"flip": True, "track": False, "min_images": None, "out": "elsewhere", "record": {}, "hostile": "$(id)"}
    words = shlex.split(" ".join(command(settings)))
    assert words[:8] == ["lossbench", "run", "--losses", "ce,arcface+0.5*triplet", "--plugins", "a b", "--plugins", "c"]
    assert words[8:] == ["--data", "my; faces", "--flip", "--fpr", "0.1,1e-05"]


def test_every_option_of_a_command_exists(lossbench):
    settings = {name: getattr(Config().resolved(), name) for name in Config.__dataclass_fields__}
    code, out, _ = lossbench("run", "--help")
    assert code == 0
    options = [word for word in shlex.split(" ".join(command(settings))) if word.startswith("--")]
    assert len(options) > 10
    assert all(option in out for option in options)


def test_what_differed_is_said_with_who_had_it():
    assert differences(STUDY) == []
    runs = [changed(run, ("sampler",), "P x 4") if run["entrant"] == "b" else run for run in STUDY.records]
    (found,) = differences(Study(tuple(runs), {}))
    assert (found.what, found.topic) == ("batches", "batches")
    assert found.values == (("shuffle", "a and c"), ("P x 4", "b"))


def test_processes_that_trained_together_are_said():
    runs = [
        {**STUDY.records[0], "processes": said}
        for said in (
            {"count": 2, "batch_normalisation": "over each process's part of the batch"},
            {"count": 2, "batch_normalisation": None},
            {"count": 1},
            "many",
        )
    ]
    said = dict(versions(SETTINGS, runs))["processes of each run"]
    assert said == "2 (batch normalisation over each process's part of the batch), 2"
    assert "processes of each run" not in dict(versions(SETTINGS, runs[2:]))


def test_fingerprints_and_versions_survive_records_of_any_kind():
    first = {**STUDY.records[0], "protocol_hash": "p" * 64, "plugin": ["odd"], "protocol": "none", "machine": "none"}
    assert dict(fingerprints([first])) == {
        "protocol": "p" * 64, "split of repeat 1": "fold 0", "plugin untrained": "['odd']",
    }  # fmt: skip
    assert versions(SETTINGS, [first]) == [("lossbench, of the report", "9.8.7")]
    machine = {"python": "3.11", "device": "a CPU", "threads": 2}
    known = {**first, "machine": machine, "protocol": {"versions": {"torch": "2.9"}}}
    assert dict(versions(SETTINGS, [known])) == {
        "lossbench, of the report": "9.8.7", "python": "3.11", "device": "a CPU", "threads": "2", "torch": "2.9",
    }  # fmt: skip
