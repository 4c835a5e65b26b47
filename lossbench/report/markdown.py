"""The text of a report."""

from collections.abc import Sequence
from typing import Any

from lossbench.data.catalogue import data_info
from lossbench.losses.plugin import UNTRAINED
from lossbench.models.backbones import backbone_name
from lossbench.report.gains import scale_and_margin, selection_gap
from lossbench.report.looks import looks_lines
from lossbench.report.markup import paragraph, plain, table
from lossbench.report.sections import clusters, embeddings_line, gallery, operating_points, other_points_line
from lossbench.report.tables import MEANING, failures, mark, text_table, thin_line
from lossbench.report.verdicts import verdict_text
from lossbench.results.looks import Looks
from lossbench.results.metric_fields import shown_in, with_figures
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, rank_table
from lossbench.utils.schedule import POWER
from lossbench.utils.text import listed


def markdown(
    settings: dict[str, Any],
    study: Study,
    answer: Sequence[str],
    found: Sequence[Verdict],
    drawn: Sequence[tuple[str, str]],
    looks: Looks | None,
    *,
    left_out: int,
) -> str:
    """Return the text of report.md.

    Args:
        settings: the content of benchmark.toml, including its table ``record``.
        study: the runs.
        answer: the sentences that come first, see `results.answer`.
        found: the verdicts.
        drawn: file stem and caption of each figure in figures/.
        looks: those that decided the verdicts, where repeats were added until all was settled.
        left_out: number of runs in the folder that were made with other settings.
    """
    first = next((r for r in study.records if r["status"] == "finished"), study.records[0])
    metrics = {"positives": 0, "negatives": 0, **first["metrics"]}
    count = len({record["repeat"] for record in study.records})
    repeats = f"{count} repeat{'s' * (count != 1)}"
    people, images, machine = first["people"], first["images"], first["machine"]
    captions, headline = dict(drawn), shown_in("headline", fprs=study.fprs)
    lines = [
        f"# Losses compared on {plain(first['data'])}",
        "",
        *(f"- {plain(sentence)}" for sentence in answer),
        "",
        *paragraph(f"{MEANING}."),
        f"Backbone {plain(backbone_name(settings['backbone']))}, {settings['image_size']} px, embeddings of "
        f"{settings['embedding_dim']}; {settings['epochs']} epochs of batch {settings['batch_size']}, "
        f"{_optimiser(settings)}, seed {settings['seed']}; {repeats}; {_selection(settings['select'])}. All "
        "entrants of a repeat share the "
        "initial backbone weights, the split, the number of images seen, the optimiser and the schedule.",
        "",
        f"A repeat trains on {images['train']} images of {people['train']} people (val {images['val']}, test "
        f"{images['test']}); the identification rate is measured on {people['query']} query people "
        f"({images['query']} images) and {people['distractors']} distractors ({images['distractors']} images), none of "
        f"them seen in training: {metrics['positives']:,} same-person pairs and {metrics['negatives']:,} "
        "different-person pairs.",
        "",
        *_credit(settings),
        "## Results",
        "",
        f"Mean ± half-width of the 95 % interval over {repeats} and the people measured; both ends in brackets where "
        "the figure can go no further.",
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
        "## Verdict",
        "",
        *looks_lines(looks, study),
        *_verdict_lines(found, study.records, looks),
        "",
        *scale_and_margin(study),
        *selection_gap(study),
        *_figure(captions, "similarities"),
        *operating_points(study),
        *gallery(study),
        *clusters(study),
        *_figure(captions, "query_map"),
        *_verification_lines(study),
        "## Geometry",
        "",
        "Degrees, as in table 3 of the ArcFace paper (arXiv:1801.07698). W-EC: class center to class mean. W-Inter: "
        "center to the nearest other center. Intra: sample to its class mean. Inter: class mean to the nearest other.",
        "",
        *table(*text_table(study, shown_in("angles"))),
        "",
        *_figure(captions, "angles"),
        "## Training",
        "",
        *_figure(captions, "training_curves"),
        *table(*text_table(study, shown_in("speed"))),
        "",
        "*images/s* is the training speed after the first epoch; *seconds* is the whole run, evaluation included. Both "
        f"depend on the machine: {plain(str(machine.get('device')))}, {plain(str(machine.get('threads')))} threads.",
        "",
        "## What the numbers mean",
        "",
        "- **Accuracy**: the share of test images (other images of the training people) whose own class scores "
        "highest, without any margin. *Class means* assigns each image to the nearest mean of the training embeddings "
        "instead, which is possible for every loss.",
        "- **ID rate @ FPR**: the share of same-person pairs of unseen people that is accepted at the threshold which "
        "at most this share of different-person pairs passes (TPR at a fixed FPR, also called TAR at a fixed FAR). A "
        "dash means that there are too few negatives for that rate.",
        "- **Interval**: combines the spread between repeats (other seeds and, where there are folds, other people) "
        "with, where repeats share their people, a bootstrap over those people. The spread is estimated from all "
        "losses together, so far as theirs are alike. With few repeats the interval is wide; it is cut off where the "
        "figure ends. Only accuracies and ID rates are bootstrapped; the ± of "
        "every other figure, and of the choice of the epoch, comes from the repeats alone.",
        "",
        f"The same tables as CSV: `tables/`. Written by lossbench {plain(settings['record']['lossbench'])}. To repeat "
        "the benchmark, run `lossbench run --config` with the `benchmark.toml` beside this file, from the working "
        "directory of the original run.",
        *([_left_out(left_out)] if left_out else []),
        "",
    ]
    return "\n".join(lines)


def _survival(study: Study) -> list[str]:
    lines = [f"- {plain(line)}" for line in failures(study.records)]
    if not lines:
        return []
    what = "Failed runs are results: `runs` shows how many finished, and every mean is over those."
    return [what, "", *lines, ""]


def _credit(settings: dict[str, Any]) -> list[str]:
    info = data_info(settings["data"])
    return [] if info.is_folder else [f"Faces: {info.credit}.", ""]


def _verification_lines(study: Study) -> list[str]:
    found = [record for record in study.records if with_figures([record], "verification")]
    if not found:
        return []
    first = {name: found[0]["metrics"].get(f"verification_{name}") or 0 for name in ("same", "different", "folds")}
    flipped = ((found[0].get("measuring") or {}).get("config") or {}).get("flip") is True
    return [
        "## Verification",
        "",
        f"{first['same']:,} pairs of one person and {first['different']:,} of two, {first['folds']} "
        "folds: accuracy on each fold at the threshold chosen on all others. Mean over repeats ± half-width of the "
        "95 % interval; the standard error is over the folds of one repeat. TAR and EER are over all pairs."
        + (" The mirrored image's embedding is added to each embedding." if flipped else ""),
        "",
        *table(*text_table(study, shown_in("verification"))),
        "",
    ]


_OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD with momentum 0.9"}
_SCHEDULES = {"cosine": "cosine schedule", "poly": f"polynomial schedule of power {POWER}"}


def _optimiser(settings: dict[str, Any]) -> str:
    """Say the optimiser, its peak rate and its schedule; settings of a file changed by hand as they stand there."""
    optimizer, schedule = settings["optimizer"], settings["schedule"]
    epochs = schedule.removeprefix("step:").split(",")
    named = f"epoch{'s' * (len(epochs) > 1)} {listed(epochs)}"
    falls = f"divided by 10 after {named}" if schedule.startswith("step:") else _SCHEDULES.get(schedule, schedule)
    return f"{plain(_OPTIMISERS.get(optimizer, optimizer))} at {settings['lr']:g} ({plain(falls)})"


def _selection(select: str) -> str:
    return "the last epoch is reported" if select == "last" else "the epoch that is best on val is reported"


def _left_out(count: int) -> str:
    return f"{count} run{'s' * (count > 1)} with other settings in this folder {'are' if count > 1 else 'is'} left out."


def _figure(captions: dict[str, str], stem: str) -> list[str]:
    if stem not in captions:
        return []
    return [f"![{captions[stem]}](figures/{stem}.png)", "", f"*{captions[stem]}*", ""]


def _verdict_lines(found: Sequence[Verdict], records: Sequence[Record], looks: Looks | None) -> list[str]:
    if not found:
        return [f"No two losses beside `{UNTRAINED}` have a finished repeat in common: nothing to compare."]
    found = [v for v in found if "highlights" in v.figure.shown]
    compared = [v for v in found if v.difference.count > 1]
    separated = [v for v in found if v.ahead]
    ahead = "*Ahead* means that the p-value, adjusted for the number of pairs, "
    ahead += "was below the level of one of the looks" if looks else f"is below {found[0].level:g}"
    lines = [
        "Losses are compared by paired differences over the same repeats and the same people. The spread between seeds "
        f"is estimated from all losses together (moderated t; Smyth 2004). {ahead}; *equivalent* that the "
        f"difference is smaller than {found[0].smallest:g}, by two one-sided tests. "
        f"{len(separated)} of {len(compared)} comparisons are separable; pairs of one repeat are not among them. "
        "*Seeds* and *people* are the two parts of the difference's standard error, with their degrees of freedom. "
        "*Detectable* is the smallest true difference that this design finds with a power of 80 %, at the level of one "
        "comparison. *Repeats* is the total number of repeats that would settle the pair (one ahead, or both "
        "equivalent) with a power of 50 % if the observed difference were the true one.",
        "",
    ]
    ranks = rank_table(found)
    highlights = list(dict.fromkeys(v.figure for v in found))
    shown = [[row["loss"], *(str(row[f.key] or "–") for f in highlights)] for row in ranks.to_dict("records")]
    lines += ["The rank of a loss is 1 plus the number of losses that are ahead of it; a dash: not compared yet.", ""]
    titles = {figure.key: figure.title + mark(figure, records) for figure in highlights}
    lines += [*table(["loss", *titles.values()], shown), ""]
    return lines + table(*verdict_text(found, records))
