"""What a user can say about a preparation. Imports nothing heavy: the command line shows these options in its help."""

from dataclasses import dataclass
from typing import ClassVar

from lossbench.utils.settings import declare

DEFAULT_IDENTITIES = 200  # as many as the reference write-up took
MOST_UNSEEN = 50  # pairs are quadratic in them
CROP_NAMES = ("arcface", "tight", "loose")  # of align.CROPS
FACE_NAMES = ("largest", "centre")


@dataclass(frozen=True)
class SplitOptions:
    """Who is in which part; None means a default that suits the collection."""

    identities: int | None = declare(
        None,
        help="The N people with the most images are the closed set.",
        default_text=f"{DEFAULT_IDENTITIES}, or 7 in 10 people",
    )
    min_images: int = declare(5, help="Only people with this many images.")
    query_identities: int | None = declare(
        None, help="People for query/.", default_text="up to a quarter of --identities"
    )
    distractor_identities: int | None = declare(
        None, help="People for distractors/.", default_text="up to a quarter of --identities"
    )
    val: float = declare(0.15, help="Share of a person's images for val/.")
    test: float = declare(0.15, help="Share of a person's images for test/.")
    seed: int = declare(0, help="Decides every draw.")

    may_lack_unseen: ClassVar[bool] = False  # whether nobody need be held out for query and distractors

    def sizes(self, people: int) -> tuple[int, int, int]:
        """Return how many people are in the closed set, query and distractors, of so many with enough images."""
        closed = min(DEFAULT_IDENTITIES, people * 7 // 10) if self.identities is None else self.identities
        share = max(1, min(closed // 4, (people - closed) // 2))
        query = max(2, share) if self.query_identities is None else self.query_identities
        return closed, query, share if self.distractor_identities is None else self.distractor_identities


@dataclass(frozen=True)
class TrainingSetOptions(SplitOptions):
    """Who is in which part of a set made for training: most people, and most of their images, are trained on."""

    identities: int | None = declare(
        None, help="The N people with the most images are the closed set.", default_text="all others"
    )
    query_identities: int | None = declare(
        None, help="People for query/; 0 for none.", default_text=f"1 in 10, at most {MOST_UNSEEN}"
    )
    distractor_identities: int | None = declare(
        None, help="People for distractors/; 0 for none.", default_text="as many as for query/"
    )
    val: float = declare(0.05, help="Share of a person's images for val/.")
    test: float = declare(0.05, help="Share of a person's images for test/.")

    may_lack_unseen: ClassVar[bool] = True

    def sizes(self, people: int) -> tuple[int, int, int]:
        """Return how many people are in the closed set, query and distractors, of so many with enough images."""
        left = people if self.identities is None else max(0, people - self.identities)
        few = min(MOST_UNSEEN, people // 10, left // 2)
        query = (few if few > 1 else 0) if self.query_identities is None else self.query_identities
        distractors = (
            max(0, min(query, left - query)) if self.distractor_identities is None else self.distractor_identities
        )
        return people - query - distractors if self.identities is None else self.identities, query, distractors


@dataclass(frozen=True)
class CropOptions:
    """How a photo becomes a crop."""

    size: int = declare(112, low=32, high=1024, help="Pixels per side of a crop.")
    crop: str = declare("arcface", choices=CROP_NAMES, help="ArcFace's crop, the face alone, or the whole head.")


@dataclass(frozen=True)
class DetectOptions:
    """Which detected face is a photo's, and which are left out."""

    face: str = declare("largest", choices=FACE_NAMES, help="With --detect: which face of several is taken.")
    min_face: int = declare(
        50,
        low=12,
        high=10_000,
        help="With --detect: faces lower than this many pixels are left out; a crop of 112 pixels enlarges 50 twice.",
    )
    max_turn: float = declare(
        0.5,
        low=0.0,
        high=10.0,
        help="With --detect: how far the nose may be from the middle between the eyes, along their line, in eye "
        "distances: 0 in a frontal face, 0.5 right below an eye. Faces turned further are left out.",
    )
