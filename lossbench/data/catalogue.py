"""The data sets by name: credit, suitable settings, and how to open them. Importing this module is cheap."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lossbench.data.set_files import REC, is_packed
from lossbench.errors import InputError, did_you_mean
from lossbench.utils.files import is_file, is_folder
from lossbench.utils.text import shown

if TYPE_CHECKING:
    from lossbench.data.faces import FaceSet
    from lossbench.data.images.recordio import ImagePlace
    from lossbench.data.tree import UnseenPeople


class DataInfo(NamedTuple):
    """What a data set is, who is credited for it, the settings that suit it, and how it is opened.

    `read` takes what the user gave for ``--data``. `is_folder` says whether that is a path; else it is a name.
    `withheld` takes the same, and says what it is whose faces may not be shown; empty where they may.
    """

    what: str
    credit: str
    read: "Callable[[str], FaceSet]"
    is_folder: bool
    backbone: str
    epochs: int
    batch_size: int
    repeats: int
    folds: int = 1  # class-disjoint ones, which repeats take in turn
    withheld: Callable[[str], str] = lambda _: ""


def _orl(_: str) -> "FaceSet":
    from lossbench.data.orl import read_orl

    return read_orl()


def _tree(path: str) -> "FaceSet":
    if is_packed(Path(path)):
        from lossbench.data.packed import read_packed

        return read_packed(Path(path))
    if is_file(Path(path) / REC):
        cure = f"lossbench data prepare rec --root {shown(path)} --out DIR"
        raise InputError(f"--data {shown(path)} is an InsightFace training set that is not prepared; first: {cure}")
    from lossbench.data.tree import read_tree

    return read_tree(path)


_FOR_RESEARCH = {"celeba": "CelebA", "lfw": "LFW", "rec": "an InsightFace training set"}  #: by kind of source


def _withheld(path: str) -> str:
    """Return what a folder was prepared from, where that is released for research alone; its owner shows all else."""
    from lossbench.data.split_file import SplitFile

    prepared = SplitFile.of(Path(path))
    source = prepared.content.get("source") if prepared else None
    kind = source.get("kind") if isinstance(source, dict) else None
    return _FOR_RESEARCH.get(kind, "") if isinstance(kind, str) else ""


FOLDER = "DIR"  # stands for every folder
DATA = {
    "orl": DataInfo(
        what="40 people x 10 grey images, 92x112; 5 class-disjoint folds",
        credit="ORL, AT&T Laboratories Cambridge (Samaria & Harter 1994)",
        read=_orl,
        is_folder=False,
        backbone="tiny",
        epochs=60,
        batch_size=32,
        repeats=5,  # as many as folds: everybody is a query person once
        folds=5,
    ),
    FOLDER: DataInfo(
        what="your own faces: DIR/{train,val,test,query,distractors}/PERSON/IMAGE",
        credit="you",
        read=_tree,
        is_folder=True,
        backbone="small",
        epochs=30,
        batch_size=64,
        repeats=3,
        withheld=_withheld,
    ),
}
NAMES = tuple(name for name in DATA if name != FOLDER)


def data_info(data: str) -> DataInfo:
    """Return the facts of what ``--data`` names: a data set by its name, else a folder, whether it is there or not."""
    return DATA.get(data, DATA[FOLDER])


def refuse_faces(data: str) -> None:
    """Refuse to show faces of what ``--data`` names, where that does not allow it.

    Raises:
        InputError: a folder that was prepared from photos released for research alone.
    """
    if source := data_info(data).withheld(data):
        raise InputError(
            f"--faces {shown(data)} was prepared from {source}, whose faces may not be published; leave --faces out: "
            "the report then gives file names and numbers"
        )


def open_data(
    name: str,
    *,
    identities: int | None = None,
    min_images: int | None = None,
    images_per_identity: int | None = None,
) -> "FaceSet":
    """Open a data set by name (`orl`) or a tree on disk by its path.

    Args:
        name: one of `NAMES`, or a folder.
        identities: keep the N closed-set people with the most training images; all when None.
        min_images: keep the closed-set people with at least as many training images.
        images_per_identity: keep at most so many training images of a person.

    Raises:
        InputError: nothing there, or a tree that no split can be read from.
    """
    info = data_info(name)
    if info.is_folder and not is_folder(Path(name)):
        known = " or ".join(f"'{known}'" for known in NAMES)
        raise InputError(
            f"no data called '{shown(name)}'{did_you_mean(name, list(NAMES))}; --data takes {known} or a folder"
        )
    faces = info.read(name)
    return faces.select(identities=identities, min_images=min_images, images_per_identity=images_per_identity)


def open_unseen_people(root: Path) -> "UnseenPeople":
    """Open the query people and distractors of a folder: of a prepared set, of a tree, or one folder per person.

    Raises:
        InputError: no such folder, or fewer than two people in it.
    """
    from lossbench.data.packed import read_packed_unseen
    from lossbench.data.tree import read_unseen_people

    return read_packed_unseen(root) if is_packed(root) else read_unseen_people(root)


def open_images(root: Path) -> "tuple[Sequence[ImagePlace], tuple[str, ...]]":
    """Return every image of a prepared set, or below a folder, and its name: ``PART/PERSON/KEY``, or its relative path.

    Raises:
        InputError: no such folder, or no image in it.
    """
    from lossbench.data.packed import open_packed
    from lossbench.data.tree import read_images

    if not is_packed(root):
        return read_images(root)
    packed = open_packed(root)
    return packed.images, packed.names()
