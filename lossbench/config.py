"""The settings of a benchmark: one frozen dataclass, from the command line and from TOML, and back to TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from lossbench.errors import InputError, did_you_mean
from lossbench.models.backbones import PRETRAINED, backbone_info

DEFAULT_LOSSES = "ce,arcface,cosface"


@dataclass(frozen=True)
class Config:
    """Everything a user can set. None means: the default that suits the data or the backbone (`resolved`)."""

    losses: str = DEFAULT_LOSSES
    data: str = "orl"
    identities: int | None = None
    min_images: int | None = None
    images_per_identity: int | None = None
    pairs: str | None = None
    flip: bool = False
    backbone: str | None = None
    pretrained: str | None = None
    embedding_dim: int | None = None
    image_size: int | None = None
    dropout: float = 0.2
    repeats: int = 3
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float = 5e-4
    warmup: float = 0.1
    seed: int = 0
    select: str = "last"
    track: bool = False
    deconfound: bool = False
    device: str = "auto"
    out: str = "results"
    plugins: tuple[str, ...] = ()
    jobs: int = 1
    threads: int | None = None

    @property
    def benchmark(self) -> str:
        """The name of the benchmark's folder: the data set's, or the last part of the data folder's path."""
        return self.data if self.data == "orl" else Path(self.data).resolve().name

    def resolved(self) -> "Config":
        """Return the settings with every default filled in, checked.

        Raises:
            InputError: a value out of range; the message names it, the rule and the cure.
        """
        small = self.data == "orl"
        backbone = self.backbone or ("tiny" if small else "small")
        info = backbone_info(backbone)
        filled = replace(
            self,
            backbone=backbone,
            embedding_dim=info.embedding_dim if self.embedding_dim is None else self.embedding_dim,
            image_size=info.image_size if self.image_size is None else self.image_size,
            epochs=(60 if small else 30) if self.epochs is None else self.epochs,
            batch_size=(32 if small else 64) if self.batch_size is None else self.batch_size,
            lr=(3e-3 if info.source.startswith("ResNet-10") else 1e-3) if self.lr is None else self.lr,
        )
        filled._check()
        return filled

    def _check(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "repeats": (1, 1000),
            "epochs": (1, 100_000),
            "batch_size": (2, 65_536),
            "embedding_dim": (2, 65_536),
            "image_size": (32, 1024),
            "identities": (2, 10_000_000),
            "min_images": (2, 10_000_000),
            "images_per_identity": (2, 10_000_000),
            "seed": (0, 2**63 - 1),
            "lr": (1e-8, 10),
            "weight_decay": (0, 10),
            "dropout": (0, 0.95),
            "warmup": (0, 0.9),
            "jobs": (1, 1024),
            "threads": (1, 1024),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{_option(name)} {value} is out of range; use {low:g} to {high:g}")
        if self.select not in ("last", "val"):
            raise InputError(
                f"--select '{self.select}' is not known; use 'last' (the last epoch) or 'val' (best on val)"
            )
        if self.flip and self.pairs is None:
            raise InputError("--flip is about verification pairs; give --pairs, too, or leave it out")
        if self.pretrained is not None and self.pretrained not in PRETRAINED:
            raise InputError(f"--pretrained '{self.pretrained}' is not known; use {' or '.join(PRETRAINED)}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_config(path: str | Path) -> dict[str, Any]:
    """Read settings from a TOML file, checked for names and types; `losses` may be a list or comma-separated.

    Raises:
        InputError: no such file, no TOML, an unknown setting, or a value of the wrong type.
    """
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise InputError(f"--config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not TOML: {error}") from error
    table.pop("record", None)  # what `run` notes in the file it leaves behind
    known = {f.name: get_args(f.type) or (f.type,) for f in fields(Config)}
    for name, value in table.items():
        if name not in known:
            raise InputError(f"--config {path}: no setting called '{name}'{did_you_mean(name, list(known))}")
        if name == "losses" and isinstance(value, list):
            table[name] = value = ",".join(map(str, value))
        if name == "plugins" and isinstance(value, list):
            table[name] = tuple(map(str, value))
        elif name == "plugins" or not _fits(value, known[name]):
            raise InputError(f"--config {path}: {name} = {value!r} should be of type {known[name][0].__name__}")
    return table


def _fits(value: Any, kinds: tuple[Any, ...]) -> bool:
    return type(value) in kinds or (type(value) is int and float in kinds)


def to_toml(config: Config, record: Mapping[str, Any]) -> str:
    """Return `config` as TOML that `--config` takes, settings at None left out, with a table `record` of notes."""
    import tomli_w

    settings = {name: value for name, value in asdict(config).items() if value not in (None, ())}
    return tomli_w.dumps({**settings, "record": dict(record)})
