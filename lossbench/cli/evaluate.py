"""The command evaluate: trained models on other faces. torch is imported only when the command needs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli.models import Backbone, Device, refuse_unused
from lossbench.cli.options import Json, speaks
from lossbench.errors import InputError, RunDamaged
from lossbench.utils.settings import read_list
from lossbench.utils.text import file_name

if TYPE_CHECKING:
    from lossbench.data.templates import TemplateSet
    from lossbench.data.tree import UnseenPeople
    from lossbench.evaluation.evaluate import Evaluation
    from lossbench.evaluation.pair_lists import PairList
    from lossbench.results.store import Record


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(speaks(evaluate))


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs or of benchmarks; a benchmark stands for all its finished runs."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A data tree, of which query/ and distractors/ are used; or one folder per person. Without, --pairs "
            "and --templates alone are measured.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also measure verification pairs: a pairs.txt like LFW's, or a folder from data prepare bin. Several "
            "times: --pairs lfw --pairs cfp_fp, side by side.",
            show_default=False,
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            help="Also measure templates, as IJB-B and IJB-C do: a list of image, template and media "
            "(ijbb_face_tid_mid.txt), or a CSV with these headers and, where known, person and score.",
            show_default=False,
        ),
    ] = None,
    template_pairs: Annotated[
        Path | None,
        typer.Option(
            help="The 1:1 list of templates: template, template, 1 or 0 (ijbb_template_pair_label.txt); as a CSV: "
            "template1, template2, label.",
            show_default=False,
        ),
    ] = None,
    template_images: Annotated[
        Path | None,
        typer.Option(help="The folder of the templates' images: aligned crops.", show_default="that of --templates"),
    ] = None,
    template_norms: Annotated[
        bool,
        typer.Option(
            "--template-norms",
            help="Average the templates' embeddings at the length they have, as InsightFace does; "
            "without, each is of length 1.",
        ),
    ] = False,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Add the mirrored image's embedding to each embedding of pairs and templates."),
    ] = False,
    fpr: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="False-positive rates (FAR) to report identification rates (TAR) at: 1e-3,1e-4.",
            show_default="as for run",
        ),
    ] = None,
    backbone: Backbone = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file for all figures.", show_default="evaluations/DATA-HASH.json in each run's folder"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure trained models on other people, without training.

    Prints and stores identification rates, gallery search and retrieval; with --pairs also LFW's protocol, for several
    lists as one table: accuracy over ten folds ± their standard deviation, and TAR @ FAR 0.001. With --templates: the
    media of a template are averaged and added up, and TAR is measured on the 1:1 list at FAR 1e-4, 1e-5 and others
    (--fpr), exactly; ± where the list says who is on a template. Losses that were
    trained alike, over two repeats or more, are compared as in a report. A note names people who may have been in the
    training set. Exit code 1 if a damaged run was left out.

    With --json: {answer: [sentence], runs: [{run, entrant, repeat, hash, data, people_with_names_of_the_training,
    metrics, spread_over_people, pairs: {LIST: metrics}}], left_out: [reason]}; a run is what its file holds, too.
    """
    from lossbench.cli import console

    with console.document(json) as write:
        own = _Templates(templates, template_pairs, template_images, template_norms)
        asked = _Asked(data, tuple(pairs or ()), own, fpr, out, flip, backbone, device)
        _evaluate(runs, asked, write)


@dataclass(frozen=True)
class _Templates:
    """The options of templates as they were typed."""

    listing: Path | None
    pairs: Path | None
    images: Path | None
    norms: bool

    def refuse_contradictions(self) -> None:
        """Refuse one list without the other, and options of templates without any."""
        if (self.listing is None) != (self.pairs is None):
            given, missing = (
                ("--templates", "--template-pairs") if self.listing else ("--template-pairs", "--templates")
            )
            raise InputError(f"{given} needs {missing}, the other of the two lists; add it")
        if self.listing is None and (self.images is not None or self.norms):
            option = "--template-norms" if self.norms else f"--template-images {self.images}"
            raise InputError(f"{option} applies to templates only; add --templates and --template-pairs, or drop it")

    def read(self) -> "TemplateSet | None":
        """Return the templates; None where there are none."""
        if self.listing is None or self.pairs is None:
            return None
        from lossbench.data.templates import read_templates

        return read_templates(self.listing, self.pairs, self.images)


@dataclass(frozen=True)
class _Asked:
    """The options as they were typed."""

    data: Path | None
    pairs: tuple[Path, ...]
    templates: _Templates
    fpr: str | None
    out: Path | None
    flip: bool
    backbone: str | None
    device: str

    def refuse_contradictions(self) -> None:
        """Refuse options that do nothing, or that leave nothing to measure."""
        self.templates.refuse_contradictions()
        if self.flip and not self.pairs and self.templates.listing is None:
            raise InputError("--flip applies to verification pairs and templates only; add --pairs, or drop --flip")
        if self.data is None and not self.pairs and self.templates.listing is None:
            raise InputError(
                "nothing to measure: name unseen people with --data, verification pairs with --pairs, or templates "
                "with --templates and --template-pairs"
            )


def _evaluate(runs: list[Path], asked: _Asked, write: Callable[[Any], None]) -> None:
    from lossbench.cli import console
    from lossbench.config import SETTINGS, operating_points

    asked.refuse_contradictions()
    fprs = operating_points(read_list(SETTINGS["fpr"], asked.fpr)) if asked.fpr is not None else ()
    unseen = _unseen(asked.data) if asked.data else None
    from lossbench.evaluation.pair_lists import read_pair_lists

    lists = read_pair_lists(asked.pairs, asked.data)
    for note in (note for one in lists for note in one.pairs.notes):
        console.say(f"note: {note}")
    templates = asked.templates.read()
    from lossbench.cli.evaluation_tables import as_json
    from lossbench.results.store import find_runs, refuse_unwritable

    damaged: list[RunDamaged] = []
    records = find_runs(runs, on_note=console.say, on_damaged=damaged.append)
    refuse_unused(asked.backbone, records)
    file = _file(asked, unseen, lists, templates)
    for path in [asked.out] if asked.out else [Path(record["folder"]) / file for record in records]:
        refuse_unwritable(path, "--out" if asked.out else "the run's folder (--out writes elsewhere)")
    found = _measured(records, unseen, lists, templates, fprs, asked, damaged)
    if not found:
        raise damaged[0]
    sentences = _show_people(found, unseen) if unseen else []
    _show_pairs(found, unseen, lists)
    if templates:
        _show_templates(found, templates)
    _say_what_training_knew(found)
    figures = [as_json(one, asked.data) for one in found]
    _store(found, figures, asked.out, file)
    write({"answer": sentences, "runs": figures, "left_out": list(map(str, damaged))})
    for reason in damaged:
        console.error(f"left out: {reason}")
    if damaged:
        raise typer.Exit(1)


def _unseen(data: Path) -> "UnseenPeople":
    from lossbench.cli import console
    from lossbench.data.catalogue import open_unseen_people
    from lossbench.data.left_out import left_out, left_out_of_tree
    from lossbench.data.tree import OPEN

    unseen = open_unseen_people(data)
    tree, files = (data / "query").is_dir(), unseen.files
    for ignored in left_out_of_tree(data, files, OPEN) if tree else filter(None, [left_out(data, files)]):
        console.say(f"note: left out: {ignored}")
    return unseen


def _file(
    asked: _Asked, unseen: "UnseenPeople | None", lists: "Sequence[PairList]", templates: "TemplateSet | None"
) -> Path:
    """Return where figures are written in a run's folder."""
    from hashlib import sha256  # late, as torch is: it takes as long as the whole of --help

    named = [*(one.name for one in lists), *([templates.name] if templates else [])]
    name = unseen.name if unseen else "+".join(named)
    places = [asked.data] if asked.data else [*asked.pairs, *filter(None, [asked.templates.pairs])]
    digest = sha256("\n".join(str(place.resolve()) for place in places).encode()).hexdigest()
    return Path("evaluations", f"{file_name(name)}-{digest[:8]}.json")


def _measured(
    records: "Sequence[Record]",
    unseen: "UnseenPeople | None",
    lists: "Sequence[PairList]",
    templates: "TemplateSet | None",
    fprs: Sequence[float],
    asked: _Asked,
    damaged: list[RunDamaged],
) -> "list[Evaluation]":
    from lossbench.cli import console
    from lossbench.evaluation.evaluate import evaluate as measure
    from lossbench.evaluation.models import run_model
    from lossbench.utils.device import device_of

    place, found = device_of(asked.device), []
    with console.counting("decoding images") as decoding, console.counting("models") as done:
        for number, record in enumerate(records, 1):
            try:
                model = run_model(record, network=asked.backbone, device=place)
                found.append(
                    measure(
                        model,
                        unseen,
                        lists,
                        templates,
                        fprs=fprs,
                        flip=asked.flip,
                        keep_norms=asked.templates.norms,
                        on_progress=decoding,
                    )
                )
            except RunDamaged as error:
                damaged.append(error)
            done(number, len(records))
    return found


def _show_people(found: "list[Evaluation]", unseen: "UnseenPeople") -> list[str]:
    """Print the figures of unseen people, and what the losses' comparison says; return its sentences."""
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import as_records, figure_table, people_title, shown_figures
    from lossbench.evaluation.compare import studies
    from lossbench.report.tables import MEANING, thin_line
    from lossbench.report.verdicts import verdict_text
    from lossbench.results.answer import answer
    from lossbench.results.verdicts import verdicts

    people = len(unseen.query.people)
    compared = [(s, verdicts(s)) for s in studies(found, people, on_note=console.say)]
    sentences = [sentence for study, judged in compared for sentence in answer(study, judged)]
    for line in sentences:
        console.say(line)
    figures = shown_figures(found)
    console.table(*figure_table(found, figures), title=f"{unseen.name}: {people_title(found[0].figures, people)}")
    for line in filter(None, [MEANING, thin_line(figures, as_records(found))]):
        console.say(line)
    console.say("± is 1.96 standard deviations over resamples of these people, without the spread between seeds")
    for study, judged in compared:
        highlights = [v for v in judged if "highlights" in v.figure.shown]
        if any(v.difference.count > 1 for v in highlights):
            title = f"{unseen.name}: {', '.join(study.trained)} compared"
            console.table(*verdict_text(highlights, study.records), title=title)
    return sentences


def _show_pairs(found: "list[Evaluation]", unseen: "UnseenPeople | None", lists: "Sequence[PairList]") -> None:
    """Print the verification lists as a table; one list beside unseen people has columns among theirs."""
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import PAIRS_MEANING, pair_lines, pair_table

    if not lists or (unseen and len(lists) == 1):
        return
    console.table(*pair_table(found), title="verification pairs")
    for line in [*pair_lines(lists, found), PAIRS_MEANING]:
        console.say(line)


def _show_templates(found: "list[Evaluation]", templates: "TemplateSet") -> None:
    """Print TAR at false-accept rates on the 1:1 list of templates."""
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import TEMPLATES_MEANING, as_records, figure_table, template_lines
    from lossbench.report.tables import thin_line
    from lossbench.results.metric_fields import template_metrics

    figures = template_metrics(found[0].fars)
    console.table(*figure_table(found, figures), title=f"templates: {templates.name}")
    for line in [*template_lines(templates), *filter(None, [thin_line(figures, as_records(found))]), TEMPLATES_MEANING]:
        console.say(line)


def _say_what_training_knew(found: "list[Evaluation]") -> None:
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import training_notes

    for note in training_notes(found):
        console.say(note)


def _store(found: "list[Evaluation]", figures: list[dict[str, Any]], out: Path | None, file: Path) -> None:
    """Write the figures: to `out`, or to `file` in each run's folder."""
    from lossbench.cli import console
    from lossbench.results.store import write_json

    if out:
        write_json(out, figures)
        console.step(f"wrote {out}")
        return
    for one, own in zip(found, figures, strict=True):
        write_json(one.source / file, own)
    console.step(f"wrote {found[0].source / file if len(found) == 1 else f'{file} in the folder of each run'}")
