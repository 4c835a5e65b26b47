"""Settings as TOML: what ``--config`` reads, and ``benchmark.toml``, which processes that share a folder extend."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from lossbench.benchmark.locks import one_at_a_time
from lossbench.benchmark.plan import Run
from lossbench.config import Config, typed
from lossbench.errors import InputError
from lossbench.losses.plugin import BASELINE, UNTRAINED, Plugin
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.results.store import Record, load_records
from lossbench.utils.files import write_text
from lossbench.utils.machine import lossbench_version
from lossbench.utils.text import clipped


def read_config(path: str | Path) -> dict[str, Any]:
    """Read settings from a TOML file, checked for names and types; `losses` may be a list or comma-separated.

    Raises:
        InputError: no such file, no TOML, an unknown setting, or a value of the wrong type.
    """
    where = f"--config '{clipped(str(path), 200)}'"
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is not TOML: {error}") from error
    table.pop("record", None)  # what `run` notes in the file it leaves behind
    return typed(table, where)


def to_toml(config: Config, record: Mapping[str, Any]) -> str:
    """Return `config` as TOML that `--config` takes, settings at None left out, with a table `record` of notes."""
    settings = {name: value for name, value in asdict(config).items() if value not in (None, ())}
    return tomli_w.dumps({**settings, "record": dict(record)})


def write_benchmark_file(folder: Path, config: Config, runs: Sequence[Run]) -> None:
    """Write the settings, so that ``--config`` can run them again and ``report`` knows which runs belong together.

    Where the file is of the same protocol, as when processes share a folder or a loss was added, its entrants and
    repeats stay and these join them: the file covers what the report shows. Otherwise it is replaced; what lossbench
    did not write or cannot read is kept as ``benchmark.toml.old``.

    Raises:
        OSError: the folder cannot be written.
    """
    protocol = runs[0].protocol_hash
    plugins = {run.entrant: run.identity["plugin"] for run in runs if run.spec is not None}
    with one_at_a_time(folder):
        file = folder / "benchmark.toml"
        before = _read(file)
        if "record" not in before and file.exists():
            file.replace(folder / "benchmark.toml.old")
        if before.get("record", {}).get("protocol") == protocol:
            config, plugins = _joined(before, config, plugins)
        record = {
            "lossbench": lossbench_version(),
            "protocol": protocol,
            "entrants": [UNTRAINED, *plugins],
            "plugins": plugins,
        }
        text = "# run it again: lossbench run --config THIS_FILE\n" + to_toml(config, record)
        write_text(file, text)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}  # a damaged file is replaced
    return found if isinstance(found.get("record", {}), dict) else {}


def _joined(before: dict[str, Any], config: Config, plugins: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Return settings and plugin fingerprints with the earlier entrants first, without those whose plugin is gone."""
    assert config.repeats is not None
    try:
        folders = tuple(dict.fromkeys([*before.get("plugins", ()), *config.plugins]))
        known = find_plugins(folders)
        recorded = dict(before["record"]["plugins"])
        earlier = [text.strip() for text in before["losses"].split(",")]
        repeats = max(config.repeats, int(before["repeats"]))
    except (InputError, KeyError, TypeError, ValueError, AttributeError):
        return config, plugins  # edited by hand, or a plugin folder has gone
    specs: dict[str, str] = {}
    named: dict[str, Plugin] = {BASELINE: known[BASELINE]}
    for text in [*earlier, *(text.strip() for text in config.losses.split(",") if text.strip())]:
        try:
            spec = parse_spec(text, known)
        except InputError:  # the plugin file is gone, so that entrant cannot be run again
            continue
        specs.setdefault(str(spec), text)
        named |= {term.plugin.name: term.plugin for term in spec.terms}
    if config.deconfound or before.get("deconfound"):  # the twins are entrants without being named
        config = replace(config, deconfound=True)
        names = [name for name in dict.fromkeys([*recorded, *specs, *plugins]) if name in plugins or _fits(name, named)]
    else:
        names = list(specs)
    joined = replace(config, losses=",".join(specs.values()), plugins=folders, repeats=repeats)
    return joined, {name: plugins.get(name, recorded.get(name)) for name in names}


def _fits(entrant: str, named: Mapping[str, Plugin]) -> bool:
    """Return whether an entrant is a valid spec of these plugins: its name comes from an untrusted file."""
    try:
        parse_spec(entrant, named)
    except InputError:
        return False
    return True


_OTHER_MEASURING = (
    "other measuring (--fpr, --pairs, --flip or lossbench's version); name their losses to measure them again"
)


def left_out(folder: Path, runs: Sequence[Run]) -> list[str]:
    """Return a line for each reason why finished runs with the same settings in `folder` are not reused."""
    ours, planned = runs[0].identity["protocol"], {run.hash for run in runs}
    reasons: dict[str, int] = {}
    for record in _readable(folder):
        reason = _difference(record.get("protocol"), ours)
        if record.get("protocol") == ours and record.get("hash") not in planned:
            reason = _OTHER_MEASURING if record.get("measuring") != runs[0].measuring else None
        if reason and record["status"] == "finished":
            reasons[reason] = reasons.get(reason, 0) + 1
    return [
        f"{count} finished run{'s were' if count > 1 else ' was'} made with {reason}: kept in {folder}, not reused"
        for reason, count in reasons.items()
    ]


def _readable(folder: Path) -> list[Record]:
    try:
        return load_records(folder)
    except InputError:
        return []  # none yet, or a damaged one, which is reported where it is needed


def _difference(theirs: Any, ours: dict[str, Any]) -> str | None:
    """Return what has changed without the user's doing; None if nothing has, or if the settings differ on purpose."""
    if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
        return None
    images = any(theirs.get(name) != ours.get(name) for name in ("data", "splits"))
    fitted = {"batch_size"} if images else set()  # the default follows the number of images
    # a setting that an older lossbench did not have is no difference of the user's
    if any(theirs["config"].get(k, v) != v for k, v in ours["config"].items() if k not in fitted):
        return None
    if images:
        return "other images (the data has changed since)"
    if theirs.get("network") != ours["network"]:
        return f"another version of the network {ours['config']['backbone']}"
    if theirs.get("pretrained") != ours["pretrained"]:
        return f"other weights in {ours['config']['pretrained']}"
    if theirs.get("device") != ours["device"]:
        return f"another device ({theirs.get('device')}, not {ours['device']})"
    if any(theirs.get(name) != ours[name] for name in ("code", "measuring_code")):
        return "another version of lossbench"
    if theirs.get("versions") != ours["versions"]:
        return "other versions of the packages"
    if theirs.get("processes") != ours.get("processes"):
        return f"{theirs.get('processes', 1)} processes together"
    if theirs.get("threads") != ours["threads"]:
        return f"{theirs.get('threads')} threads (--threads {theirs.get('threads')} reuses them)"
    return None
