"""The command evaluate: trained models on other faces. torch is imported only when the command needs it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli.evaluation_request import Request, TemplateLists, input_options
from lossbench.cli.models import Backbone, Device, refuse_unused
from lossbench.cli.options import Json, speaks
from lossbench.errors import InputError, RunDamaged
from lossbench.utils.settings import read_list
from lossbench.utils.text import file_name

if TYPE_CHECKING:
    from lossbench.data.templates import TemplateSet
    from lossbench.data.tree import UnseenPeople
    from lossbench.evaluation.available import Measured
    from lossbench.evaluation.evaluate import Evaluation
    from lossbench.evaluation.model_files import EmbeddingsModel, FileModel
    from lossbench.evaluation.pair_lists import PairList
    from lossbench.results.store import Record


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(speaks(evaluate))


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs or of benchmarks, which stand for all their finished runs; files of models: ONNX, "
            "what lossbench export wrote, or an .npz of embeddings."
        ),
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
    image_size: Annotated[
        int | None,
        typer.Option(help="Of ONNX from elsewhere: pixels per side.", show_default="as its graph says"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Of ONNX from elsewhere: what is subtracted from values in 0..255, one number or three.",
            show_default="127.5, as InsightFace does",
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Of ONNX from elsewhere: what they are then divided by: 127.5 or 128.", show_default="127.5"),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Of ONNX from elsewhere: the order of its channels, rgb or bgr.",
            show_default="rgb",
            autocompletion=lambda incomplete: [k for k in ("rgb", "bgr") if k.startswith(incomplete)],
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
    (--fpr), exactly; ± where the list says who is on a template.

    Models from elsewhere stand in the same tables: ONNX that takes images [batch, 3, SIZE, SIZE] (on the CPU, with the
    extra [onnx]); and an .npz with embeddings [N, D] and files [N], the images' paths or the ends of them, as embed
    writes it, or with labels alone, in the order of the images of --data. Images without an embedding are counted and
    left out for every model. Losses that were trained alike, over two repeats or more, are compared as in a report. A
    note names people who may have been in the training set. Exit code 1 if a damaged run was left out.

    With --json: {answer: [sentence], runs: [{run, entrant, repeat, hash, data, flip, template_norms, images_left_out,
    people_with_names_of_the_training, metrics, spread_over_people, pairs: {LIST: metrics}, fed}], left_out: [reason]};
    a run is what its file holds, too.
    """
    from lossbench.cli import console

    with console.document(json) as write:
        own = TemplateLists(templates, template_pairs, template_images, template_norms)
        fed = input_options(image_size, mean, std, channels)
        asked = Request(data, tuple(pairs or ()), own, fpr, out, flip, fed, backbone, device)
        _evaluate(runs, asked, write)


def _evaluate(runs: list[Path], asked: Request, write: Callable[[Any], None]) -> None:
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
    from lossbench.evaluation.available import Measured, with_embeddings
    from lossbench.evaluation.model_files import is_model_file
    from lossbench.results.store import find_runs, refuse_unwritable

    damaged: list[RunDamaged] = []
    folders = [place for place in runs if not is_model_file(place)]
    records = find_runs(folders, on_note=console.say, on_damaged=damaged.append) if folders else []
    refuse_unused(asked.backbone, records)
    file = _file(asked, unseen, lists, templates, [place for place in runs if place.suffix.lower() == ".npz"])
    for path in [asked.out] if asked.out else [Path(record["folder"]) / file for record in records]:
        refuse_unwritable(path, "--out" if asked.out else "the run's folder (--out writes elsewhere)")
    files = _opened([place for place in runs if is_model_file(place)], asked, unseen)
    measured = with_embeddings(files, Measured(unseen, lists, templates), on_note=console.say)
    unseen, lists, templates = measured.unseen, measured.lists, measured.templates
    found = _evaluations(records, files, measured, fprs, asked, damaged)
    if not found:
        raise damaged[0]
    sentences = _show_people(found, unseen) if unseen else []
    _show_pairs(found, unseen, lists)
    if templates:
        _show_templates(found, templates)
    _say_what_training_knew(found)
    figures = [as_json(one, asked, measured.left_out) for one in found]
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
    asked: Request,
    unseen: "UnseenPeople | None",
    lists: "Sequence[PairList]",
    templates: "TemplateSet | None",
    embeddings: Sequence[Path],
) -> Path:
    """Return where figures are written in a run's folder: a name for each way of measuring.

    `embeddings` are the files that images are left out for, if they lack them.
    """
    from hashlib import sha256  # late, as torch is: it takes as long as the whole of --help

    named = [*(one.name for one in lists), *([templates.name] if templates else [])]
    name = unseen.name if unseen else "+".join(named)
    wanted = [asked.data, *asked.pairs, asked.templates.listing, asked.templates.pairs, *embeddings]
    told = [str(place.resolve()) for place in wanted if place is not None]
    told += ["--flip"] * asked.flip + ["--template-norms"] * asked.templates.norms
    digest = sha256("\n".join(told).encode()).hexdigest()
    return Path("evaluations", f"{file_name(name)}-{digest[:8]}.json")


def _opened(
    places: Sequence[Path], asked: Request, unseen: "UnseenPeople | None"
) -> "list[FileModel | EmbeddingsModel]":
    """Return the models in files, and say how those from elsewhere are fed."""
    from lossbench.cli import console
    from lossbench.evaluation.model_files import EmbeddingsModel, FileModel, is_foreign, open_model_file

    files = [open_model_file(place, asked.fed, unseen) for place in dict.fromkeys(places)]
    for one in files:
        if one.said:
            console.say(f"note: {one.source} is fed with images of {one.said}")
        elif isinstance(one, FileModel) and (asked.flip or asked.templates.norms):
            effect = "mirrored images' are added at that length" if asked.flip else "--template-norms changes nothing"
            console.say(f"note: {one.source} gives embeddings of length 1: {effect}")
        if asked.flip and isinstance(one, EmbeddingsModel):
            one.refuse_flip()
    if (option := asked.fed.given()) is not None and not any(map(is_foreign, files)):
        raise InputError(f"{option} is not used: no ONNX file from elsewhere is named; drop it")
    return files


def _evaluations(
    records: "Sequence[Record]",
    files: "Sequence[FileModel | EmbeddingsModel]",
    measured: "Measured",
    fprs: Sequence[float],
    asked: Request,
    damaged: list[RunDamaged],
) -> "list[Evaluation]":
    from lossbench.cli import console
    from lossbench.evaluation.evaluate import evaluate as measure
    from lossbench.evaluation.models import Model, run_model
    from lossbench.utils.device import device_of

    place = device_of(asked.device)
    found: list[Evaluation] = []
    with console.counting("decoding images") as decoding, console.counting("models") as done:

        def evaluated(model: Model) -> "Evaluation":
            return measure(
                model,
                measured.unseen,
                measured.lists,
                measured.templates,
                fprs=fprs,
                flip=asked.flip,
                keep_norms=asked.templates.norms,
                on_progress=decoding,
            )

        count, of_files = len(records) + len(files), []
        for number, one in enumerate(files, 1):  # first, since a bad one ends the command
            of_files.append(evaluated(one))
            done(number, count)
        for number, record in enumerate(records, 1 + len(files)):
            try:
                found.append(evaluated(run_model(record, network=asked.backbone, device=place)))
            except RunDamaged as error:
                damaged.append(error)
            done(number, count)
    return [*found, *of_files]


def _show_people(found: "list[Evaluation]", unseen: "UnseenPeople") -> list[str]:
    """Print the figures of unseen people, and what the losses' comparison says; return its sentences."""
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import as_records, figure_table, people_title, shown_figures, spread_lines
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
    for line in spread_lines(found, figures):
        console.say(line)
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
    from lossbench.cli.evaluation_tables import (
        TEMPLATES_MEANING,
        as_records,
        figure_table,
        spread_lines,
        template_lines,
    )
    from lossbench.report.tables import thin_line
    from lossbench.results.metric_fields import template_metrics

    figures = template_metrics(found[0].fars)
    console.table(*figure_table(found, figures), title=f"templates: {templates.name}")
    thin = filter(None, [thin_line(figures, as_records(found))])
    for line in [*template_lines(templates), *spread_lines(found, figures), *thin, TEMPLATES_MEANING]:
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
    of_runs = [(one.source, own) for one, own in zip(found, figures, strict=True) if one.record]
    for folder, own in of_runs:
        write_json(folder / file, own)
    if of_runs:
        console.step(f"wrote {of_runs[0][0] / file if len(of_runs) == 1 else f'{file} in the folder of each run'}")
    if len(of_runs) < len(found):
        console.step("figures of models' files are written with --out alone, or printed with --json")
