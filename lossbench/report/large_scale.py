"""What a very large data set would need, computed from measured bytes and seconds per unit: `explain large-scale`.

The units stand here, each with the command that measures it, and every figure that is printed is computed from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

TOPIC, TITLE = "large-scale", "what 93 million images of 2 million people would need"
IMAGES, PEOPLE, SIDE, DIM, QUERY = 93_000_000, 2_000_000, 112, 512, 10_000
RANKS, BATCH = 8, 1024
_MIB = 2**20
#: growth.py: images of its two sizes, and MiB of two phases with each
_GROWN = 126_032 - 17_933


class Unit(NamedTuple):
    """Bytes or seconds of one thing, and the command that measures them, in tests/perf."""

    amount: float
    of: str
    command: str


LISTED = Unit((370 - 298) * _MIB / _GROWN, "an image", "growth.py")
OPENED = Unit(1.97e-5, "an image", "units.py")
MANIFEST = Unit(211, "an image", "units.py")
STORED = Unit(37_665, f"an image of {SIDE} px", "units.py")
DECODED = Unit(2.65e-4, f"an image of {SIDE} px", "units.py")
TRAINED = Unit(1984 * _MIB / (1_000_000 * 128), "a class weight", "ranks.py")
STEPPED = Unit(1 / 5595, "an image, resnet18, H200", "training.py --device cuda")
EMBEDDED = Unit((563 - 409) * _MIB / _GROWN, "an image, D = 128", "growth.py")
MEASURED = Unit((1822 - 606) * _MIB / _GROWN, "an image, D = 128", "growth.py")
COMPARED = Unit(2.03e-8, f"a pair of {DIM} numbers", "units.py")


@dataclass(frozen=True)
class Need:
    """What one part of the work takes: bytes of disk, memory or GPU memory, or seconds of a core or a GPU."""

    what: str
    kind: str
    count: float
    unit: Unit

    @property
    def amount(self) -> float:
        """Bytes or seconds."""
        return self.count * self.unit.amount


@dataclass(frozen=True)
class Machine:
    """What there is, in bytes, and how many GPUs share the class weights."""

    name: str
    disk: float
    memory: float
    gpu: float
    gpus: int


MACHINES = (
    Machine("a laptop: 1 TB disk, 16 GB memory, no GPU", 1e12, 16e9, 0, 0),
    Machine("a workstation: 4 TB, 128 GB, one GPU of 24 GB", 4e12, 128e9, 24e9, 1),
    Machine("a server: 15 TB, 2 TB, eight GPUs of 80 GB", 15e12, 2e12, 80e9, 8),
)


def needs(images: int = IMAGES, people: int = PEOPLE) -> tuple[Need, ...]:
    """Return what so many images of so many people need, in the order in which a run meets it."""
    return (
        Need("list of the images", "memory", images, LISTED),
        Need("opening the folder", "core", images, OPENED),
        Need("split.json", "disk", images, MANIFEST),
        Need("packed store", "disk", images, STORED),
        Need("decoding", "core", images, DECODED),
        Need("class weights, AdamW", "GPU memory", people * DIM, TRAINED),
        Need("one epoch, without the scores", "GPU", images, STEPPED),
        Need("embedding all images", "memory", images, EMBEDDED),
        Need("measuring", "memory", images, MEASURED),
        Need(f"{QUERY:,} query images, all others", "core", QUERY * images, COMPARED),
    )


def first_wall(machine: Machine, of: Sequence[Need]) -> Need | None:
    """Return what a run meets first that does not fit on a machine; None where all does.

    Class weights are shared out over its GPUs, or lie in memory where it has none.
    """
    room = {"disk": machine.disk, "memory": machine.memory, "GPU memory": machine.gpu * machine.gpus or machine.memory}
    left = dict(room)
    for need in of:
        if need.kind not in room:
            continue
        if need.amount > left[need.kind]:
            return need
        if need.kind == "disk":  # what lies there stays
            left["disk"] -= need.amount
    return None


def lines() -> list[str]:
    """Return the text, at most a screen."""
    every = needs()
    found = [
        f"What {_words(IMAGES)} images of {_words(PEOPLE)} people would need, computed from units measured on less:",
        f"{SIDE} px, D = {DIM}, ArcFace. WebFace260M as collected: 260,890,076 faces of 4,008,130 people; cleaned",
        "(WebFace42M): 42,474,558 of 2,059,906 (Zhu et al. 2022, arXiv:2204.10149). tests/perf/ holds the commands.",
        "",
    ]
    found += [
        f"  {need.what:<33}{_amount(need):<22}{_unit(need.unit)} {need.unit.of} ({need.unit.command})" for need in every
    ]
    found += ["", "The first wall, in the order of a run:"]
    for machine in MACHINES:
        wall = first_wall(machine, every)
        what = f"{wall.what}: {_amount(wall)}" if wall else "none of these at D = 128"
        found.append(f"  {machine.name:<47} {what}")
    shared = next(need for need in every if need.kind == "GPU memory").amount
    scores = 6 * PEOPLE * DIM  # operations an image: a product forward and two backward, each a multiply and an add
    found += [
        "",
        f"That epoch knows 40 people. The scores of {_words(PEOPLE)} take {scores / 1e9:.2g} GFLOP an image more,",
        f"twice what resnet18 does: {IMAGES * scores / 1e15:.0f} PFLOP an epoch, a tenth with --sample-centers 0.1.",
        f"torchrun shares the class weights out: {_size(shared / RANKS)} in each of {RANKS} processes. Each gathers",
        f"the embeddings of every batch: {_size(BATCH * DIM * 4)} for {BATCH:,} images. Those of all images are",
        f"{_size(IMAGES * DIM * 4)} (--keep-embeddings). Measuring holds all of them in one process, and is the first",
        "thing to change; for query images and distractors in files there is identification_rate_of_files.",
    ]
    return found


def _amount(need: Need) -> str:
    if need.kind in ("core", "GPU"):
        return f"{need.amount / 3600:.1f} hours of one {need.kind}"
    return f"{'over ' if need.unit.of.endswith('D = 128') else ''}{_size(need.amount)} {need.kind}"


def _unit(unit: Unit) -> str:
    if unit.amount >= 1:
        return f"{unit.amount:,.0f} bytes"
    return f"{unit.amount * 1e6:.3g} µs" if unit.amount >= 1e-6 else f"{unit.amount * 1e9:.3g} ns"


def _size(amount: float) -> str:
    factor, name = next((f, n) for f, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if amount >= f)
    return f"{amount / factor:.3g} {name}"


def _words(count: int) -> str:
    return f"{count // 1_000_000} million"
