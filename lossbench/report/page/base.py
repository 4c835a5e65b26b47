"""What all pages share: their frame, style and script, and the policy that lets nothing else run or load.

All text is escaped by Jinja. Nothing is fetched and nothing runs but the page's own script, which the policy names by
its hash. The only texts that are not escaped are the package's own style sheet and script.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.report.explain import topic_of, topic_of_heading
from lossbench.report.markup import Part

if TYPE_CHECKING:
    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket

_TEMPLATES = Path(__file__).parent / "templates"

REFRESH = 10  # seconds after which a provisional page reloads


def rendered(
    template: str,
    links: Mapping[str, str],
    *,
    terms: bool = True,
    provisional: str = "",
    **values: Any,
) -> str:
    """Return a page.

    Args:
        template: the name of a template that extends base.html.
        links: where the names of losses in sentences lead to; empty where they lead nowhere.
        terms: whether the page has a glossary, to which the headings of its tables lead.
        provisional: how far a running benchmark is, shown at the top of a page that reloads; empty otherwise.
        values: what the template takes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, bytecode_cache=_compiled(),
    )  # fmt: skip
    of_heading = topic_of_heading if terms else lambda heading: ""
    environment.globals |= {"topic": topic_of, "topic_of": of_heading, "shapes_of": _shapes}
    environment.globals["pieces"] = lambda text: _pieces(text, links)
    frame = {"style": Markup(style), "script": Markup(script), "policy": _policy(style, script)}
    return environment.get_template(template).render(**frame, provisional=provisional, refresh=REFRESH, **values)


@cache
def _compiled() -> "BytecodeCache":
    """Return where templates are kept once they are compiled, which takes longer than the rest of a page."""
    from jinja2 import BytecodeCache

    kept: dict[str, bytes] = {}

    class InMemory(BytecodeCache):
        def load_bytecode(self, bucket: "Bucket") -> None:
            if bucket.key in kept:
                bucket.bytecode_from_string(kept[bucket.key])  # nothing where the template has changed since

        def dump_bytecode(self, bucket: "Bucket") -> None:
            kept[bucket.key] = bucket.bytecode_to_string()

    return InMemory()


def without_refresh(page: str) -> str:
    """Return a page that no longer reloads."""
    return page.replace(f'<meta http-equiv="refresh" content="{REFRESH}">\n', "")


def _policy(style: str, script: str) -> str:
    """Return the content-security policy: nothing from outside, and no style or script but these two."""
    sheets, scripts = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{sheets}'; script-src 'sha256-{scripts}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _pieces(text: str, links: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return a sentence in pieces, each with where it leads to: names of losses to their cards, the rest nowhere."""
    names = "|".join(re.escape(name) for name in sorted(links, key=len, reverse=True))
    parts = re.split(rf"(?<![\w*+:=])({names})(?![\w*+=]|:\w)", text)
    return [(part, links[part] if i % 2 else "") for i, part in enumerate(parts)]


def _shapes(part: Part) -> list[str]:
    """Return how each column of a table is set: numbers to the right, words to the left."""
    columns = zip(*part.rows, strict=True) if part.rows else [["nothing"]] * len(part.headers)
    return ["number" if all(_NUMBER.match(cell) for cell in column) else "words" for column in columns]


_NUMBER = re.compile(r"[-+−]?\d[\d.,]*=?( |$)|–?$")
