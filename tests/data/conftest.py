"""Small face-like pictures, made here: no data set is needed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import draw_face


@pytest.fixture
def face_tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes PERSON/FILE.png for people with so many images each, and a landmark CSV."""

    def write(counts: dict[str, int], *, name: str = "faces") -> Path:
        root = tmp_path / name
        rows = ["path," + ",".join(f"{axis}{i}" for i in range(1, 6) for axis in "xy")]
        for person, count in counts.items():
            (root / person).mkdir(parents=True)
            for i in range(count):
                image, points = draw_face(hash_of(person, i))
                image.save(root / person / f"{i:03d}.png", compress_level=1)  # a quarter of the time
                rows.append(f"{person}/{i:03d}.png," + ",".join(map(str, points)))
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
        return root

    return write


def hash_of(person: str, i: int) -> int:
    return sum(ord(c) * 31**k for k, c in enumerate(person)) * 1000 + i


@pytest.fixture
def celeba_root(tmp_path: Path) -> Path:
    """Write CelebA's official layout in small: 12 people with 6 images each, and two listed images that are absent."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    identities, partitions, marks = [], [], []
    for number in range(1, 75):
        name = f"{number:06d}.jpg"
        identities.append(f"{name} {number % 12 + 1}")
        partitions.append(f"{name} {number % 3}")
        if number > 72:
            continue
        image, points = draw_face(number)
        image.save(root / "img_align_celeba" / name, quality=95)
        marks.append(f"{name} " + " ".join(f"{round(p):4d}" for p in points))
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (root / "identity_CelebA.txt").write_text("\n".join(identities) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(partitions))  # as published: no newline at the end
    (root / "list_landmarks_align_celeba.txt").write_text("\n".join([str(len(marks)), header, *marks]) + "\n")
    return root
