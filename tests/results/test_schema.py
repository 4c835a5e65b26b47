"""Results folders may come from anybody: whatever stands in their files ends in a result or in one line."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from support import GONE, bench, changed

from lossbench.errors import InputError, RunDamaged
from lossbench.evaluation.evaluate import known_names
from lossbench.report.sections import negatives_line
from lossbench.report.tables import failures, text_table
from lossbench.report.write import write_report
from lossbench.results.metric_fields import shown_in
from lossbench.results.schema import fault_of
from lossbench.results.store import load_records, read_record
from lossbench.results.study import Study
from lossbench.results.weights import built_as

VALUES = [GONE, 0, None, "x", [1], {}, -1, 1e400, 10**400, True, {"a": "b"}]


def places(value, at=()):
    """Yield the keys that lead to everything in a value; of a list, to its first two items."""
    if at:
        yield at
    inside = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*at, key))


def one_line(work):
    """Return what an error says, which must be one line for a user; None without."""
    try:
        work()
    except InputError as error:
        return str(error)
    return None


def test_a_record_can_be_used_or_is_refused_whatever_stands_in_it(benchmark):
    path = next(benchmark.glob("runs/arcface-r0-*/run.json"))
    whole = json.loads(path.read_text())

    def table():
        study = Study.of(records := load_records(benchmark))
        text_table(study, shown_in("headline", "speed"))
        negatives_line(study)
        failures(records)

    def model():
        record = {**read_record(path.parent), "folder": str(path.parent)}
        built_as(record)
        known_names(record, {"s01"})

    said = set()
    for number, at in enumerate(places(whole)):
        values = VALUES[number % 4 :: 4]  # each place sees some of them, and the whole report one
        for value in values:
            path.write_text(json.dumps(changed(whole, at, value)))
            said |= {one_line(work) for work in (table, model)}
        path.write_text(json.dumps(changed(whole, at, values[number // 4 % len(values)])))
        said.add(one_line(lambda: write_report(benchmark)))
    assert None in said
    assert len(said) > 30
    assert all("\n" not in line for line in said if line)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("verification_same", -1, "metrics.verification_same"),
        ("verification_same", None, None),
        ("probes", 1.5, "metrics.probes"),
        ("negatives", None, "metrics.negatives"),
        ("tpr@0.1", "high", "metrics.tpr@0.1"),
        ("tpr@0.1", [0.5], "metrics.tpr@0.1"),
        ("a figure of a later version", 0.5, None),
    ],
)
def test_every_figure_in_a_record_is_looked_at(made, key, value, fault):
    record = json.loads(next(made.glob("runs/ce-r0-*/run.json")).read_text())
    assert fault_of(changed(record, ("metrics", key), value)) == fault


@pytest.mark.parametrize("value", VALUES)
def test_a_failed_run_has_a_reason(made, value):
    record = json.loads(next(made.glob("runs/ce-r0-*/run.json")).read_text())
    failed = changed({**record, "status": "failed", "metrics": {}}, ("reason",), value)
    assert fault_of(failed) == (None if value == "x" else "reason")


@pytest.mark.parametrize(
    "text",
    ["a=" + "[" * 100_000, "record = 1", "[record]\nplugins = 3\nprotocol = 'x'\nentrants = []\nlossbench = 'x'"],
    ids=["deep", "no table", "plugins"],
)
def test_a_benchmark_file_of_others_is_kept_and_written_anew(benchmark, tmp_path, text):
    file = benchmark / "benchmark.toml"
    file.write_text(text)
    assert one_line(lambda: write_report(benchmark)) is not None
    bench(tmp_path, "ce,arcface", repeats=1, track=True, deconfound=True)
    assert tomllib.loads(file.read_text())["record"]["entrants"]
    assert one_line(lambda: write_report(benchmark)) is None


def test_names_of_others_do_not_reach_the_terminal_as_they_are(lossbench, benchmark, tree):
    folder = next(benchmark.glob("runs/ce-r0-*"))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "entrant": "ce\x1b[31mX"}))
    code, out, _ = lossbench("evaluate", folder, "--data", tree)
    assert code == 0
    assert "\x1b" not in out
    assert "ce\\x1b[31mX r0" in out


def test_a_record_of_schema_1_is_read_as_this_version_writes_it(tmp_path):
    """The file is what lossbench wrote before figures had one key each: ORL, ce, 3 epochs at 32 px."""
    source = Path(__file__).parent / "files" / "schema_1.json"
    shutil.copy(source, tmp_path / "run.json")
    old, record = json.loads(source.read_text())["metrics"], read_record(tmp_path)
    found = record["metrics"]
    assert all(isinstance(value, int | float | None) for value in found.values())
    assert found["tpr@0.05"] == old["identification"][1]["tpr"]
    assert Study((record,), {}).fprs == (0.1, 0.05, 0.01, 0.001)
    assert found["transfer_fpr@0.1"] == old["threshold_transfer"][0]["achieved_fpr"]
    assert found["dir@0.1"] == old["open_set"][0]["rate"]
    assert found["cmc5_with_distractors"] == old["cmc"]["with_distractors"]["5"]
    assert found["entries_with_distractors"] == old["cmc"]["with_distractors"]["entries"]
    assert found["train_w_ec"] == old["train_angles"]["w_ec"]
    assert found["silhouette"] == old["clusters"]["silhouette"]
    assert {row.key for row in shown_in("headline", "gallery", "transfer", "retrieval", "clusters", "angles")} <= set(
        found
    )


@pytest.mark.parametrize("group", ["cmc", "identification", "threshold_transfer", "retrieval", "train_angles"])
def test_a_group_of_schema_1_that_is_null_is_no_damage_and_what_is_none_of_it_is(tmp_path, group):
    record = json.loads((Path(__file__).parent / "files" / "schema_1.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(changed(record, ("metrics", group), None)))
    assert read_record(tmp_path)["status"] == "finished"
    (tmp_path / "run.json").write_text(json.dumps(changed(record, ("metrics", group), "x")))
    with pytest.raises(RunDamaged, match=r"is not a record of schema 1"):
        read_record(tmp_path)


@pytest.mark.parametrize("schema", [GONE, None, "1", True, 1.0])
def test_a_record_without_a_schema_is_none_and_not_one_of_a_newer_version(tmp_path, schema):
    record = json.loads((Path(__file__).parent / "files" / "schema_1.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(changed(record, ("schema",), schema)))
    with pytest.raises(RunDamaged, match="is not a lossbench record"):
        read_record(tmp_path)
