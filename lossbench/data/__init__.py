"""Data sets: where the images are, who is on them, which split each belongs to, and how they become batches."""

from lossbench.data.faces import FaceSet, Part, Split
from lossbench.data.folders import PARTS, read_tree
from lossbench.data.orl import read_orl

__all__ = ["PARTS", "FaceSet", "Part", "Split", "open_data"]


def open_data(
    name: str,
    *,
    identities: int | None = None,
    min_images: int | None = None,
    images_per_identity: int | None = None,
) -> FaceSet:
    """Open a data set by name (`orl`) or a tree on disk by its path.

    Args:
        name: ``orl`` or a folder.
        identities: keep the N closed-set people with the most training images; all when None.
        min_images: keep the closed-set people with at least as many training images.
        images_per_identity: keep at most so many training images of a person.

    Raises:
        InputError: nothing there, or a tree that no split can be read from.
    """
    faces = read_orl() if name == "orl" else read_tree(name)
    return faces.select(identities=identities, min_images=min_images, images_per_identity=images_per_identity)
