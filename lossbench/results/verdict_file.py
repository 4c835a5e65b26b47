"""``verdicts.json``: the record of a benchmark's verdicts, and the answer in words."""

from collections.abc import Sequence
from pathlib import Path

from lossbench.results.answer import answer
from lossbench.results.store import write_json
from lossbench.results.study import Study
from lossbench.results.verdicts import LEVEL, SMALLEST, Verdict, verdict_rows

FILE = "verdicts.json"
SCHEMA = 1


def write_verdicts(benchmark: Path, study: Study, found: Sequence[Verdict]) -> list[str]:
    """Write the verdicts into a benchmark's folder, whole or not at all.

    The file holds ``schema``; ``answer``, the sentences; ``entrants``; ``level`` and ``smallest_difference``; and
    ``verdicts``, a row per pair and figure as in tables/verdicts.csv, null where there is no number.

    Returns:
        The sentences.

    Raises:
        InputError: it cannot be written.
    """
    sentences = answer(study, found)
    first = found[0] if found else None
    content = {
        "schema": SCHEMA,
        "answer": sentences,
        "entrants": study.entrants,
        "level": first.level if first else LEVEL,
        "smallest_difference": first.smallest if first else SMALLEST,
        "verdicts": verdict_rows(found),
    }
    write_json(benchmark / FILE, content)
    return sentences
