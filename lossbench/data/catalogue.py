"""The data sets that `lossbench list data` shows; not in lossbench.data, whose import takes as long as the list."""

from typing import NamedTuple

from lossbench.data.faces import FaceSet
from lossbench.data.orl import read_orl
from lossbench.data.tree import read_tree


class DataInfo(NamedTuple):
    """What a data set is, and whom to credit for it."""

    what: str
    credit: str


DATA = {
    "orl": DataInfo("40 people x 10 grey images, 92x112; 5 class-disjoint folds", "AT&T Laboratories Cambridge"),
    "DIR": DataInfo("your own faces: DIR/{train,val,test,query,distractors}/PERSON/IMAGE", "you"),
}


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
