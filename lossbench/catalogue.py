"""The data sets that `lossbench list data` shows; not in lossbench.data, whose import takes as long as the list."""

from typing import NamedTuple


class DataInfo(NamedTuple):
    """What a data set is, and whom to credit for it."""

    what: str
    credit: str


DATA = {
    "orl": DataInfo("40 people x 10 grey images, 92x112; 5 class-disjoint folds", "AT&T Laboratories Cambridge"),
    "DIR": DataInfo("your own faces: DIR/{train,val,test,query,distractors}/PERSON/IMAGE", "you"),
}
