"""A finished run's model for use elsewhere, and a pair of images compared by it: export and verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli.models import Backbone
from lossbench.cli.options import Json, speaks
from lossbench.errors import InputError

if TYPE_CHECKING:
    from lossbench.data.prepare.face_choice import Choice
    from lossbench.evaluation.verify import Verified
    from lossbench.results.model_file import ExportedModel
    from lossbench.results.store import Record


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(speaks(export))
    app.command()(verify)


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder; or a benchmark's, with --loss and --repeat.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="onnx, safetensors or torch (a .pt2 of torch.export).",
            show_default="by the ending of --out; onnx without it",
            autocompletion=lambda incomplete: [k for k in ("onnx", "safetensors", "torch") if k.startswith(incomplete)],
        ),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Of a benchmark: the loss, as in its report.")] = None,
    repeat: Annotated[
        int | None, typer.Option(help="Of a benchmark: the repeat, 0 for the folder arcface-r0-...")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="LOSS-rREPEAT.onnx, .safetensors or .pt2")
    ] = None,
    backbone: Backbone = None,
) -> None:
    """Write a run's backbone as one file, for use without lossbench.

    ONNX and .pt2 map images [batch, 3, SIZE, SIZE], RGB as uint8 in 0..255, to embeddings [batch, LENGTH], float32 of
    length 1: their dot product is the cosine. The normalisation of pixels is inside. A .safetensors file holds the
    backbone's weights alone. Each is read back and compared with the run before it is written; more than 1e-4 is an
    error.

    Each carries metadata, JSON under the key lossbench (in a .pt2: the extra file lossbench.json): input, output,
    alignment, loss, backbone, run, and the threshold at each false-positive rate with what it was set on. The licence
    of the data that the model was trained on is for you to check.
    """
    from lossbench.cli import console
    from lossbench.models.export import FORMATS, check_format, format_of

    format = format or (format_of(out) if out else "onnx")
    check_format(format)
    from lossbench.results.store import refuse_unwritable
    from lossbench.utils.text import file_name

    record = _chosen(run, loss, repeat)
    _refuse_unused(backbone, record)
    ending = FORMATS[format]
    target = Path(f"{file_name(record['entrant'])}-r{record['repeat']}{ending}") if out is None else out
    if target.suffix != ending:
        raise InputError(f"--out {target} does not end in {ending}, by which verify knows --format {format}; rename it")
    refuse_unwritable(target, "--out")
    from lossbench.evaluation.export import export as write

    made = write(record, format, target, network=backbone)
    console.step(f"wrote {target}: {record['entrant']} r{record['repeat']}, {made.size / 2**20:.1f} MiB")
    if made.difference is None:
        console.say("note: it holds the weights alone; only your own code can run this network of your own with them")
    else:
        console.step(f"read back and compared with the run: largest difference {made.difference:.1g}")
    if not made.facts["operating_points"]:
        console.say("note: it has no thresholds, since the run measured no unseen people")
    console.say(f"note: {made.facts['licence']}")


def _chosen(place: Path, loss: str | None, repeat: int | None) -> "Record":
    from lossbench.results.benchmark_folder import run_in
    from lossbench.results.store import find_run

    if (place / "runs").is_dir():
        return run_in(place, loss, repeat)
    if loss is not None or repeat is not None:
        option = "--loss" if loss is not None else "--repeat"
        raise InputError(f"{option} chooses a run of a benchmark, and '{place}' is no benchmark's folder; drop it")
    return find_run(place)


def _refuse_unused(backbone: str | None, record: "Record") -> None:
    from lossbench.results.weights import own_network

    if backbone is not None and not own_network(record):
        raise InputError(f"--backbone {backbone} is not used: this run's backbone is no file of your own; drop it")


def verify(
    a: Annotated[Path, typer.Argument(help="An image of an aligned face; with --detect any photo.", metavar="A.jpg")],
    b: Annotated[Path, typer.Argument(help="The image to compare it with.", metavar="B.jpg")],
    model: Annotated[Path, typer.Option(help="A file that lossbench export wrote.")],
    fpr: Annotated[
        float | None,
        typer.Option(
            help="The false-positive rate (FAR) whose threshold decides.",
            show_default="0.01, or the lowest that the model has",
        ),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Find the largest face in each and align it; needs the extra [align].")
    ] = False,
    json: Json = False,
) -> None:
    """Compare two images by an exported model: are they of one person?

    Prints the cosine, the decision at a false-positive rate, and how sure its threshold is. Without --detect, give
    crops aligned as those that the model was trained on. With it, faces are aligned with the template that the model's
    metadata names. Exit code 0 whatever the decision is.

    With --json: {cosine, same, fpr, threshold, set_on, negatives, deciding, thin, people, lowest_fpr, transfer:
    {set_on, threshold, negatives, fpr, tpr}, accepted_at: [fpr], refused_at: [fpr], faces: [{box, confidence,
    points, remark}], alignment, model, run}; same is null where the model has no thresholds.
    """
    from lossbench.cli import console

    with console.document(json) as write:
        from lossbench.evaluation.verify import verify as compare
        from lossbench.results.model_file import read_model

        read = read_model(model)
        found = compare(read, a, b, fpr, detect=detect)
        _show((a, b), found, read)
        write(_document(found, read))


def _show(files: tuple[Path, Path], found: "Verified", model: "ExportedModel") -> None:
    from lossbench.cli import console
    from lossbench.evaluation.verify import reliance
    from lossbench.utils.text import listed, rate_text

    for file, choice in zip(files, found.faces, strict=False):
        _show_face(file, choice)
    if not found.faces:
        _show_unsearched(files, found, model)
    if found.point is None:
        console.say(f"cosine {found.cosine:.4f}; no decision: the model has no thresholds")
        return
    decision, relation = ("same person", "above") if found.same else ("different people", "not above")
    threshold, rate = found.point["threshold"], rate_text(found.point["fpr"])
    console.say(f"cosine {found.cosine:.4f}")
    console.say(f"{decision} at FPR {rate}: {relation} the threshold {threshold:.4f}")
    at = [listed([rate_text(one) for one in rates]) or "none" for rates in (found.accepted, found.refused)]
    console.say(f"same person at FPR: {at[0]}; different people at FPR: {at[1]}")
    for sentence in reliance(found, model.facts["run"]["people"]):
        console.say(f"threshold: {sentence}")
    if (lowest := model.facts.get("lowest_fpr")) is not None:
        console.say(f"threshold: the data supports no rate below {rate_text(lowest, digits=2)}")


def _show_face(file: Path, choice: "Choice") -> None:
    from lossbench.cli import console

    assert choice.face is not None
    x, y, width, height = choice.face.box
    at = f"{width:.0f}x{height:.0f} px at ({x:.0f}, {y:.0f}), confidence {choice.face.confidence:.3f}"
    several = f"; it shows {choice.remark}, of which this is the largest" if choice.others else ""
    console.say(f"{file}: face of {at}{several}")


def _show_unsearched(files: tuple[Path, Path], found: "Verified", model: "ExportedModel") -> None:
    from lossbench.cli import console

    for file, (width, height) in zip(files, found.sizes, strict=True):
        if width != height:
            console.say(f"note: {file} is {width}x{height}: only its centre square is compared, as in training")
    console.say(
        f"note: no face is searched for; images must be cropped as in training: {model.facts['alignment']['said']}"
    )


def _document(found: "Verified", model: "ExportedModel") -> dict[str, Any]:
    from dataclasses import asdict

    facts, point = model.facts, found.point or {}
    return {
        "cosine": found.cosine,
        "same": found.same,
        **{key: point.get(key) for key in ("fpr", "threshold", "set_on", "negatives", "deciding")},
        "thin": found.thin,
        "people": facts["run"]["people"],
        "lowest_fpr": facts.get("lowest_fpr"),
        "transfer": point.get("transfer"),
        "accepted_at": list(found.accepted),
        "refused_at": list(found.refused),
        "faces": [{**asdict(choice.face), "remark": choice.remark} for choice in found.faces if choice.face],
        **{key: facts[key] for key in ("alignment", "model", "run")},
    }
