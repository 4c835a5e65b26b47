"""The text of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossbench.data.catalogue import data_info
from lossbench.losses.plugin import UNTRAINED
from lossbench.models.backbones import backbone_name
from lossbench.report.findings import Findings
from lossbench.report.looks import looks_part
from lossbench.report.markup import paragraph, part_lines, plain, table
from lossbench.report.matrix import DENSE, matrices, matrix_lines
from lossbench.report.sections import embeddings_line, other_points_line
from lossbench.report.tables import MEANING, failures, mark, one_repeat_line, text_table, thin_line
from lossbench.results.looks import Looks
from lossbench.results.metric_fields import NOBODY_UNSEEN, shown_in
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, rank_table
from lossbench.utils.schedule import POWER
from lossbench.utils.text import listed


def markdown(findings: Findings, drawn: Sequence[tuple[str, str]], tables: Sequence[str]) -> str:
    """Return the text of report.md: the answer, the main table, the verdicts and where all else stands.

    Args:
        findings: what it is made of.
        drawn: file stem and caption of each figure in figures/.
        tables: file stem of each table in tables/, as CSV and as LaTeX.
    """
    settings, study = findings.settings, findings.study
    repeats, captions, headline = _repeats(study), dict(drawn), shown_in("headline", fprs=study.fprs)
    lines = [
        f"# Losses compared on {plain(study.records[0]['data'])}",
        "",
        *paragraph(findings.provisional and f"Provisional: {findings.provisional}."),
        *(f"- {plain(sentence)}" for sentence in findings.answer),
        "",
        *paragraph(f"{MEANING}."),
        *(line for text in setup_lines(settings, study) for line in paragraph(text)),
        "## Results",
        "",
        one_repeat_line(study)
        or f"Mean ± half-width of the 95 % interval over {repeats} and the people measured; both ends in brackets "
        "where the figure can go no further.",
        "",
        *table(*text_table(study, headline)),
        "",
        *paragraph(thin_line(headline, study.records)),
        *paragraph(other_points_line(study)),
        "\\* This row has no class scores: its accuracy is that of the nearest class mean of the training embeddings. "
        "`untrained` is the same backbone before its first step.",
        "",
        *_survival(study),
        *paragraph(embeddings_line(study.records)),
        *_figure(captions, "tpr_fpr"),
        "## Verdicts",
        "",
        *_verdict_lines(findings.verdicts, study.records, findings.looks),
        *part_lines(looks_part(findings.looks, study)),
        "## Everything else",
        "",
        "[report.html](report.html) is the whole report on one page: what to choose, operating points and threshold "
        "transfer, gallery search, clusters, angles, a card per loss, how to reproduce, and a glossary "
        "(`lossbench explain` prints its entries).",
        "",
        *(f"- {name.replace('_', ' ')}: [CSV](tables/{name}.csv), [LaTeX](tables/{name}.tex)" for name in tables),
        "- verdicts for programs: [verdicts.json](verdicts.json)",
        *(f"- {plain(caption)} [SVG](figures/{stem}.svg), [PNG](figures/{stem}.png)" for stem, caption in drawn),
        "",
        f"Written by lossbench {plain(settings['record']['lossbench'])}. To repeat "
        "the benchmark, run `lossbench run --config` with the `benchmark.toml` beside this file, from the working "
        "directory of the original run.",
        *([_left_out(findings.left_out)] if findings.left_out else []),
        "",
    ]
    return "\n".join(lines)


def setup_lines(settings: Mapping[str, Any], study: Study) -> list[str]:
    """Return how the runs were made and measured, as paragraphs of plain text."""
    first = next((r for r in study.records if r["status"] == "finished"), study.records[0])
    people, images = first["people"], first["images"]
    lines = [
        f"Backbone {backbone_name(settings['backbone'])}{_start(settings)}, {settings['image_size']} px, embeddings of "
        f"{settings['embedding_dim']}; {settings['epochs']} epoch{'s' * (settings['epochs'] != 1)} of batch "
        f"{settings['batch_size']}, "
        f"{_optimiser(settings)}, seed {settings['seed']}; {_repeats(study)}; {_selection(settings['select'])}. All "
        "entrants of a repeat share the initial backbone weights, the split, the number of images seen, the optimiser "
        "and the schedule.",
        f"A repeat trains on {images['train']} images of {people['train']} people (val {images['val']}, test "
        f"{images['test']}); {_unseen(first)}.",
    ]
    info = data_info(settings["data"])
    return lines if info.is_folder else [*lines, f"Faces: {info.credit}."]


def _unseen(record: Record) -> str:
    """Return who was held out in a run, and how many pairs that gives."""
    people, images = record["people"], record["images"]
    if not people["query"]:
        return NOBODY_UNSEEN
    metrics = {"positives": 0, "negatives": 0, **record["metrics"]}
    return (
        f"the identification rate is measured on {people['query']} query people ({images['query']} images) and "
        f"{people['distractors']} distractors ({images['distractors']} images), none of them seen in training: "
        f"{metrics['positives']:,} same-person pairs and {metrics['negatives']:,} different-person pairs"
    )


def _repeats(study: Study) -> str:
    return f"{study.repeats} repeat{'s' * (study.repeats != 1)}"


def _survival(study: Study) -> list[str]:
    lines = [f"- {plain(line)}" for line in failures(study.records)]
    if not lines:
        return []
    what = "Failed runs are results: `runs` shows how many finished, and every mean is over those."
    return [what, "", *lines, ""]


_OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD with momentum 0.9"}
_SCHEDULES = {"cosine": "cosine schedule", "poly": f"polynomial schedule of power {POWER}"}


def _start(settings: Mapping[str, Any]) -> str:
    """Return what weights the backbone starts from, where it does."""
    pretrained = settings.get("pretrained")
    return f" with the weights {Path(str(pretrained)).name}" if pretrained else ""


def _optimiser(settings: Mapping[str, Any]) -> str:
    """Say the optimiser, its peak rate and its schedule; settings of a file changed by hand as they stand there."""
    optimizer, schedule = settings["optimizer"], settings["schedule"]
    epochs = schedule.removeprefix("step:").split(",")
    named = f"epoch{'s' * (len(epochs) > 1)} {listed(epochs)}"
    falls = f"divided by 10 after {named}" if schedule.startswith("step:") else _SCHEDULES.get(schedule, schedule)
    return f"{_OPTIMISERS.get(optimizer, optimizer)} at {settings['lr']:g} ({falls})"


def _selection(select: str) -> str:
    return "the last epoch is reported" if select == "last" else "the epoch that is best on val is reported"


def _left_out(count: int) -> str:
    return f"{count} run{'s' * (count > 1)} with other settings in this folder {'are' if count > 1 else 'is'} left out."


def _figure(captions: dict[str, str], stem: str) -> list[str]:
    if stem not in captions:
        return []
    caption = plain(captions[stem])
    return [f"![{caption}](figures/{stem}.png)", "", f"*{caption}*", ""]


def _verdict_lines(found: Sequence[Verdict], records: Sequence[Record], looks: Looks | None) -> list[str]:
    if not found:
        return [f"No two losses other than `{UNTRAINED}` have a finished repeat in common: nothing to compare.", ""]
    if not any(v.difference.count > 1 for v in found):
        return ["No two losses have finished two repeats in common, so none is compared. The differences seen are in "
                "[tables/verdicts.csv](tables/verdicts.csv).", ""]  # fmt: skip
    shown = [v for v in found if "highlights" in v.figure.shown]
    compared, separated = [v for v in shown if v.difference.count > 1], [v for v in shown if v.ahead]
    everything = [v for v in found if v.difference.count > 1]
    figures = len({v.figure for v in everything})
    elsewhere = f"; at all {figures} figures compared, {sum(v.ahead is not None for v in everything)} of "
    elsewhere = f"{elsewhere}{len(everything)}" if len(everything) > len(compared) else ""
    ahead = "*Ahead* (▲; *behind*: ▼) means that the p-value, adjusted for the number of pairs, "
    ahead += "was below the level of one of the looks" if looks else f"is below {found[0].level:g}"
    signed = "; the number is row minus column" if len({name for v in shown for name in (v.a, v.b)}) <= DENSE else ""
    lines = [
        "Losses are compared by paired differences over the same repeats and the same people. The spread between seeds "
        f"is estimated from all losses together (moderated t; Smyth 2004). {ahead}; *equivalent* (≈) that the "
        f"difference is smaller than {found[0].smallest:g}, by two one-sided tests; · that this data cannot tell. "
        f"At the figures below, {len(separated)} of {len(compared)} comparisons are separable{elsewhere}. Pairs of one "
        f"repeat (?) are not among them. A cell says what its row is to its column{signed}. Each difference, its "
        "error, and what would settle it, is in [tables/verdicts.csv](tables/verdicts.csv).",
        "",
    ]
    for matrix in matrices(shown):
        lines += [*matrix_lines(matrix, mark(matrix.figure, records)), ""]
    ranks = rank_table(shown)
    highlights = list(dict.fromkeys(v.figure for v in shown))
    rows = [[row["loss"], *(str(row[f.key] or "–") for f in highlights)] for row in ranks.to_dict("records")]
    lines += ["The rank of a loss is 1 plus the number of losses that are ahead of it; a dash: not compared yet.", ""]
    titles = {figure.key: figure.title + mark(figure, records) for figure in highlights}
    return [*lines, *table(["loss", *titles.values()], rows), ""]
