"""Models from files: what lossbench exported, ONNX from elsewhere, and embeddings that were computed elsewhere."""

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.data.faces import Part
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.images.store import open_store
from lossbench.data.tree import UnseenPeople
from lossbench.errors import InputError
from lossbench.evaluation.models import Progress, silent
from lossbench.models.export import FACTS, FORMATS
from lossbench.models.onnx_file import InputOptions, foreign_model, open_session
from lossbench.results.model_file import model_of, read_model
from lossbench.results.onnx_trial import read_onnx
from lossbench.utils.files import is_file, is_folder
from lossbench.utils.text import clipped, listed, shown, some

ARRAYS = ".npz"
_LARGE, _TIGHT = 2**30, 100  # bytes of an array, and how many of them from one of the file, that are a bomb
_BATCH = 64


def is_model_file(path: Path) -> bool:
    """Return whether a path is named like a model's file, or like one of embeddings, and is no folder.

    Raises:
        InputError: it is a file of another kind.

    Example:
        >>> is_model_file(Path("m.onnx")), is_model_file(Path("results/orl"))
        (True, False)
    """
    endings = [*FORMATS.values(), ARRAYS]
    if path.suffix not in endings and is_file(path):
        raise InputError(f"{shown(path)} is neither a run's folder nor a model ({listed(endings, 'or')}); name one")
    return path.suffix in endings and not is_folder(path)


@dataclass(frozen=True)
class FileModel:
    """A network in a file: `function` maps images [B, 3, S, S] uint8 to embeddings [B, D].

    What `lossbench export` wrote gives embeddings of length 1, to which a mirrored image's is added at that length.
    """

    source: Path
    side: int
    function: Callable[[Tensor], Tensor]
    said: str = ""
    record: None = None

    def embed(
        self, files: Sequence[ImagePlace], parts: Sequence[Part], *, flip: bool = False, on_progress: Progress = silent
    ) -> list[Tensor]:
        """Return the embeddings [N, D] of each part: see `evaluation.models.Model`."""
        pixels = open_store(files, self.side, on_progress=lambda done: on_progress(done, len(files))).pixels
        found = []
        for part in parts:
            rows = np.asarray(part.rows, dtype=np.int64)
            batches = [self._of(pixels[rows[i : i + _BATCH]], flip=flip) for i in range(0, len(rows), _BATCH)]
            found.append(_usable(torch.cat(batches), [files[row] for row in part.rows], self.source))
        return found

    def _of(self, pixels: npt.NDArray[np.uint8], *, flip: bool) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        found = self.function(images)
        return found + self.function(images.flip(3)) if flip else found


@dataclass(frozen=True)
class EmbeddingsModel:
    """Embeddings [N, D] from a file, by image: an image is known by the end of its path, by whole folders.

    `names` are those of images that are no files of their own.
    """

    source: Path
    embeddings: npt.NDArray[np.float32]
    rows: Mapping[str, int]
    names: Mapping[ImagePlace, str] = field(default_factory=dict)
    record: None = None
    said: str = ""

    def row(self, file: ImagePlace) -> int | None:
        """Return the row of an image; None where the file has none."""
        text = self.names.get(file) or (file.absolute().as_posix() if isinstance(file, Path) else str(file))
        steps = text.split("/")
        for start in range(len(steps)):
            if (found := self.rows.get("/".join(steps[start:]))) is not None:
                return found
        return self.rows.get(text)

    def without(self, files: Sequence[ImagePlace]) -> list[ImagePlace]:
        """Return those of different images that have no row.

        Raises:
            InputError: two images have one row, so that it cannot be of both.
        """
        owner: dict[int, ImagePlace] = {}
        missing = []
        for file in files:
            if (row := self.row(file)) is None:
                missing.append(file)
            elif (other := owner.setdefault(row, file)) != file and not _same(other, file):
                name = next(name for name, found in self.rows.items() if found == row)
                raise InputError(
                    f"'{clipped(name)}' in {shown(self.source)} may be {shown(other)} or {shown(file)}; "
                    "write more of the paths in 'files'"
                )
        return missing

    def refuse_flip(self) -> None:
        """Refuse to mirror images.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"--flip cannot mirror the images of {shown(self.source)}, which holds embeddings; add the mirrored "
            "images' embeddings to them, or drop --flip"
        )

    def embed(
        self, files: Sequence[ImagePlace], parts: Sequence[Part], *, flip: bool = False, on_progress: Progress = silent
    ) -> list[Tensor]:
        """Return the embeddings [N, D] of each part, all of whose images have a row: see `evaluation.models.Model`.

        Raises:
            InputError: mirrored images are asked for, or an embedding is zero or not finite.
        """
        if flip:
            self.refuse_flip()
        found = []
        for part in parts:
            images = [files[row] for row in part.rows]
            rows = [row for file in images if (row := self.row(file)) is not None]
            assert len(rows) == len(images), "images without a row are left out before"
            found.append(_usable(torch.from_numpy(self.embeddings[rows]), images, self.source))
        return found


def _same(a: ImagePlace, b: ImagePlace) -> bool:
    """Return whether two places are one file, by links or by other names."""
    return isinstance(a, Path) and isinstance(b, Path) and os.path.realpath(a) == os.path.realpath(b)


def _usable(embeddings: Tensor, files: Sequence[ImagePlace], source: Path) -> Tensor:
    wrong = ~embeddings.isfinite().all(1) | (embeddings == 0).all(1)
    if bool(wrong.any()):
        file = files[int(wrong.nonzero()[0])]
        raise InputError(
            f"{shown(source)} gives {shown(file)} an embedding that is zero or not finite; check the model"
        )
    return embeddings


def open_model_file(
    path: Path, options: InputOptions, unseen: UnseenPeople | None = None
) -> "FileModel | EmbeddingsModel":
    """Open a model's file: ONNX, what `lossbench export` wrote, or an .npz of embeddings.

    Args:
        path: what it ends in says what it is.
        options: how a network from elsewhere is fed.
        unseen: the people that are measured, whose order an .npz of embeddings and labels alone has.

    Raises:
        InputError: it cannot be read, is damaged, or of another kind; or an ONNX file is beyond the limits of a trial.
    """
    if path.suffix == ARRAYS:
        return read_embeddings_file(path, unseen)
    where = shown(path)
    if path.suffix == ".onnx":
        try:
            data = read_onnx(path, where, options.image_size)
        except OSError as error:
            raise InputError(f"{where} cannot be read ({error.strerror}); name an ONNX file") from error
        known = open_session(data, where, "get the file again").get_modelmeta().custom_metadata_map
        if FACTS not in known:
            model = foreign_model(data, where, options)
            return FileModel(path, model.side, model.embed, model.said)
        exported = model_of(data, "onnx", where)
    else:
        exported = read_model(path)
    return FileModel(path, exported.facts["model"]["image_size"], exported.embed)


def is_foreign(model: object) -> bool:
    """Return whether a model is a network that lossbench did not export."""
    return isinstance(model, FileModel) and bool(model.said)


def read_embeddings_file(path: Path, unseen: UnseenPeople | None) -> EmbeddingsModel:
    """Read an .npz of ``embeddings`` [N, D] and ``files`` [N], as `lossbench embed` writes it; nothing is unpickled.

    ``files`` (or ``names``) are paths of the images, or their ends: an image has the row of the longest end of its path
    that is there. ``labels`` [N], if there, must group the images as the people's folders do. With ``labels`` alone,
    the rows are those of the query people and distractors in their order: sorted by person, then by file.

    Raises:
        InputError: it cannot be read, or does not hold these.
    """
    where = shown(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            _refuse_bomb(file.zip, where)
            arrays = {name: file[name] for name in ("embeddings", "files", "names", "labels") if name in file.files}
            held = list(file.files)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror or 'it is cut'}); write it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, BadZipFile, zlib.error) as error:
        raise InputError(f"{where} is damaged, or no .npz of arrays of numbers and texts; write it again") from error
    if "embeddings" not in arrays:
        raise InputError(f"{where} has no array 'embeddings' [N, D], but {some(held) or 'nothing'}; add it")
    found, labels = arrays["embeddings"], arrays.get("labels")
    names = arrays.get("files", arrays.get("names"))
    if found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        raise InputError(f"{where}: embeddings are {found.dtype} {list(found.shape)}; they should be float, [N, D]")
    for key, array in (("files", names), ("labels", labels)):
        if array is not None and array.shape != found.shape[:1]:
            raise InputError(f"{where}: {key} are {list(array.shape)} for {len(found)} embeddings; give one for each")
    embeddings = found.astype(np.float32)
    if names is None:
        return EmbeddingsModel(path, embeddings, *_in_order(where, labels, len(found), unseen))
    if names.dtype.kind != "U":
        raise InputError(f"{where}: files are {names.dtype}; they should be texts")
    rows: dict[str, int] = {}
    for row, name in enumerate(names.tolist()):
        key = name.replace("\\", "/").removeprefix("./")
        if key in rows:
            raise InputError(f"{where} has '{clipped(name)}' twice, in rows {rows[key]} and {row}; leave one out")
        rows[key] = row
    packed = (
        {}
        if unseen is None or isinstance(unseen.files[0], Path)
        else dict(zip(unseen.files, unseen.names, strict=True))
    )
    model = EmbeddingsModel(path, embeddings, rows, packed)
    if labels is not None and unseen is not None:
        _refuse_other_people(model, labels, unseen)
    return model


def _refuse_bomb(archive: ZipFile, where: str) -> None:
    """Refuse arrays that would fill the memory from a small file: no embeddings can be packed so tightly."""
    for one in archive.infolist():
        if one.file_size > _LARGE and one.file_size > _TIGHT * one.compress_size:
            raise InputError(
                f"{where} packs {one.file_size / 2**30:,.1f} GiB into {one.compress_size / 2**20:,.1f} MiB, as no "
                "embeddings can be; write it again"
            )


def _in_order(
    where: str, labels: npt.NDArray[Any] | None, count: int, unseen: UnseenPeople | None
) -> tuple[dict[str, int], dict[ImagePlace, str]]:
    """Return rows and names where rows are the images of the people in their order, which the labels must bear out."""
    if labels is None:
        raise InputError(f"{where} has no array 'files' [N], by which embeddings are found; add it")
    if unseen is None:
        raise InputError(f"{where} has labels and no 'files', so its rows can only be those of --data; add either")
    if count != len(unseen.files):
        raise InputError(
            f"{where} has {count:,} rows and no 'files'; they would be the {len(unseen.files):,} images of --data in "
            "their order, so give as many, or add 'files'"
        )
    people = [*(f"q{one}" for one in unseen.query.labels), *(f"d{one}" for one in unseen.distractors.labels)]
    order = [*unseen.query.rows, *unseen.distractors.rows]
    _refuse_other_groups(where, labels[order].tolist(), people, [unseen.names[row] for row in order])
    keys = [f"row {row}" for row in range(count)]
    return dict(zip(keys, range(count), strict=True)), dict(zip(unseen.files, keys, strict=True))


def _refuse_other_people(model: EmbeddingsModel, labels: npt.NDArray[Any], unseen: UnseenPeople) -> None:
    """Refuse labels that do not group the images as the people's folders do."""
    own, people, names = [], [], []
    for kind, part in (("q", unseen.query), ("d", unseen.distractors)):
        for row, label in zip(part.rows, part.labels, strict=True):
            if (found := model.row(unseen.files[row])) is not None:
                own.append(labels[found].item())
                people.append(f"{kind}{label}")
                names.append(unseen.names[row])
    _refuse_other_groups(shown(model.source), own, people, names)


def _refuse_other_groups(where: str, labels: Sequence[Any], people: Sequence[str], names: Sequence[str]) -> None:
    person_of: dict[Any, tuple[str, str]] = {}
    label_of: dict[str, tuple[Any, str]] = {}
    for label, person, name in zip(labels, people, names, strict=True):
        other, first = person_of.setdefault(label, (person, name))
        known, before = label_of.setdefault(person, (label, name))
        if other != person or known != label:
            apart = first if other != person else before
            says = "the same label" if other != person else "different labels"
            raise InputError(
                f"the labels of {where} contradict the folders of --data: {shown(apart)} and {shown(name)} have "
                f"{says}; give the rows in the order of the files, or their names as 'files'"
            )
