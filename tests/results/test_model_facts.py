"""The metadata of an exported model: what a record becomes, the crop of prepared data, and files that are damaged."""

import json

import pytest
from support import GONE, changed, model_record

from lossbench.data.prepare.align import ARCFACE
from lossbench.errors import InputError
from lossbench.results.model_facts import facts_of, read_facts


def test_a_record_becomes_thresholds_with_what_they_were_set_on():
    facts = facts_of(model_record())
    assert [point["fpr"] for point in facts["operating_points"]] == [0.1, 0.01, 0.001]
    assert facts["operating_points"][2] == {
        "fpr": 0.001, "threshold": 0.85, "set_on": "query and distractors", "negatives": 9200, "deciding": 9,
        "tpr": 0.6,
        "transfer": {
            "set_on": "val", "threshold": 0.85 - 0.2, "negatives": 1104, "fpr": 0.03, "tpr": 0.9,
        },
    }  # fmt: skip
    assert facts["input"]["shape"] == ["batch", 3, 32, 32]
    assert facts["output"]["shape"] == ["batch", 16]
    assert facts["model"]["loss"] == "arcface"
    assert facts["run"]["hash"] == "0123456789abcdef"
    assert "for you to check" in facts["licence"]
    assert read_facts(json.dumps(facts), "m") == facts


def test_rates_that_the_data_does_not_support_have_no_point():
    record = changed(model_record(), ("metrics", "threshold@0.001"), None)
    record["metrics"]["transfer_threshold@0.01"] = None
    points = facts_of(record)["operating_points"]
    assert [(point["fpr"], point["transfer"] is None) for point in points] == [(0.1, False), (0.01, True)]
    older = {key: value for key, value in record["metrics"].items() if "threshold" not in key}
    assert facts_of(model_record(metrics=older))["operating_points"] == []


def test_the_template_is_that_of_the_prepared_set_while_it_is_unchanged(tmp_path):
    from lossbench.data.split_file import SplitFile, write_manifest

    data, run = tmp_path / "faces", tmp_path / "results" / "faces" / "runs" / "arcface-r1-0123"
    for folder in (data, run):
        folder.mkdir(parents=True)
    write_manifest(data, {"parameters": {"crop": "arcface", "size": 112}}, [])
    (run.parents[1] / "benchmark.toml").write_text(f'data = "{data}"\n')
    record = model_record(folder=str(run), data="faces", split_file=SplitFile.of(data).sha256)
    found = facts_of(changed(record, ("protocol", "config", "image_size"), 112))["alignment"]
    assert found["template"] == "arcface"
    assert found["points"] == pytest.approx(ARCFACE + 0.5, abs=1e-3)
    assert "'arcface' at 112 px" in found["said"]
    write_manifest(data, {"parameters": {"crop": "tight", "size": 112}}, [])
    assert facts_of(record)["alignment"]["template"] is None, "another set by now"
    (run.parents[1] / "benchmark.toml").unlink()
    assert facts_of(record)["alignment"]["template"] is None


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (("model", "backbone"), GONE, "has no proper 'model.backbone'"),
        (("model", "image_size"), 10**9, "has no proper 'model.image_size'"),
        (("operating_points", 0, "threshold"), "high", "has no proper 'operating_points.0.threshold'"),
        (("operating_points", 0, "transfer", "fpr"), 7, "has no proper 'operating_points.0.transfer.fpr'"),
        (("run", "people"), [], "has no proper 'run.people'"),
        (("schema",), 2, "has schema 2, this lossbench reads 1; upgrade lossbench"),
    ],
)
def test_metadata_that_is_not_ours_is_refused_by_its_place(at, value, says):
    facts = changed(facts_of(model_record()), at, value)
    with pytest.raises(InputError, match=says):
        read_facts(json.dumps(facts), "m.onnx")


@pytest.mark.parametrize(("text", "says"), [(None, "m has no metadata"), ("{", "is damaged"), ("[]", "no proper ''")])
def test_no_metadata_is_said(text, says):
    with pytest.raises(InputError, match=says):
        read_facts(text, "m")
