"""Writes a benchmark's report: report.md, tables/*.csv, figures/*.svg and *.png."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.registry import UNTRAINED
from lossbench.report.tables import (
    ANGLES,
    HEADLINE,
    SPEED,
    VERIFICATION,
    Figure,
    entrants,
    failures,
    number_table,
    text_table,
)
from lossbench.report.verdicts import LEVEL, Verdict, verdict_table, verdicts
from lossbench.results import Record, load_records, runs_frame, write_text


def latest_benchmark(results: Path) -> Path:
    """Return the benchmark in `results` that was run last.

    Raises:
        InputError: there is none.
    """
    files = sorted(results.glob("*/benchmark.toml"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise InputError(f"no benchmark in '{results}'; start with: lossbench run")
    return files[-1].parent


def write_report(folder: Path, *, on_progress: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Write the comparison of a benchmark's latest settings into its folder.

    Args:
        folder: a benchmark's folder, such as results/orl.
        on_progress: called with a line before what takes long.

    Returns:
        What was written: the report and its two folders.

    Raises:
        InputError: no such folder, no runs in it, or a damaged record; or the folder cannot be written.
    """
    settings = _settings(folder)
    everything = load_records(folder)
    records = [r for r in everything if r["protocol_hash"] == settings["record"]["protocol"]]
    if not records:
        raise InputError(
            f"no finished runs with the settings of {folder / 'benchmark.toml'}; start with: lossbench run"
        )
    order = {name: i for i, name in enumerate(settings["record"]["entrants"])}
    records.sort(key=lambda r: (order.get(r["entrant"], len(order)), r["entrant"], r["repeat"]))
    found = verdicts(records)
    tables, figures = folder / "tables", folder / "figures"
    try:
        tables.mkdir(exist_ok=True)
        figures.mkdir(exist_ok=True)
        number_table(records, (*HEADLINE, *_verified(records), *ANGLES, *SPEED)).to_csv(
            tables / "summary.csv", index=False
        )
        runs_frame(records).to_csv(tables / "runs.csv", index=False)
        verdict_table(found).to_csv(tables / "verdicts.csv", index=False)
        on_progress("drawing the figures")
        from lossbench.report.figures import write_figures  # seaborn takes a second to import

        drawn = write_figures(records, figures)
        left_out = len(everything) - len(records)
        write_text(folder / "report.md", _markdown(settings, records, found, drawn, left_out))
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    return [folder / "report.md", tables, figures]


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "benchmark.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        settings["record"]["protocol"], settings["record"]["entrants"]
    except FileNotFoundError:
        raise InputError(f"no benchmark in '{folder}'; lossbench report takes a folder such as results/orl") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the benchmark again to write it anew") from error
    return settings


def _markdown(
    settings: dict[str, Any],
    records: Sequence[Record],
    found: Sequence[Verdict],
    drawn: Sequence[tuple[str, str]],
    left_out: int,
) -> str:
    first = records[0]
    repeats = len({record["repeat"] for record in records})
    people, images = first["people"], first["images"]
    captions = dict(drawn)
    lines = [
        f"# Losses compared on {first['data']}",
        "",
        f"Backbone `{settings['backbone']}`, {settings['image_size']} px, embeddings of {settings['embedding_dim']}; "
        f"{settings['epochs']} epochs of batch {settings['batch_size']}, AdamW at {settings['lr']:g}, seed "
        f"{settings['seed']}; {repeats} repeats; {_selection(settings['select'])}. All entrants of a repeat share the "
        "initial backbone weights, the split, the number of images seen, the optimiser and the schedule.",
        "",
        f"A repeat trains on {images['train']} images of {people['train']} people (val {images['val']}, test "
        f"{images['test']}); the identification rate is measured on {people['query']} query people "
        f"({images['query']} images) and {people['distractors']} distractors ({images['distractors']} images) whom no "
        f"model has seen: {first['metrics']['positives'] if first['metrics'] else 0:,} same-person pairs and "
        f"{first['metrics']['negatives'] if first['metrics'] else 0:,} others.",
        "",
        *(["Faces: ORL, AT&T Laboratories Cambridge (Samaria & Harter 1994).", ""] if first["data"] == "orl" else []),
        "## Results",
        "",
        f"Mean ± half-width of the 95 % interval over {repeats} repeats (Student's t).",
        "",
        *_table(*text_table(records, HEADLINE)),
        "",
        "\\* accuracy by nearest class mean of the training embeddings: this row has no class scores. `untrained` is "
        "the same backbone before its first step.",
        "",
        *(f"- {line}" for line in failures(records)),
        *_figure(captions, "tpr_fpr"),
        "## Verdict",
        "",
        *_verdict_lines(found),
        "",
        *_figure(captions, "similarities"),
        *_figure(captions, "query_map"),
        *_verification_lines(records),
        "## Geometry",
        "",
        "Degrees, as in table 3 of the ArcFace paper (arXiv:1801.07698). W-EC: class center to class mean. W-Inter: "
        "center to the nearest other center. Intra: sample to its class mean. Inter: class mean to the nearest other.",
        "",
        *_table(*text_table(records, ANGLES)),
        "",
        *_figure(captions, "angles"),
        "## Training",
        "",
        *_figure(captions, "training_curves"),
        *_table(*_training_table(records)),
        "",
        "images/s counts training alone, without its first epoch; seconds is a whole run, measuring included. Both "
        f"depend on the machine: {first['machine']['device']}, {first['machine']['threads']} threads.",
        "",
        "## What the numbers mean",
        "",
        "- **Accuracy**: share of test images (other images of the training people) whose own class scores highest, "
        "without any margin; and by the nearest mean of the training embeddings, which every loss can be measured by.",
        "- **ID rate @ FPR**: share of same-person pairs of unseen people accepted at the threshold that lets at most "
        "this share of different-person pairs pass. A dash: too few negatives for that rate.",
        "- **Interval**: repeats differ in seed and, where the data has folds, in people. Folds share training images, "
        "so intervals are approximate; with few repeats they are wide because little is known.",
        "",
        f"Tables as numbers: `tables/`. Made by lossbench {settings['record']['lossbench']}; run it again with "
        "`lossbench run --config benchmark.toml`.",
        *([f"{left_out} runs with other settings in this folder are left out."] if left_out else []),
        "",
    ]
    return "\n".join(lines)


def _verified(records: Sequence[Record]) -> tuple[Figure, ...]:
    return VERIFICATION if any((r.get("metrics") or {}).get("verification") for r in records) else ()


def _verification_lines(records: Sequence[Record]) -> list[str]:
    found = [r["metrics"]["verification"] for r in records if (r.get("metrics") or {}).get("verification")]
    if not found:
        return []
    first = found[0]
    return [
        "## Verification",
        "",
        f"{first['same']:,} pairs of one person and {first['different']:,} of two, {len(first['fold_accuracies'])} "
        "folds: threshold chosen on all others, accuracy on the one. Mean over repeats ± half-width of the 95 % "
        "interval; the standard error is that over folds within a repeat. TAR and EER take all pairs together."
        + (" Each embedding has that of the mirrored image added." if first["flip"] else ""),
        "",
        *_table(*text_table(records, VERIFICATION)),
        "",
    ]


def _selection(select: str) -> str:
    return "the last epoch is reported" if select == "last" else "the epoch that is best on val is reported"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"

    return [line(headers), "|" + " --- |" + " ---: |" * (len(headers) - 1), *(line(row) for row in rows)]


def _figure(captions: dict[str, str], stem: str) -> list[str]:
    if stem not in captions:
        return []
    return [f"![{captions[stem]}](figures/{stem}.png)", "", f"*{captions[stem]}*", ""]


def _training_table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    headers, rows = text_table(records, SPEED)
    samplers = {r["entrant"]: r.get("sampler") or "–" for r in records}
    named = zip(entrants(records), rows, strict=True)
    return [*headers, "batches"], [[*row, samplers[name]] for name, row in named]


def _verdict_lines(found: Sequence[Verdict]) -> list[str]:
    if not found:
        return [f"One loss beside `{UNTRAINED}`: there is nothing to compare it with."]
    separated = [v for v in found if v.ahead]
    lines = [
        "Pairs of losses are compared by their paired differences over the repeats; *ahead* means that the "
        f"Holm-adjusted p-value is below {LEVEL}. {len(separated)} of {len(found)} comparisons are separable with these repeats.",
        "",
    ]
    headers = ["figure", "pair", "difference", "p (Holm)", "verdict"]
    return lines + _table(headers, [_verdict_row(v) for v in found if v.figure in _SHOWN])


_SHOWN: tuple[Figure, ...] = tuple(f for f in HEADLINE if f.name in ("test_accuracy_ncm", "tpr@0.1", "tpr@0.01"))


def _verdict_row(verdict: Verdict) -> list[str]:
    difference = verdict.comparison.difference
    p = "–" if verdict.adjusted_p != verdict.adjusted_p else f"{verdict.adjusted_p:.3f}"
    spread = "" if difference.half_width != difference.half_width else f" ± {difference.half_width:.3f}"
    shown = f"{difference.mean:+.3f}{spread}" if difference.count else "–"
    title = verdict.figure.title if "ID" in verdict.figure.title else f"ID rate {verdict.figure.title}"
    title = "accuracy (class means)" if verdict.figure.name == "test_accuracy_ncm" else title
    return [title, f"{verdict.a} − {verdict.b}", shown, p, verdict.text]
