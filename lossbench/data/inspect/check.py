"""Find what is wrong with a tree, and which operating points its query people support. Changes nothing."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.left_out import left_out_of_tree
from lossbench.data.packed import open_packed
from lossbench.data.prepare.duplicates import Thumbnails, near_duplicates, thumbnail
from lossbench.data.set_files import SPLIT, is_packed
from lossbench.data.split_file import SplitFile
from lossbench.data.tree import AT_LEAST, CLOSED, PARTS, has_image_suffix
from lossbench.errors import InputError
from lossbench.utils.files import check_name, is_folder, listed, write_bytes
from lossbench.utils.processes import in_parallel
from lossbench.utils.text import rate_text, shown


@dataclass(frozen=True)
class Finding:
    """One line of the check; `details` holds everything that was found.

    `verdict` is ok; note (worth knowing); flaw (a run refuses it); or leak (it makes a run's figures too good).
    """

    check: str
    verdict: str
    count: int
    text: str
    details: Sequence[Any] = field(default_factory=tuple)


_FLAT = 4.0  # standard deviation of the grey values, of which black has 0 and faces of ORL and CelebA have 22 and more


@dataclass(frozen=True)
class Look:
    """One image: its place and content, or why it cannot be used; no SHA-256 if it cannot be read.

    `path` is its path in the tree, or its name in a set whose images are packed in another file.
    """

    part: str
    person: str
    file: ImagePlace
    path: str
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    thumbnail: Thumbnails | None = None
    error: str = ""
    contrast: float = 0.0

    @property
    def name(self) -> str:
        """Its path in one line."""
        return shown(self.path)


def check_tree(root: Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> list[Finding]:
    """Check a tree of {train,val,test,query,distractors}/PERSON/IMAGE.

    Args:
        root: the tree.
        on_progress: called with images looked at and images in all.

    Returns:
        Findings in a fixed order.

    Raises:
        InputError: no such folder, or no images in it.
    """
    images = list(_walk(root))
    if not images:
        raise InputError(
            f"{shown(root)} holds no images in {', '.join(f'{p}/PERSON/' for p in PARTS)}; see data prepare"
        )
    looks = []
    for look in in_parallel(_look, images):
        looks.append(look)
        on_progress(len(looks), len(images))
    good = [look for look in looks if not look.error]
    return [
        _manifest(root, looks),
        _unreadable(looks),
        _left_out(root, looks),
        _sizes(good),
        _flat(good),
        *_duplicates(good),
        _overlap(looks),
        _too_few(root, looks),
        _imbalance(looks),
        *_operating_points(looks),
    ]


def write_findings(path: Path, root: Path, findings: Iterable[Finding]) -> None:
    """Write findings as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    found = {"folder": shown(root), "findings": [asdict(finding) for finding in findings]}
    try:
        write_bytes(path, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise InputError(f"--json {shown(path)} cannot be written ({error.strerror}); choose another place") from error


def _walk(root: Path) -> Iterable[Look]:
    if not is_folder(root):
        raise InputError(f"no folder {shown(root)}; lossbench data check takes a prepared tree")
    if is_packed(root):
        packed = open_packed(root)
        for image, name in zip(packed.images, packed.names(), strict=True):
            own, who, _ = name.split("/")
            yield Look(own, who, image, name)
        return
    for part in PARTS:
        for person in _people(root / part):
            if not is_folder(person):  # a link that leads nowhere or in a circle
                yield Look(part, shown(person.name), person, person.relative_to(root).as_posix())
                continue
            for file in filter(has_image_suffix, listed(person)):
                yield Look(part, shown(person.name), file, file.relative_to(root).as_posix())


def _people(part: Path) -> list[Path]:
    return [entry for entry in listed(part) if is_folder(entry) or entry.is_symlink()] if is_folder(part) else []


def _look(look: Look) -> Look:
    """Open one image; runs in a worker process."""
    sha256 = ""
    try:
        if isinstance(look.file, Path):
            check_name(look.file.parent)
            check_name(look.file)
        data = read_bytes(look.file)
        sha256 = hashlib.sha256(data).hexdigest()
        image = decode(data, look.file)
    except InputError as error:
        return replace(look, sha256=sha256, error=str(error))
    contrast = float(np.asarray(image.convert("L"), dtype=np.float32).std())
    return replace(look, sha256=sha256, size=image.size, thumbnail=thumbnail(image), contrast=contrast)


def _manifest(root: Path, looks: Sequence[Look]) -> Finding:
    try:
        split_file = SplitFile.of(root)
        if split_file is None:
            return Finding(SPLIT, "note", 0, "none: files that moved since the split was made cannot be detected")
    except InputError as error:
        return Finding(SPLIT, "flaw", 1, str(error))
    names = [look.path for look in looks]
    digests = {name: look.sha256 for name, look in zip(names, looks, strict=True) if look.sha256}
    if is_packed(root):
        unread = set(names) - set(digests)
        faults = open_packed(root).content_faults([look.sha256 for look in looks])
    else:
        unread = set(split_file.listed) & set(names) - set(digests)
        faults = split_file.layout_faults(names) + split_file.content_faults(list(digests), list(digests.values()))
    faults += [f"{shown(root / name)} cannot be read, so a change cannot be detected" for name in sorted(unread)]
    if faults:
        text = f"of {len(names):,} files {len(digests):,} were compared with it: {_some(faults)}"
        return Finding(SPLIT, "flaw", len(faults), text, faults)
    return Finding(SPLIT, "ok", len(names), f"all {len(names):,} files are in place and have the listed SHA-256")


def _left_out(root: Path, looks: Sequence[Look]) -> Finding:
    lines = left_out_of_tree(root, [look.file for look in looks])
    return Finding("files that are not read", "note" if lines else "ok", len(lines), _some(lines), lines)


def _unreadable(looks: Sequence[Look]) -> Finding:
    bad = [look.error for look in looks if look.error]
    return Finding("unreadable images", "flaw" if bad else "ok", len(bad), _some(bad), bad)


def _sizes(looks: Sequence[Look]) -> Finding:
    sizes = Counter(look.size for look in looks).most_common()
    usual = sizes[0][0] if sizes else (0, 0)
    odd = [f"{look.name} {look.size[0]}x{look.size[1]}" for look in looks if look.size != usual]
    if not odd and usual[0] != usual[1]:
        text = f"all are {usual[0]}x{usual[1]}, not square: a run takes the centre square"
        return Finding("wrong sizes", "note", len(looks), text)
    return Finding("wrong sizes", "note" if odd else "ok", len(odd), _some(odd) or f"all {usual[0]}x{usual[1]}", odd)


def _flat(looks: Sequence[Look]) -> Finding:
    flat = [f"{look.name} (contrast {look.contrast:.1f} of 255)" for look in looks if look.contrast < _FLAT]
    text = f"{_some(flat)}: no face can be seen; were the landmarks those of other images?" if flat else ""
    return Finding("flat images", "note" if flat else "ok", len(flat), text, flat)


def _duplicates(looks: Sequence[Look]) -> list[Finding]:
    thumbnails = [look.thumbnail for look in looks if look.thumbnail is not None]
    found_pairs = near_duplicates(np.stack(thumbnails)) if thumbnails else []
    within: list[dict[str, Any]] = []
    closed: list[dict[str, Any]] = []
    beyond: list[dict[str, Any]] = []
    for pair in found_pairs:
        a, b = looks[pair.a], looks[pair.b]
        found = {
            "a": a.name,
            "b": b.name,
            "correlation": round(pair.correlation, 4),
            "identical": a.sha256 == b.sha256,
            "same_person": a.person == b.person,
        }
        if a.part == b.part:
            within.append(found)
        else:
            (closed if {a.part, b.part} <= set(CLOSED) else beyond).append(found)
    return [
        Finding(f"near-duplicates {where}", verdict if pairs else "ok", len(pairs), _pairs_text(pairs), pairs)
        for where, verdict, pairs in (
            ("in one split", "note", within),
            ("across train, val, test", "leak", closed),
            ("across closed set, query, distractors", "leak", beyond),
        )
    ]


def _pairs_text(pairs: Sequence[dict[str, Any]]) -> str:
    if not pairs:
        return ""
    scores = sorted(pair["correlation"] for pair in pairs)
    different = sum(not pair["same_person"] for pair in pairs)
    identical = sum(pair["identical"] for pair in pairs)
    best = max(pairs, key=lambda pair: pair["correlation"])
    names = f"{different} under two names: wrong labels?" if different else "none under two names;"
    return (
        f"correlation {scores[0]:.2f} to {scores[-1]:.2f}, half above {scores[len(scores) // 2]:.2f}; {identical} "
        f"identical files; {names} e.g. {best['a']} = {best['b']}"
    )


def _overlap(looks: Sequence[Look]) -> Finding:
    people = {part: {look.person for look in looks if look.part == part} for part in PARTS}
    closed = set().union(*(people[part] for part in CLOSED))
    both = [
        *(f"{person} is in the closed set and in query" for person in sorted(closed & people["query"])),
        *(f"{person} is in the closed set and in distractors" for person in sorted(closed & people["distractors"])),
        *(f"{person} is in query and in distractors" for person in sorted(people["query"] & people["distractors"])),
    ]
    return Finding("people in two sets", "leak" if both else "ok", len(both), _some(both), both)


def _too_few(root: Path, looks: Sequence[Look]) -> Finding:
    counts = Counter((look.part, look.person) for look in looks)
    train = {person for part, person in counts if part == "train"}
    if is_packed(root):
        wrong = [f"{part} is empty" for part in CLOSED if part not in {part for part, _ in counts}]
    else:
        wrong = [f"no folder {part}/" for part in PARTS if not is_folder(root / part)]
    for part in PARTS:
        folders = _people(root / part)
        if not folders and is_folder(root / part):
            wrong.append(f"{part}/ is empty")
        for folder in folders:
            counts.setdefault((part, shown(folder.name)), 0)  # no image in it was checked
    for (part, person), count in sorted(counts.items()):
        if count < AT_LEAST[part]:
            wrong.append(f"{part}/{person} holds {count} image{'' if count == 1 else 's'}, needs {AT_LEAST[part]}")
        if part in CLOSED and person not in train:
            wrong.append(f"{part}/{person} is not in train")
    return Finding("too few images or people", "flaw" if wrong else "ok", len(wrong), _some(wrong), wrong)


def _imbalance(looks: Sequence[Look]) -> Finding:
    counts = sorted(Counter(look.person for look in looks if look.part == "train").values())
    if not counts:
        return Finding("images per training person", "flaw", 0, "train is empty")
    ratio = counts[-1] / counts[0]
    text = f"{counts[0]} to {counts[-1]}, median {counts[len(counts) // 2]}: the most is {ratio:.1f} times the fewest"
    return Finding("images per training person", "note" if ratio > 5 else "ok", len(counts), text, counts)


def _operating_points(looks: Sequence[Look]) -> list[Finding]:
    per_person = Counter(look.person for look in looks if look.part == "query")
    query, distractors = sum(per_person.values()), sum(look.part == "distractors" for look in looks)
    positives = sum(count * (count - 1) // 2 for count in per_person.values())
    negatives = query * (query - 1) // 2 - positives + query * distractors
    from lossbench.metrics.operating_point import DEFAULT_FPRS, FURTHER_FPRS, is_supported, is_thin  # imports torch

    rows = [
        {"fpr": fpr, "supported": is_supported(fpr, negatives), "thin": is_thin(fpr, negatives)}
        for fpr in (*DEFAULT_FPRS, *FURTHER_FPRS)
    ]
    supported = ", ".join(rate_text(row["fpr"]) for row in rows if row["supported"]) or "none"
    thin = ", ".join(rate_text(row["fpr"]) for row in rows if row["thin"])
    missing = ", ".join(rate_text(row["fpr"]) for row in rows if not row["supported"])
    verdict = "ok" if positives and is_supported(DEFAULT_FPRS[-1], negatives) else "note"
    text = f"{positives:,} pairs of one person, {negatives:,} of two; supported FPRs: {supported}"
    text += f" (by fewer than ten negatives: {thin})" if thin else ""
    return [Finding("identification rate", verdict, positives, text + (f"; not {missing}" if missing else ""), rows)]


def _some(lines: Sequence[str]) -> str:
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3:,} more" if len(lines) > 3 else "")
