"""Commands that use a finished run's model: evaluate, embed. torch is imported only when a command needs it."""

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli.completion import complete_backbones, complete_device
from lossbench.cli.options import Json, speaks
from lossbench.errors import InputError, RunDamaged
from lossbench.utils.settings import read_list
from lossbench.utils.text import file_name, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossbench.evaluation.evaluate import Evaluation
    from lossbench.results.metric_fields import Metric
    from lossbench.results.store import Record

Backbone = Annotated[
    str | None,
    typer.Option(
        help="The file of the runs' own network, ./my_net.py: only what is named is executed.",
        autocompletion=complete_backbones,
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu or cuda.", autocompletion=complete_device)]


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(speaks(evaluate))
    app.command()(speaks(embed))


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs or of benchmarks; a benchmark stands for all its finished runs."),
    ],
    data: Annotated[
        Path, typer.Option(help="A data tree, of which query/ and distractors/ are used; or one folder per person.")
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Also measure verification pairs: a pairs.txt like LFW's, or a folder from data prepare bin."
        ),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Add the mirrored image's embedding to each embedding of the pairs.")
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

    Prints and stores identification rates, gallery search and retrieval; with --pairs also LFW's protocol. Losses that
    were trained alike, over two repeats or more, are compared as in a report. A note names people who may have been in
    the training set. Exit code 1 if a damaged run was left out.

    With --json: {answer: [sentence], runs: [{run, entrant, repeat, hash, data, people_with_names_of_the_training,
    metrics, spread_over_people}], left_out: [reason]}; a run is what its file holds, too.
    """
    from lossbench.cli import console

    with console.document(json) as write:
        _evaluate(runs, data, pairs, fpr, out, flip=flip, backbone=backbone, device=device, write=write)


def _evaluate(
    runs: list[Path],
    data: Path,
    pairs: Path | None,
    fpr: str | None,
    out: Path | None,
    *,
    flip: bool,
    backbone: str | None,
    device: str,
    write: "Callable[[Any], None]",
) -> None:
    from lossbench.cli import console
    from lossbench.config import SETTINGS, operating_points
    from lossbench.data.catalogue import open_unseen_people
    from lossbench.data.left_out import left_out, left_out_of_tree
    from lossbench.data.pairs import read_pairs
    from lossbench.data.tree import OPEN
    from lossbench.results.store import refuse_unwritable, write_json

    if flip and pairs is None:
        raise InputError("--flip applies to verification pairs only; add --pairs, or drop --flip")
    fprs = operating_points(read_list(SETTINGS["fpr"], fpr)) if fpr is not None else ()
    unseen = open_unseen_people(data)
    tree, files = (data / "query").is_dir(), unseen.files
    for ignored in left_out_of_tree(data, files, OPEN) if tree else filter(None, [left_out(data, files)]):
        console.say(f"note: left out: {ignored}")
    pair_set = read_pairs(pairs, data) if pairs else None
    for note in pair_set.notes if pair_set else ():
        console.say(f"note: {note}")
    from hashlib import sha256  # late, as torch is: it takes as long as the whole of --help

    from lossbench.evaluation.compare import studies
    from lossbench.evaluation.evaluate import evaluate as measure
    from lossbench.report.tables import MEANING, thin_line
    from lossbench.report.verdicts import verdict_text
    from lossbench.results.answer import answer
    from lossbench.results.store import find_runs
    from lossbench.results.verdicts import verdicts
    from lossbench.utils.device import device_of

    damaged: list[RunDamaged] = []
    records, place = find_runs(runs, on_note=console.say, on_damaged=damaged.append), device_of(device)
    _refuse_unused(backbone, records)
    file = Path("evaluations", f"{file_name(unseen.name)}-{sha256(str(data.resolve()).encode()).hexdigest()[:8]}.json")
    for path in [out] if out else [Path(record["folder"]) / file for record in records]:
        refuse_unwritable(path, "--out" if out else "the run's folder (--out writes elsewhere)")
    found = []
    with console.counting("decoding images") as decoding, console.counting("models") as done:
        for number, record in enumerate(records, 1):
            try:
                found.append(
                    measure(
                        record,
                        unseen,
                        pair_set,
                        fprs=fprs,
                        flip=flip,
                        network=backbone,
                        device=place,
                        on_progress=decoding,
                    )
                )
            except RunDamaged as error:
                damaged.append(error)
            done(number, len(records))
    if not found:
        raise damaged[0]
    shown = _shown(found)
    compared = [(s, verdicts(s)) for s in studies(found, len(unseen.query.people), on_note=console.say)]
    sentences = [sentence for study, judged in compared for sentence in answer(study, judged)]
    for line in sentences:
        console.say(line)
    console.table(*_table(found, shown), title=f"{unseen.name}: {_pair_counts(found[0], unseen.query.people)}")
    for line in filter(None, [MEANING, thin_line(shown, _as_records(found))]):
        console.say(line)
    console.say("± is 1.96 standard deviations over resamples of these people, without the spread between seeds")
    for study, judged in compared:
        highlights = [v for v in judged if "highlights" in v.figure.shown]
        if any(v.difference.count > 1 for v in highlights):
            title = f"{unseen.name}: {', '.join(study.trained)} compared"
            console.table(*verdict_text(highlights, study.records), title=title)
    if seen := [one for one in found if one.known]:
        known = tuple(sorted({name for one in seen for name in one.known or ()}))
        note = _names_note(known, [one.record for one in seen])
        console.say(f"{note}; if they are the same people, these are not figures of unseen people")
    if unseen_in := [one.record for one in found if one.known is None]:
        console.say(_unlisted_note(unseen_in))
    figures = [_as_json(one, data) for one in found]
    if out:
        write_json(out, figures)
        written = str(out)
    else:
        for one, own in zip(found, figures, strict=True):
            write_json(Path(one.record["folder"]) / file, own)
        one_run = len(found) == 1
        written = str(Path(found[0].record["folder"]) / file) if one_run else f"{file} in the folder of each run"
    console.step(f"wrote {written}")
    write({"answer": sentences, "runs": figures, "left_out": list(map(str, damaged))})
    for reason in damaged:
        console.error(f"left out: {reason}")
    if damaged:
        raise typer.Exit(1)


def embed(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    folder: Annotated[
        Path, typer.Argument(help="A folder whose images are embedded, at any depth; or a prepared set.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = Path("embeddings.npz"),
    backbone: Backbone = None,
    device: Device = "auto",
) -> None:
    """Write the embeddings of all images below a folder, for use elsewhere.

    The file holds two arrays: embeddings, [N, D] float32, not normalised; and files, [N] paths below the folder. An
    image of train.rec is called PART/PERSON/KEY.
    """
    from lossbench.cli import console
    from lossbench.data.catalogue import open_images
    from lossbench.data.left_out import left_out
    from lossbench.data.set_files import is_packed

    if out.suffix != ".npz":
        raise InputError(f"--out {out} is not an .npz file; use a name that ends in .npz")
    from lossbench.results.store import refuse_unwritable

    refuse_unwritable(out, "--out")
    files, names = open_images(folder)
    if not is_packed(folder) and (ignored := left_out(folder, files, people=False)):
        console.say(f"note: left out: {ignored}")
    from lossbench.evaluation.evaluate import embed_folder, known_names
    from lossbench.results.store import find_run
    from lossbench.utils.device import device_of

    record = find_run(run)
    _refuse_unused(backbone, [record])
    with console.counting("decoding images") as progress:
        count, length = embed_folder(
            record, files, names, out, network=backbone, device=device_of(device), on_progress=progress
        )
    console.step(f"wrote {out}: embeddings [{count}, {length}], not normalised, and files [{count}]")
    known = known_names(record, {part for name in names for part in Path(name).parts[:-1]})
    if known is None:
        console.say(_unlisted_note([record]))
    if known:
        console.say(f"{_names_note(known, [record])}; if they are the same people, the model has seen them")


def _refuse_unused(backbone: str | None, records: "Sequence[Record]") -> None:
    from lossbench.results.weights import own_network

    if backbone is not None and not any(map(own_network, records)):
        raise InputError(f"--backbone {backbone} is not used: these runs' backbone is no file of your own; drop it")


def _shown(found: "list[Evaluation]") -> "list[Metric]":
    from lossbench.results.metric_fields import own_fprs, shown_in

    figures = shown_in("evaluate", fprs=own_fprs(found[0].figures))
    return [figure for figure in figures if figure.key in found[0].figures]


def _as_records(found: "list[Evaluation]") -> list[dict[str, Any]]:
    return [{"status": "finished", "metrics": one.figures} for one in found]


def _table(found: "list[Evaluation]", figures: "list[Metric]") -> tuple[list[str], list[list[str]]]:
    from lossbench.report.tables import heading
    from lossbench.results.metric_fields import flat_metrics

    rows = []
    for one, name in zip(found, _names([one.record for one in found]), strict=True):
        flat = flat_metrics({"metrics": one.figures})
        cells = [_cell(flat[figure.key], one.spread.get(figure.key, math.nan), figure) for figure in figures]
        rows.append([name, *cells])
    return ["run", *(heading(figure, _as_records(found)) for figure in figures)], rows


def _cell(value: float, spread: float, figure: "Metric") -> str:
    from lossbench.report.tables import with_interval

    return "–" if math.isnan(value) else with_interval(value, 1.96 * spread, figure.digits, figure.limits)


def _names(records: "Sequence[Record]") -> list[str]:
    """Return what runs are called, those of one name with their benchmark or, where that is the same, their folder."""
    names = [_name(record) for record in records]
    for depth in (1, 0):  # parts of results/BENCHMARK/runs/RUN
        clashing = {name for name, count in Counter(names).items() if count > 1}
        places = [Path(record["folder"]).parents[depth] if depth else Path(record["folder"]) for record in records]
        names = [
            f"{_name(record)} ({place})" if name in clashing else name
            for name, record, place in zip(names, records, places, strict=True)
        ]
    return names


def _name(record: "Record") -> str:
    return f"{record['entrant']} r{record['repeat']}"


def _unlisted_note(records: "Sequence[Record]") -> str:
    have, their = ("have", "their") if len(records) > 1 else ("has", "its")
    lists = f"{have} no embeddings.npz, which lists {their} training people"
    return f"note: {_few(records)} {lists}: whether these are among them is not known"


def _few(records: "Sequence[Record]") -> str:
    return ", ".join(_name(record) for record in records[:3]) + (f" and {len(records) - 3} more" if records[3:] else "")


def _names_note(known: tuple[str, ...], records: "Sequence[Record]") -> str:
    named = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
    occur = "names also occur" if len(known) > 1 else "name also occurs"
    return f"note: {len(known)} {occur} in the training set{'s' * (len(records) > 1)} of {_few(records)} ({named})"


def _pair_counts(one: "Evaluation", people: tuple[str, ...]) -> str:
    figures = one.figures
    lowest = f", lowest FPR {rate_text(figures['lowest_fpr'], digits=2)}" if figures["lowest_fpr"] else ""
    pairs = f"{figures['positives']:,} same-person pairs, {figures['negatives']:,} different-person pairs"
    return f"{len(people)} query people, {pairs}{lowest}"


def _as_json(one: "Evaluation", data: Path) -> dict[str, Any]:
    record = one.record
    return {
        "run": record["folder"],
        "entrant": record["entrant"],
        "repeat": record["repeat"],
        "hash": record.get("hash"),
        "data": str(data.resolve()),
        "people_with_names_of_the_training": None if one.known is None else list(one.known),
        "metrics": one.figures,
        "spread_over_people": one.spread,
    }
