"""A collection with the faces that were detected in it: landmarks, notes, and the files that tell of them."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.detection import Found, detect_faces, detections_text, read_detections
from lossbench.data.prepare.doubtful import SHEET, doubtful_sheet
from lossbench.data.prepare.face_choice import (
    LEFT_OUT,
    LOW,
    NO_FACE,
    ODD,
    SEVERAL,
    SMALL,
    TURNED,
    UNSURE,
    Choice,
    choose_face,
)
from lossbench.data.prepare.mtcnn import detector_version
from lossbench.data.prepare.options import DetectOptions
from lossbench.data.prepare.target import DETECTIONS
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.text import listed, shown, some

LANDMARKS = "landmarks.csv"
_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
_COLUMNS = (
    "path",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    *("confidence", "box_x", "box_y", "box_width", "box_height", "faces", "remark"),
)


@dataclass(frozen=True)
class Detection:
    """What is asked for: which faces, whether photos without one are kept, and what is called meanwhile.

    Kept photos are cropped about their centre. `on_notes` gets what is to be said of the photos, before any is cropped.
    """

    options: DetectOptions
    keep: bool = False
    on_progress: Callable[[int, int], None] = lambda done, total: None
    on_notes: Callable[[Sequence[str]], None] = lambda notes: None

    def parameters(self) -> dict[str, Any]:
        """Return what of it decides the result."""
        return {"detect": asdict(self.options), "detector": detector_version()}


def look(collection: Collection, detection: Detection, least: int, known: Path, journal: Path | None) -> "Detected":
    """Find the faces of everybody with enough photos, and choose one in each photo.

    Args:
        collection: the photos.
        detection: what is asked for.
        least: photos that a person needs to be used at all.
        known: what an earlier try found, if it is there.
        journal: where what is found is kept as it comes.

    Raises:
        InputError: photos that cannot be read.
        OSError: the journal cannot be written.
    """
    counts = collection.per_person()
    photos = {_name(photo): photo for photo in collection.photos if counts[photo.person] >= least}
    files = {name: photo.path for name, photo in photos.items()}
    found = detect_faces(files, read_detections(known), journal, detection.on_progress)
    return Detected(photos, found, {name: choose_face(files[name], found[name], detection.options) for name in photos})


def _name(photo: Photo) -> str:
    return f"{photo.person}/{photo.path.name}"


@dataclass(frozen=True)
class Detected:
    """What was found in the photos of a collection, and which face was chosen, by ``person/file``."""

    photos: Mapping[str, Photo]
    found: Mapping[str, Found]
    choices: Mapping[str, Choice]

    def collection(self, before: Collection, detection: Detection) -> Collection:
        """Return a collection with landmarks and notes, by what was asked for.

        Raises:
            InputError: no face is used, and photos without one are not kept.
        """
        options, keep = detection.options, detection.keep
        if not keep and not any(choice.landmarks for choice in self.choices.values()):
            raise InputError(_none_used(before, self.choices, options))
        photos = []
        for photo in before.photos:
            choice = self.choices.get(name := _name(photo))
            if choice is None:  # of somebody with too few photos
                photos.append(photo)
            elif choice.landmarks is not None or keep:
                photos.append(replace(photo, landmarks=choice.landmarks, facts={**photo.facts, **self._facts(name)}))
        return replace(before, photos=tuple(photos), notes=(*before.notes, *self._notes(options, keep)))

    def _facts(self, name: str) -> dict[str, str]:
        face = self.choices[name].face
        if face is None:
            return {"faces": "0"}
        box = " ".join(f"{value:g}" for value in face.box)
        return {"faces": str(len(self.found[name].faces)), "confidence": f"{face.confidence:g}", "box": box}

    def _notes(self, options: DetectOptions, keep: bool) -> list[str]:
        left = "cropped about the centre" if keep else "left out"
        what = {
            NO_FACE: f"show no face and are {left}",
            SMALL: f"show a face of fewer than {options.min_face} pixels (--min-face) and are {left}",
            TURNED: f"show a face turned beyond {options.max_turn:g} (--max-turn) and are {left}",
            ODD: f"show a face that the border cuts, or points that are no face's, and are {left}",
            SEVERAL: f"show several faces, of which the {_which(options)} is used",
            LOW: f"show a face that is not certain (confidence below {UNSURE:g}), which is used",
        }
        notes = []
        for doubt, said in what.items():
            if names := [name for name, choice in self.choices.items() if choice.doubt == doubt]:
                notes.append(f"{len(names):,} of {len(self.choices):,} photos {said}: {some(names)}")
        return notes

    def write(self, folder: Path) -> None:
        """Write the landmarks, all faces found, and a sheet of the doubtful photos, if there are any.

        Raises:
            InputError: a photo can no longer be read.
            OSError: the folder cannot be written.
        """
        write_bytes(folder / LANDMARKS, self.csv().encode())
        write_bytes(folder / DETECTIONS, detections_text(self.found).encode())
        if any(choice.doubt for choice in self.choices.values()):
            files = {name: photo.path for name, photo in self.photos.items()}
            write_bytes(folder / SHEET, doubtful_sheet(files, self.choices))

    def csv(self) -> str:
        """Return the landmarks as `read_landmark_csv` reads them; a photo that is left out has none."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for name, choice in self.choices.items():
            points = [repr(value) for value in choice.landmarks or ()] or [""] * 10
            face = choice.face
            about = [""] * 5 if face is None else [repr(value) for value in (face.confidence, *face.box)]
            rows.writerow([name, *points, *about, len(self.found[name].faces), choice.remark])
        return text.getvalue()


def _which(options: DetectOptions) -> str:
    return "largest" if options.face == "largest" else "one nearest the centre"


def _none_used(collection: Collection, choices: Mapping[str, Choice], options: DetectOptions) -> str:
    counts = {doubt: sum(choice.doubt == doubt for choice in choices.values()) for doubt in LEFT_OUT}
    if counts[NO_FACE] == len(choices):
        what = f"finds no face in the {len(choices):,} photos of {shown(collection.root)}"
        return f"--detect {what}; give photos of people, or add --keep-undetected to crop the centre"
    names = {
        SMALL: f"too small (--min-face {options.min_face})",
        TURNED: f"too turned (--max-turn {options.max_turn:g})",
    }
    reasons = listed([f"{count:,} {names.get(doubt, doubt)}" for doubt, count in counts.items() if count])
    return f"--detect finds no face to use in the {len(choices):,} photos of {shown(collection.root)}: {reasons}"
