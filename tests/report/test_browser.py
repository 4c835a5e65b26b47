"""report.html in headless Chromium, with hostile names: nothing runs, nothing is fetched, all is accessible.

Needs Chromium (Debian's package, which .ci/run installs) and the extra ``browser``; skipped with a reason elsewhere.
"""

import json
import re
import shutil

import pytest
from support import REPORTED, SETTINGS, changed, compared, renamed

from lossbench.report.compare.write import comparison_page
from lossbench.report.findings import Findings
from lossbench.report.page.page import page
from lossbench.results.answer import answer
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.extra("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

HOSTILE = "\"'><script>document.title = 'taken'</script><img src='https://example.invalid/x' onerror='hack()'>{{ 7*7 }}"
LINK = "javascript:document.title='taken'"
THEMES = ("light", "dark")
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page of losses, people, folders, reasons and records with hostile names."""
    folder = tmp_path_factory.mktemp("page")
    places = [("entrant",), ("reason",), ("sampler",), ("machine", "device"), ("accuracy_by",), ("plugin",)]
    runs = []
    for run in REPORTED:
        if run["entrant"] == "c":
            for place in places:
                run = changed(run, place, HOSTILE)
        if run["entrant"] == "b":
            run = changed(run, ("entrant",), LINK)
        own = folder / f"<img src=x>{run['entrant'][0]}-{run['repeat']}"
        own.mkdir()
        lines = [{"epoch": i, "train_loss": 3 / i, "val_accuracy": 0.3 * i} for i in (1, 2, 3)]
        (own / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        odd = {"data": HOSTILE, "hyperparameters": {HOSTILE: HOSTILE}, "protocol": {"versions": {HOSTILE: LINK}}}
        runs.append({**run, **odd, "folder": str(own)})
    (folder / "angles.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg'><script>parent.document.title = 'taken'</script>"
        "<image href='https://example.invalid/y'/></svg>"
    )
    (folder / "angles.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00")
    study = Study(tuple(runs), {})
    found = verdicts(study)
    settings = {**SETTINGS, "data": str(folder), "backbone": HOSTILE, "losses": HOSTILE}
    findings = Findings(settings, study, found, answer(study, found), left_out=1)
    path = folder / "report.html"
    path.write_text(page(findings, [("angles", HOSTILE)], folder=folder, tables=["summary", "ranks"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # as root, in CI
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, file):
    """Open the page in a theme and a width; what it asked for and what it complained of is kept beside it."""
    tabs = []

    def open_(theme="light", width="desktop", path=file):
        tab = browser.new_page(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=theme)
        tab.asked, tab.complaints = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.goto(path.as_uri())
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.close()


def test_nothing_runs_and_nothing_is_fetched(opened, file):
    tab = opened()
    assert tab.title() == f"Losses compared on {HOSTILE}", "the text itself, not what it would have set"
    assert [url for url in tab.asked if not url.startswith("data:")] == [file.as_uri()]
    assert tab.complaints == []
    assert tab.locator("body script").count() == 1
    assert tab.locator("a[href^='javascript']").count() == 0
    assert HOSTILE in tab.locator("table.results").inner_text()
    assert "49" not in tab.locator("h1").inner_text(), "names are no templates"


def test_the_policy_stops_what_would_get_through(opened):
    """The second line of defence: even a script that stood in the page would not run."""
    tab = opened()
    tab.evaluate("""() => {
        const script = document.createElement('script'); script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement('img'); image.src = 'https://example.invalid/z';
        document.body.append(image);
        document.body.setAttribute('onclick', "document.title = 'taken'"); document.body.click();
    }""")
    assert tab.title() != "taken"
    assert sum("Content Security Policy" in text for text in tab.complaints) >= 3


def column(tab, number):
    rows = tab.locator("table.results tbody tr").all()
    return [row.locator("th, td").nth(number).get_attribute("data-value") for row in rows]


def test_the_main_table_sorts_by_mouse_and_keyboard(opened):
    tab = opened()
    heads = tab.locator("table.results thead th[aria-sort]")
    before = column(tab, 0)
    accuracy = heads.nth(2)
    accuracy.locator("button").click()
    assert accuracy.get_attribute("aria-sort") == "descending"
    numbers = [float(value) for value in column(tab, 2)]
    assert numbers == sorted(numbers, reverse=True)
    assert "sorted by" in tab.locator("#sorted").inner_text()
    accuracy.locator("button").focus()
    tab.keyboard.press("Enter")
    assert accuracy.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(tab, 2)] == sorted(numbers)
    heads.nth(0).locator("button").click()
    assert column(tab, 0) != before
    assert column(tab, 0) == tab.evaluate("names => names.sort((a, b) => a.localeCompare(b))", before)
    assert [head.get_attribute("aria-sort") for head in heads.all()].count("none") == heads.count() - 1


@pytest.mark.parametrize("repeats", [1, 4])
def test_every_bar_of_a_column_spans_the_axis_below_it(opened, file, tmp_path, repeats):
    runs = [{**run, "folder": str(file.parent)} for run in REPORTED if run["repeat"] < repeats]
    study = Study(tuple(runs), {})
    found = verdicts(study)
    path = tmp_path / "report.html"
    path.write_text(page(Findings(SETTINGS, study, found, []), [], folder=tmp_path), encoding="utf-8")
    tab = opened(path=path)
    columns = tab.evaluate("""() => {
        const box = one => { const at = one.getBoundingClientRect(); return [at.left, at.right].map(Math.round); };
        const found = {};
        for (const svg of document.querySelectorAll(".results svg.bar"))
            (found[svg.closest("td").cellIndex] ??= []).push(box(svg));
        for (const ends of document.querySelectorAll(".results .ends")) {
            const [, right] = box(ends), left = box(ends.firstChild)[0];
            (found[ends.closest("td").cellIndex] ??= []).push([left, right]);
        }
        return Object.values(found);
    }""")
    assert sum(map(len, columns)) > 12
    assert all(len(set(map(tuple, boxes))) == 1 for boxes in columns), columns


def test_what_is_missing_sorts_last_either_way(opened):
    tab = opened()
    cost = tab.locator("table.results thead th", has_text="head parameters").get_attribute("data-column")
    tab.evaluate(f"""document.querySelector("table.results tbody").rows[1].cells[{cost}].dataset.value = "7" """)
    for _ in range(2):
        tab.locator(f"table.results th[data-column='{cost}'] button").click()
        assert column(tab, int(cost)) == ["7", "", "", ""]


def test_a_link_opens_the_section_that_it_leads_into(opened):
    tab = opened()
    section = tab.locator("details[id='verdicts-tpr@0.1']")
    section.locator("summary").click()
    assert section.get_attribute("open") is None
    tab.locator("a[href='#verdicts-tpr@0.1']").first.click()
    tab.wait_for_selector("details[id='verdicts-tpr@0.1'][open]", timeout=5000)


def audit(tab):
    """Return what axe-core says: its violations, and what passes."""
    from axe_playwright_python.base import AXE_FILE_PATH

    tab.evaluate(AXE_FILE_PATH.read_text())
    return tab.evaluate("axe.run()")


@pytest.mark.parametrize(("theme", "width"), [("light", "desktop"), ("dark", "phone")])
def test_axe_finds_no_violation(opened, theme, width):
    """Contrast in this theme included; closed sections are opened first."""
    tab = opened(theme, width)
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = audit(tab)
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]][:3]) for v in found["violations"]] == []
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}


@pytest.mark.parametrize("width", WIDTHS)
def test_only_tables_scroll_sideways(opened, width):
    tab = opened(width=width)
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]


def test_the_two_themes_differ_and_printing_is_light(opened):
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = (opened(theme).evaluate(background) for theme in THEMES)
    assert light == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", dark))) < 40
    tab = opened("dark")
    tab.emulate_media(media="print")
    assert tab.evaluate(background) == light
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open]):not(.rows)").count() == 0


@pytest.mark.parametrize("theme", THEMES)
def test_a_comparison_is_as_inert_and_as_accessible(opened, tmp_path, theme):
    runs = [{**changed(run, ("machine", "device"), HOSTILE), "data": HOSTILE} for run in renamed({"a": HOSTILE})]
    path = tmp_path / "compare.html"
    path.write_text(comparison_page(compared(**{"x": renamed({"a": HOSTILE}), LINK: runs})), encoding="utf-8")
    tab = opened(theme, "phone", path)
    assert tab.title() == f"x and {LINK} compared"
    assert [url for url in tab.asked if not url.startswith("data:")] == [path.as_uri()]
    assert tab.complaints == []
    assert HOSTILE in tab.locator("main").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]
    found = audit(tab)
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]][:3]) for v in found["violations"]] == []
