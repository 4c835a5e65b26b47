"""The frame of all pages: its policy, names in sentences, columns, and what is said while runs are missing."""

import re

from lossbench.report.markup import Part
from lossbench.report.page.base import _pieces, _policy, _shapes, rendered, without_refresh

HOSTILE = "<script>alert(1)</script>{{ 7*7 }}"


def test_the_frame_holds_its_policy_and_what_is_provisional():
    text = rendered("base.html", {})
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "default-src &#39;none&#39;" in text
    assert 'http-equiv="refresh"' not in text
    assert 'class="provisional"' not in text
    watched = rendered("base.html", {}, provisional=HOSTILE)
    assert '<meta http-equiv="refresh" content="10">' in watched
    assert '<p class="provisional">Provisional: &lt;script&gt;alert(1)&lt;/script&gt;{{ 7*7 }}. This page' in watched
    assert watched.replace("&lt;", "").count("<script>") == text.count("<script>")
    policies = [re.search(r'Content-Security-Policy" content="([^"]*)"', one)[1] for one in (text, watched)]
    assert policies[0] == policies[1]
    assert 'http-equiv="refresh"' not in without_refresh(watched)
    assert without_refresh(text) == text


def test_the_policy_names_style_and_script_apart():
    assert _policy("a", "b") != _policy("b", "a")


def test_columns_of_numbers_stand_to_the_right_with_their_dashes():
    rows = [["ce", "5", "shuffle", "-0.1 ± 0.2", "1,234"], ["x", "3 of 4 (75 %)", "–", "–", "0.9 [0.8, 1]"]]
    assert _shapes(Part("", (), list("abcde"), rows)) == ["words", "number", "words", "number", "number"]
    assert _shapes(Part("", (), ["a"], [])) == ["words"]


def test_a_longer_name_wins_and_parts_of_words_lead_nowhere():
    links = {"arcface": "#1", "arcface_triplet": "#2", "ce": "#3", "a+0.5*b": "#4"}
    pieces = _pieces("ce, arcface_triplet: face a+0.5*b, arcface:margin=1.", links)
    found = [(piece, link) for piece, link in pieces if link]
    assert found == [("ce", "#3"), ("arcface_triplet", "#2"), ("a+0.5*b", "#4")]
