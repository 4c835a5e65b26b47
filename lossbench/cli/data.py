"""`lossbench data`: prepare faces, check them, look at them, and clear the cache. Thin: parse, call, exit code."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli.options import speaks, takes
from lossbench.data.prepare.options import CropOptions, DetectOptions, SplitOptions, TrainingSetOptions
from lossbench.errors import InputError
from lossbench.utils.settings import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lossbench.data.prepare.collection import Collection
    from lossbench.data.prepare.prepare import Prepared

app = typer.Typer(help="Prepare your own faces, check them, look at them.", no_args_is_help=True)
_PREPARE = """Turn a face collection into a set with a split: folders on disk, or a table of the images in train.rec.

The same command always writes the same files. A collection in folders: an interrupted command continues where it
stopped, and images are recognised by their suffix: .jpg .jpeg .png .bmp .webp .pgm .ppm .tif .tiff.
"""
prepare_app = typer.Typer(help=_PREPARE, no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")


Root = Annotated[Path, typer.Option(help="The collection's folder.")]
Out = Annotated[Path, typer.Option(help="The tree to make; split.json goes beside its folders.")]
Dedupe = Annotated[
    bool, typer.Option("--dedupe", help="Keep near-duplicates together in one split; they count as one image.")
]
Marks = Annotated[
    Path | None, typer.Option(help="Rows of PERSON/FILE and ten numbers: x, y of two eyes, nose, two mouth corners.")
]


@prepare_app.command("celeba")
@speaks
@takes(SplitOptions, CropOptions)
def prepare_celeba(
    given: dict[str, Any],
    root: Root,
    out: Out,
    dedupe: Dedupe = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch CelebA with torchvision into --root first.")
    ] = False,
) -> None:
    """Align and split CelebA from its official layout."""

    def read() -> "Collection":
        from lossbench.data.prepare.celeba import download_celeba, read_celeba

        return read_celeba(download_celeba(root) if download else root)

    _prepare(read, out, given, dedupe=dedupe)


@prepare_app.command("folder")
@speaks
@takes(SplitOptions, CropOptions, DetectOptions)
def prepare_folder(
    given: dict[str, Any],
    root: Root,
    out: Out,
    dedupe: Dedupe = False,
    landmarks: Marks = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Find the face in every photo, and align by it; needs the extra [align].")
    ] = False,
    keep_undetected: Annotated[
        bool, typer.Option("--keep-undetected", help="Crop the centre of photos that have no face to align by.")
    ] = False,
) -> None:
    """Split any tree of one folder per person; align it by landmarks or by detection, else take the centre square.

    With --detect, MTCNN finds the faces; nothing is downloaded. Photos without a face to use are named and left out.
    landmarks.csv then lists the points, for correction by hand: give it back with --landmarks and another --out.
    detections.jsonl lists all faces found; doubtful.jpg shows the photos left out, with several faces, or not certain.
    """
    chosen = _face_options(given, detect=detect, landmarks=landmarks, keep=keep_undetected)
    read = partial(_read_folder, root, landmarks, "folder", keep_unmarked=keep_undetected)
    _prepare(read, out, given, dedupe=dedupe, detect=chosen, keep=keep_undetected)


def _face_options(
    given: "Mapping[str, Any]", *, detect: bool, landmarks: Path | None, keep: bool
) -> DetectOptions | None:
    """Return which faces are to be used, if any are to be detected; refuse options that then mean nothing."""
    options = build(DetectOptions, given)
    if detect:
        if landmarks is not None:
            raise InputError("--detect and --landmarks exclude each other: give the points, or have them found")
        return options
    for name in ("face", "min_face", "max_turn"):
        if name in given:
            raise InputError(f"--{name.replace('_', '-')} chooses among detected faces; add --detect, or drop it")
    if keep and landmarks is None:
        raise InputError("--keep-undetected is of no use without --detect or --landmarks: all photos are cropped then")
    return None


@prepare_app.command("lfw")
@speaks
@takes(SplitOptions, CropOptions)
def prepare_lfw(given: dict[str, Any], root: Root, out: Out, dedupe: Dedupe = False, landmarks: Marks = None) -> None:
    """Split an LFW tree (Labeled Faces in the Wild, 250x250); without landmarks take the face's place in LFW."""
    _prepare(partial(_read_folder, root, landmarks, "lfw"), out, given, dedupe=dedupe)


def _read_folder(root: Path, landmarks: Path | None, kind: str, *, keep_unmarked: bool = False) -> "Collection":
    from lossbench.data.prepare.collection import read_folder

    return read_folder(root, landmarks, kind=kind, keep_unmarked=keep_unmarked)


@prepare_app.command("rec")
@speaks
@takes(TrainingSetOptions)
def prepare_rec(
    given: dict[str, Any],
    root: Root,
    out: Annotated[Path, typer.Option(help="The folder to make, of split.json and images.npy, a table of the images.")],
    dedupe: Dedupe = False,
) -> None:
    """Split an InsightFace training set: train.rec, train.idx and property, whose images are read where they are.

    No image is copied: train.rec must stay in its place. Images that cannot be decoded are left out
    and named.
    """
    split = build(TrainingSetOptions, given)
    from lossbench.cli import console
    from lossbench.data.prepare.rec import prepare_rec as prepare
    from lossbench.data.prepare.rec_set import read_rec

    found = read_rec(root)
    with console.counting("looking at images") as progress:
        made, notes = prepare(found, out, split, dedupe=dedupe, on_progress=progress)
    for note in notes:
        console.say(f"note: {note}")
    _say_made(made, found.per_person(), split)
    if not made.people["query"]:
        console.say("nobody is held out: a run measures accuracy and angles of training people, and no unseen people")


@prepare_app.command("bin")
def bin_(
    file: Annotated[Path, typer.Option(help="An InsightFace verification file, such as lfw.bin.")],
    out: Out,
) -> None:
    """Unpack an InsightFace verification file into images and pairs, for `lossbench run --pairs DIR`.

    The file is a pickle. Only lists, bytes and arrays are read from it; no code in it is ever executed.
    """
    from lossbench.cli import console
    from lossbench.data.prepare.insightface_bin import prepare_bin

    pairs, images = prepare_bin(file, out)
    console.say(f"{out}: {pairs:,} pairs, {images:,} images; verify with: lossbench run --pairs {out}")


def _prepare(
    read: "Callable[[], Collection]",
    out: Path,
    given: dict[str, Any],
    *,
    dedupe: bool,
    detect: DetectOptions | None = None,
    keep: bool = False,
) -> None:
    split, crop = build(SplitOptions, given), build(CropOptions, given)  # checked before CelebA is fetched
    from lossbench.cli import console
    from lossbench.data.prepare.align import CROPS
    from lossbench.data.prepare.detected import Detection
    from lossbench.data.prepare.fit import CORRECT
    from lossbench.data.prepare.prepare import prepare, too_few
    from lossbench.data.prepare.target import waiting

    def note(notes: "Iterable[str]") -> None:
        for line in notes:
            console.say(f"note: {line}")

    collection = read()
    note((*collection.notes, *too_few(collection.per_person(), split)))
    try:
        with console.counting_in_turn("looking for faces", "aligning faces") as (looked, aligned):
            detection = Detection(detect, keep, looked, note) if detect else None
            made = prepare(collection, out, split, crop, dedupe=dedupe, detection=detection, on_progress=aligned)
    except KeyboardInterrupt:
        if left := waiting(out):
            console.say(f"{left}; delete that folder to give them up")
        raise
    if made.eye_error is not None:
        usual = CORRECT * CROPS[crop.crop].zoom * crop.size / 112
        console.say(
            f"eyes lie {made.eye_error:.2f} px from the template on average; correct landmarks stay below {usual:.3g}"
        )
    _say_made(made, made.usable, split)
    if made.sheet is not None:
        console.say(f"look at the doubtful photos: {made.sheet}")


def _say_made(made: "Prepared", counts: "Mapping[str, int]", split: SplitOptions) -> None:
    """Print what a preparation made, of people with so many images each."""
    from lossbench.cli import console
    from lossbench.data.tree import OPEN

    rows = [[part, str(made.people[part]), str(made.images[part])] for part in made.images]
    console.table(["part", "people", "images"], rows, title=str(made.folder))
    if made.left_out:
        console.say(f"{len(made.left_out)} near-duplicates of other sets' images are left out; split.json names them")
    if made.passed_over:
        some = ", ".join(made.passed_over[:3]) + (", ..." if len(made.passed_over) > 3 else "")
        console.say(f"{len(made.passed_over)} people have too few images that differ and are passed over: {some}")
    enough = sum(count >= split.min_images for count in counts.values()) - len(made.passed_over)
    if unused := enough - sum(made.people[part] for part in ("train", *OPEN)):
        some_more = "--identities, --query-identities and --distractor-identities take more"
        further = "person is" if unused == 1 else "people are"
        console.say(f"{unused:,} further {further} in no part, of {split.min_images} images or more; {some_more}")
    if not made.new:
        console.say("already prepared by this command; nothing to do")
    console.say(f"check it with: lossbench data check {made.folder}")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A prepared set.")],
    out: Annotated[
        Path | None, typer.Option(help="The image to write; .png or .jpg.", show_default="NAME-faces.png, here")
    ] = None,
    people: Annotated[int, typer.Option(min=1, help="Rows per part.")] = 4,
    images: Annotated[int, typer.Option(min=1, help="Faces per row.")] = 10,
) -> None:
    """Write a contact sheet: some people of every part, a row each."""
    from lossbench.cli import console
    from lossbench.data.inspect.contact_sheet import contact_sheet, write_sheet

    target = out or Path(f"{folder.resolve().name}-faces.png")
    write_sheet(contact_sheet(folder, people=people, images=images), target)
    console.say(f"wrote {target}")


@app.command()
@speaks
def check(
    folder: Annotated[
        Path, typer.Argument(help="A prepared set, or a tree with train/ val/ test/ query/ distractors/.")
    ],
    json: Annotated[Path | None, typer.Option(help="Also write all findings to this file.")] = None,
) -> None:
    """Check a set: unreadable images, people or near-duplicates in two splits, changes since split.json was written.

    Also prints which false-positive rates the query people support. Exit code 1 if images or people leak from one split
    into another, or if `lossbench run` would refuse it.
    """
    from lossbench.cli import console
    from lossbench.data.inspect.check import check_tree, write_findings

    with console.counting("looking at images") as progress:
        findings = check_tree(folder, on_progress=progress)
    rows = [[f.check, f.verdict, f"{f.count:,}", f.text] for f in findings]
    console.table(["check", "verdict", "found", "what"], rows, title=str(folder), numbers=False)
    if json:
        write_findings(json, folder, findings)
        console.step(f"wrote {json}")
    found = {finding.verdict for finding in findings}
    if "leak" in found:
        console.say("images or people leak between splits; prepare the data again with --dedupe, or move them")
    if "flaw" in found:
        console.say("lossbench run refuses this tree until every flaw is fixed")
    if found & {"leak", "flaw"}:
        raise typer.Exit(1)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all stores; a run builds its own again.")] = False,
) -> None:
    """List the stores of decoded images, or delete them.

    They are kept in the folder that LOSSBENCH_CACHE names, or else in the user's cache folder.
    """
    from lossbench.cli import console
    from lossbench.data.images.store import cache_folder, clear_cache, stores

    place = cache_folder()
    if clear:
        console.say(f"{place}: {clear_cache() / 2**20:,.1f} MiB freed")
        return
    found = stores()
    rows = [[s.file.name, f"{s.images:,}", str(s.side), f"{s.size / 2**20:,.1f}"] for s in found]
    if rows:
        console.table(["store", "images", "pixels", "MiB"], rows, title=str(place))
    total = sum(stored.size for stored in found) / 2**20
    console.say(f"{place}: {len(found)} stores, {total:,.1f} MiB; delete them with: lossbench data cache --clear")
