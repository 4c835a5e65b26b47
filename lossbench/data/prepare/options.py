"""What a user can say about a preparation. Imports nothing heavy: the command line shows these options in its help."""

from dataclasses import dataclass

from lossbench.utils.settings import declare

DEFAULT_IDENTITIES = 200  # as many as the reference write-up took
CROP_NAMES = ("arcface", "tight", "loose")  # of align.CROPS


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


@dataclass(frozen=True)
class CropOptions:
    """How a photo becomes a crop."""

    size: int = declare(112, low=32, high=1024, help="Pixels per side of a crop.")
    crop: str = declare("arcface", choices=CROP_NAMES, help="ArcFace's crop, the face alone, or the whole head.")
