"""The page as text: whole, self-contained, and inert whatever records and settings hold."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from support import REPORTED, SETTINGS, changed

from lossbench.report.findings import Findings
from lossbench.report.page.page import page
from lossbench.results.answer import answer
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Tags(HTMLParser):
    """All tags with their attributes, and the texts between them."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, name):
        return [attributes[name] for _, attributes in self.found if name in attributes]


def text_of(folder, runs=REPORTED, drawn=(), left_out=0, tables=(), **settings):
    runs = [{**run, "folder": str(folder / f"{run['entrant']}-{run['repeat']}".replace("/", "_"))} for run in runs]
    study = Study(tuple(runs), {})
    found = verdicts(study)
    findings = Findings({**SETTINGS, **settings}, study, found, answer(study, found), left_out=left_out)
    return page(findings, drawn, folder=folder, tables=tables)


def test_every_table_is_linked_as_csv_and_latex(tmp_path):
    places = Tags(text_of(tmp_path, tables=["summary", "disagreements"])).values("href")
    assert {f"tables/{n}.{kind}" for n in ("summary", "disagreements") for kind in ("csv", "tex")} <= set(places)


def test_every_link_into_the_page_leads_somewhere(tmp_path):
    tags = Tags(text_of(tmp_path))
    inside = {link[1:] for link in tags.values("href") if link.startswith("#")}
    assert len(inside) > 30
    assert inside <= set(tags.values("id"))
    assert len(set(tags.values("id"))) == len(tags.values("id"))


def test_one_repeat_is_said_to_have_no_intervals(tmp_path):
    first = [run for run in REPORTED if run["repeat"] == 0]
    assert "There is one repeat" in text_of(tmp_path, first)
    assert "There is one repeat" not in text_of(tmp_path)


def test_nothing_comes_from_outside(tmp_path):
    for stem in ("angles", "tpr_fpr"):
        (tmp_path / f"{stem}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        (tmp_path / f"{stem}.png").write_bytes(PNG)
    (tmp_path / "tpr_fpr.svg").write_text("<svg>" + " " * 500_000 + "</svg>")
    tags = Tags(text_of(tmp_path, drawn=[("angles", "Angles."), ("tpr_fpr", "Rates.")]))
    assert [uri[:22] for uri in tags.values("src")] == ["data:image/svg+xml;bas", "data:image/png;base64,"]
    assert not any("//" in link for link in tags.values("href"))
    assert {tag for tag, _ in tags.found} & {"link", "iframe", "object", "embed", "base", "form"} == set()
    assert tags.values("width")[-1] is not None


def test_the_policy_allows_this_style_and_this_script_alone(tmp_path):
    text = text_of(tmp_path)
    (policy,) = [a["content"] for _, a in Tags(text).found if a.get("http-equiv") == "Content-Security-Policy"]
    for tag in ("style", "script"):
        (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_no_attribute_carries_style_or_script(tmp_path):
    names = {name for _, attributes in Tags(text_of(tmp_path)).found for name in attributes}
    assert "style" not in names
    assert not {name for name in names if name.startswith("on")}


@pytest.mark.parametrize(
    "place", [("entrant",), ("data",), ("reason",), ("sampler",), ("machine", "device"), ("split",), ("protocol_hash",)]
)
def test_what_records_hold_is_text(tmp_path, place):
    runs = [changed(run, place, HOSTILE) if run["entrant"] == "c" else run for run in REPORTED]
    if place in (("data",), ("protocol_hash",)):
        runs = [changed(run, place, HOSTILE) for run in REPORTED]
    tags = Tags(text_of(tmp_path, runs))
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert "img" not in {tag for tag, _ in tags.found}
    shown = "".join(tags.texts)
    assert HOSTILE in shown or HOSTILE[:60] in shown, "it is shown as it is"


def test_what_settings_and_settings_of_losses_hold_is_text(tmp_path):
    odd = {"hyperparameters": {HOSTILE: HOSTILE}, "protocol": {"versions": {HOSTILE: HOSTILE}}}
    runs = [{**run, **odd} for run in REPORTED]
    tags = Tags(text_of(tmp_path, runs, backbone=HOSTILE, record={"lossbench": HOSTILE}, losses=HOSTILE))
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert "img" not in {tag for tag, _ in tags.found}


def test_the_page_says_what_the_report_says(tmp_path):
    shown = " ".join("".join(Tags(text_of(tmp_path, left_out=2)).texts).split())
    for said in (
        "Which of 3 losses should a face-recognition network be trained with, judged on orl?",
        "a is ahead of b in accuracy by class means (0.902 against 0.802).",
        "Backbone tiny, 48 px, embeddings of 128; 7 epochs of batch 32",
        "Any of the 3: none is ahead of another in ID rate @ FPR 0.1",
        "c, repeat 4, failed in epoch 4: TrainingFailed: the loss became nan",
        "lossbench run --data orl --backbone tiny --embedding-dim 128 --image-size 48",
        "2 runs with other settings in this folder are left out.",
        "Faces: ORL, AT&T Laboratories Cambridge (Samaria & Harter 1994).",
        "a CPU of 1984",
    ):
        assert said in shown


def test_verdicts_of_one_repeat_are_said_to_be_none(tmp_path):
    once = text_of(tmp_path, [run for run in REPORTED if run["repeat"] == 0])
    assert "No two losses have finished two repeats in common, so none is compared." in once
    assert "Separable:" not in once
    assert "</span>needs a second repeat</li>" in once
    assert "</span>ahead</li>" not in once
    whole = text_of(tmp_path)
    assert re.search(r"Separable: \d+ of 9 comparisons, at all 3 figures below\.", whole)
    assert "</span>needs a second repeat</li>" not in whole
    assert "</span>not compared</li>" not in whole
    some = [run for run in REPORTED if run["entrant"] != "c" or run["repeat"] == 0]
    assert "</span>needs a second repeat</li>" in text_of(tmp_path, some)
    apart = [run for run in REPORTED if run["entrant"] == "a" or (run["repeat"] < 2) == (run["entrant"] == "b")]
    assert "</span>not compared</li>" in text_of(tmp_path, apart)


def test_one_loss_alone_is_a_page_too(tmp_path):
    text = text_of(tmp_path, [run for run in REPORTED if run["entrant"] in ("a", "untrained")])
    assert "How well does a face-recognition network trained with a do on orl?" in text
    assert "nothing to compare" in text
    assert "What to choose" not in text


def test_runs_that_all_failed_are_a_page_too(tmp_path):
    runs = [{**run, "status": "failed", "reason": "it fell", "metrics": {}} for run in REPORTED]
    assert text_of(tmp_path, runs).count("it fell") > 8


def test_many_losses_have_a_matrix_of_marks(tmp_path):
    runs = [{**run, "entrant": f"{run['entrant']}{i}"} for i in range(5) for run in REPORTED if run["entrant"] in "abc"]
    assert 'class="matrix dense"' in text_of(tmp_path, runs)
    assert 'class="matrix dense"' not in text_of(tmp_path)
