"""The images on which two losses disagree, from the data set: for `--faces` alone, and where the data allows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.data.catalogue import data_info, open_data, refuse_faces
from lossbench.errors import InputError
from lossbench.report.disagreements import Disagreed
from lossbench.utils.files import is_folder
from lossbench.utils.text import shown

if TYPE_CHECKING:
    from PIL import Image

    from lossbench.data.faces import FaceSet

_WITHOUT = "or leave --faces out"


@dataclass(frozen=True)
class FaceImages:
    """Where two losses disagree, and the data set that its images are in."""

    apart: Disagreed
    faces: "FaceSet"

    def image(self, place: int) -> "Image.Image":
        """Return an image, RGB, by its place among the query images and then the distractors.

        Raises:
            InputError: it cannot be read or decoded.
        """
        from lossbench.data.images.decode import decode, read_bytes

        split = self.faces.split(self.apart.repeat)
        file = self.faces.files[(*split.query.rows, *split.distractors.rows)[place]]
        return decode(read_bytes(file), file)


def face_images(
    settings: Mapping[str, Any], apart: Disagreed | None, *, provisional: bool = False
) -> FaceImages | None:
    """Return the images of disagreements, after a check that they may be shown and are those of the runs.

    None where there is no disagreement yet, in a benchmark that still runs.

    Args:
        settings: the content of benchmark.toml, which says where the data is.
        apart: where the two best losses disagree.
        provisional: whether runs are missing.

    Raises:
        InputError: the data does not allow it, is not there, or is not what the runs saw; or there is no disagreement.
    """
    data = settings["data"]
    refuse_faces(data)
    if apart is None and provisional:
        return None
    if apart is None:
        raise InputError(
            "--faces shows the pairs on which two losses disagree, and these runs have no two losses with embeddings "
            "of unseen people; leave --faces out"
        )
    if data_info(data).is_folder and not is_folder(Path(data)):
        raise InputError(
            f"--faces reads the images of {shown(data)}, which is not there; restore the folder, {_WITHOUT}"
        )
    chosen = {name: settings.get(name) for name in ("identities", "min_images", "images_per_identity")}
    if odd := [name for name, value in chosen.items() if not isinstance(value, int | None)]:
        raise InputError(f"{odd[0]} in benchmark.toml is {chosen[odd[0]]!r}, not a number; run the benchmark again")
    faces = open_data(data, **chosen)
    if faces.fingerprint(apart.repeat) != apart.split:
        raise InputError(
            f"--faces {shown(data)} holds other images than those of these runs; put them back, {_WITHOUT}"
        )
    return FaceImages(apart, faces)
