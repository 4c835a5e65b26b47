"""``settled.json``: looks at a benchmark that adds repeats until it is settled, and what each of them decided.

A test repeated after every repeat would, sooner or later, find a difference between identical losses. So each look may
spend only a part of the level (`metrics.multiplicity.spent`), which depends on the largest number of repeats: that is
fixed before the first look, and another number is another plan, whose looks start again. What a look has decided stays.

The file is untrusted: its shape, its looks and their levels are checked when it is read.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.losses.plugin import UNTRAINED
from lossbench.metrics.multiplicity import spent
from lossbench.results.schema import Shape, fault_in
from lossbench.results.store import write_json
from lossbench.results.verdicts import LEVEL, Decided
from lossbench.utils.hashing import sha

FILE = "settled.json"
SCHEMA = 1
_MOST = 1000  # repeats


@dataclass(frozen=True)
class Plan:
    """What is fixed before the first look; another value of any of it makes it another plan.

    `protocol` is the hash of how the runs are trained and measured, `training` that of the former alone. `plugins`
    holds the fingerprint of each trained entrant's plugin, by entrant; `level` is that of all looks together.
    """

    protocol: str
    training: str
    plugins: Mapping[str, str]
    max_repeats: int
    smallest_difference: float
    level: float = LEVEL

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]], max_repeats: int, smallest_difference: float) -> "Plan":
        """Return the plan for the runs of one command."""
        records = list(records)
        plugins = {r["entrant"]: str(r.get("plugin")) for r in records if r["entrant"] != UNTRAINED}
        first = records[0]
        return cls(first["protocol_hash"], sha([first.get("protocol")]), plugins, max_repeats, smallest_difference)

    def level_of_look(self, repeats: int, before: int) -> float:
        """Return what a look after so many repeats may spend of the level, where the look before came at `before`.

        Example:
            >>> plan = Plan("", "", {}, max_repeats=20, smallest_difference=0.02)
            >>> [round(plan.level_of_look(repeats, before), 4) for repeats, before in ((3, 0), (4, 3), (20, 4))]
            [0.0115, 0.0033, 0.0352]
        """
        share, earlier = repeats / self.max_repeats, before / self.max_repeats
        return spent(share, self.level) - spent(earlier, self.level)


@dataclass(frozen=True)
class Decision:
    """What a look found of a pair at a figure, and no look before it: who is ahead, if anybody; whether equivalent."""

    figure: str
    a: str
    b: str
    ahead: str | None
    equivalent: bool


@dataclass(frozen=True)
class Look:
    """One look: the number of repeats that it saw, the level that it spent, and what it decided."""

    repeats: int
    level: float
    decided: tuple[Decision, ...]


@dataclass(frozen=True)
class Looks:
    """A plan and its looks so far.

    `figures` are the keys of the figures at which every pair is to be settled, `left_out` those that the data does not
    support. `replaced` describes earlier plans on the same runs. `ended` is the sentence that the command ended in.
    """

    plan: Plan
    figures: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    taken: tuple[Look, ...] = ()
    replaced: tuple[str, ...] = ()
    ended: str = ""

    @property
    def repeats(self) -> int:
        """The number of repeats at the last look; 0 before the first."""
        return self.taken[-1].repeats if self.taken else 0

    @property
    def level(self) -> float:
        """The level that the last look spent; that of the first before it."""
        return self.taken[-1].level if self.taken else self.plan.level_of_look(2, 0)

    def decided(self, figure: str, a: str, b: str) -> Decided:
        """Return what all looks together have decided of a pair: who was ahead first stays ahead."""
        found = [d for look in self.taken for d in look.decided if d.figure == figure and {d.a, d.b} == {a, b}]
        return Decided(next((d.ahead for d in found if d.ahead), None), any(d.equivalent for d in found))

    def fits(self, records: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether these records are of the plan's protocol and plugins, and of two of its entrants or more.

        Entrants outside the plan may be among them.
        """
        records = list(records)
        return len({record["entrant"] for record in records} & set(self.plan.plugins)) > 1 and all(
            record["protocol_hash"] == self.plan.protocol
            and self.plan.plugins.get(record["entrant"], str(record.get("plugin"))) == str(record.get("plugin"))
            for record in records
        )


def read_looks(benchmark: Path) -> Looks | None:
    """Return the looks in a benchmark's folder, or None where none has been taken.

    Raises:
        InputError: the file is damaged, or of a newer lossbench.
    """
    path = benchmark / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(f"{path} cannot be read ({error})") from error
    if isinstance(found, dict) and type(found.get("schema")) is int and found["schema"] > SCHEMA:
        raise InputError(f"{path} has schema {found['schema']}, this lossbench reads {SCHEMA}; upgrade lossbench")
    fault = fault_in(found, _SHAPE)
    if fault is not None:
        raise _damaged(f"{path} has no proper '{fault}'")
    looks = _built(found)
    if (wrong := _inconsistency(looks)) is not None:
        raise _damaged(f"{path}: {wrong}")
    return looks


def looks_at(benchmark: Path, records: Iterable[Mapping[str, Any]]) -> Looks | None:
    """Return the looks in a benchmark's folder if they are about these records.

    Raises:
        InputError: as `read_looks`.
    """
    looks = read_looks(benchmark)
    return looks if looks is not None and looks.fits(records) else None


def write_looks(benchmark: Path, looks: Looks) -> None:
    """Write the looks into a benchmark's folder, whole or not at all. Only one process may do so at a time.

    Raises:
        InputError: it cannot be written.
    """
    for half in benchmark.glob(f".{FILE}.*"):  # what a killed process left
        half.unlink(missing_ok=True)
    write_json(benchmark / FILE, {"schema": SCHEMA, **asdict(looks)})


def _damaged(what: str) -> InputError:
    return InputError(f"{what}; delete it and run the same command again, which looks at the finished runs again")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _repeats(value: Any) -> bool:
    return type(value) is int and 2 <= value <= _MOST


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1


_DECISION: Shape = {
    **dict.fromkeys(("figure", "a", "b"), _text),
    "ahead?": _text,
    "equivalent": lambda value: isinstance(value, bool),
}
_SHAPE: Shape = {
    "schema": lambda value: value == SCHEMA,
    "plan": {
        **dict.fromkeys(("protocol", "training"), _text),
        "plugins": {"*": _text},
        "max_repeats": _repeats,
        "smallest_difference": _share,
        "level": lambda value: _share(value) and value <= LEVEL,
    },
    "figures": [_text],
    "left_out": [_text],
    "taken": [{"repeats": _repeats, "level": _share, "decided": [_DECISION]}],
    "replaced": [_text],
    "ended": _text,
}


def _built(found: dict[str, Any]) -> Looks:
    plan = Plan(**{name: found["plan"][name] for name in Plan.__dataclass_fields__})
    taken = tuple(
        Look(
            look["repeats"],
            look["level"],
            tuple(Decision(d["figure"], d["a"], d["b"], d.get("ahead"), d["equivalent"]) for d in look["decided"]),
        )
        for look in found["taken"]
    )
    lists = {name: tuple(found[name]) for name in ("figures", "left_out", "replaced")}
    return Looks(plan, **lists, taken=taken, ended=found["ended"])


def _inconsistency(looks: Looks) -> str | None:
    """Return what no sequence of looks could have written, or None."""
    if not looks.figures:
        return "no figure is to be settled"
    before = 0
    for number, look in enumerate(looks.taken, start=1):
        if not before < look.repeats <= looks.plan.max_repeats:
            return f"look {number} came after {look.repeats} repeats, which the plan does not allow"
        if abs(look.level - looks.plan.level_of_look(look.repeats, before)) > 1e-9:
            return f"look {number} spent {look.level:g}, which is not what the plan allows"
        for d in look.decided:
            if not {d.a, d.b} <= set(looks.plan.plugins) or d.a == d.b or d.ahead not in (None, d.a, d.b):
                return f"look {number} decided about losses that are not in the plan"
        before = look.repeats
    return None


def begun(plan: Plan, figures: tuple[str, ...], left_out: tuple[str, ...], earlier: Looks | None) -> Looks:
    """Return a plan without looks, which notes an earlier plan that it replaces on runs that were trained alike."""
    looks = Looks(plan, figures, left_out)
    if earlier is None or earlier.plan.training != plan.training:
        return looks
    if not earlier.taken:
        return replace(looks, replaced=earlier.replaced)
    names = ", ".join(earlier.plan.plugins)
    said = (
        f"{len(earlier.taken)} look{'s' * (len(earlier.taken) != 1)} of a plan for {names} with at most "
        f"{earlier.plan.max_repeats} repeats and a smallest difference of {earlier.plan.smallest_difference:g}"
        f"{', measured otherwise' if earlier.plan.protocol != plan.protocol else ''}"
    )
    return replace(looks, replaced=(*earlier.replaced, said))
