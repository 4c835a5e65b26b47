"""The settings of a benchmark, each declared once.

From `Config` follow the options of `lossbench run` and their help (lossbench.cli.options), the checks of every value,
and of the TOML that `--config` reads (lossbench.benchmark.settings_file).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from lossbench.data.catalogue import DATA, FOLDER, NAMES, data_info
from lossbench.errors import InputError
from lossbench.models.backbones import BACKBONES, BackboneInfo, backbone_info
from lossbench.models.network_file import DROPOUT
from lossbench.models.pretrained import check_pretrained
from lossbench.utils.schedule import drops
from lossbench.utils.settings import check, declare, fields_of, settings_of
from lossbench.utils.text import clipped, comma_list, listed

Touches = Literal["training", "measuring", "neither"]

_LONGEST_NAME = 200  # bytes; file systems take 255
_MANY = 10_000_000
_MOST_REPEATS = 20  # of --until-settled
_SGD_LR, _SGD_BATCH, _HIGHEST_LR = 0.1, 512, 10  # arcface_torch's peak rate of SGD, and the batch size it is for
_LOWEST_FPR = 1e-12  # no data has as many negatives


def setting(default: Any, *, touches: Touches, **declared: Any) -> Any:
    """Declare a setting of `lossbench run`.

    Args:
        default: its value where the user gives none.
        touches: what another value changes: ``training``, what is learned (another run); ``measuring``, only how a
            trained model is measured; ``neither``, no figure, or one that is fingerprinted by its content (data,
            device, threads).
        declared: its help, group, range and so on; see `lossbench.utils.settings.declare`.
    """
    if touches not in get_args(Touches):
        raise TypeError(f"touches is '{touches}'; use {', '.join(get_args(Touches))}")
    return declare(default, touches=touches, **declared)


def _by_data(fact: str) -> str:
    """Return what the default is for each data set."""
    named = [f"{getattr(DATA[name], fact)} on {name}" for name in NAMES]
    return f"{', '.join(named)}, else {getattr(DATA[FOLDER], fact)}"


def _by_backbone(fact: str) -> str:
    """Return what the default is for each backbone: what most have last."""
    values = {name: getattr(info, fact) for name, info in BACKBONES.items()}
    usual = max(values.values(), key=list(values.values()).count)
    others = [value for value in dict.fromkeys(values.values()) if value != usual]
    said = [f"{value:g} for {listed([name for name, own in values.items() if own == value])}" for value in others]
    return f"{', '.join(said)}, else {usual:g}"


_of_losses = partial(setting, group="Losses")
_of_data = partial(setting, group="Data")
_of_network = partial(setting, group="Network")
_of_training = partial(setting, group="Training")
_of_statistics = partial(setting, group="Statistics")
_of_process = partial(setting, group="Where and how")


@dataclass(frozen=True)
class Config:
    """Everything a user can set. None means: the default that suits the data or the backbone (`resolved`)."""

    losses: str = _of_losses(
        "ce,arcface,cosface",
        touches="neither",
        help="Comma-separated specs: ce,arcface:margin=0.3,./my_loss.py; all: every loss of `lossbench list losses`.",
    )
    plugins: tuple[str, ...] = _of_losses(
        (), touches="neither", path=True, help="A folder of further loss plugins; repeatable."
    )
    deconfound: bool = _of_losses(
        False,
        touches="neither",
        help="Also train ce, and every margin loss at margin 0 with its own scale: the report then splits each gain "
        "over ce into scale and margin.",
    )

    data: str = _of_data(
        "orl",
        touches="neither",
        path=True,
        help=f"{', '.join(NAMES)}, a folder from data prepare, or one with train/ val/ test/ query/ distractors/.",
    )
    identities: int | None = _of_data(
        None,
        touches="training",
        low=2,
        high=_MANY,
        default_text="all",
        help="Only the N people with the most training images.",
    )
    min_images: int | None = _of_data(
        None,
        touches="training",
        low=2,
        high=_MANY,
        default_text="all",
        help="Only people with at least M training images.",
    )
    images_per_identity: int | None = _of_data(
        None, touches="training", low=2, high=_MANY, default_text="all", help="At most K training images of a person."
    )
    pairs: str | None = _of_data(
        None,
        touches="measuring",
        path=True,
        help="Also measure verification pairs: a pairs.txt like LFW's, or a folder from data prepare bin; for several "
        "lists side by side: lossbench evaluate.",
    )
    flip: bool = _of_data(False, touches="measuring", help="Verify pairs with the mirrored image's embedding added.")

    backbone: str | None = _of_network(
        None,
        touches="training",
        default_text=_by_data("backbone"),
        help="A name that `lossbench list backbones` shows, timm:NAME, or a file of your own: ./my_net.py.",
    )
    pretrained: str | None = _of_network(
        None,
        touches="training",
        path=True,
        default_text="none",
        help="Weights to start from: imagenet (efficientnet_lite0 offline, torchvision and timm), or a file for any "
        "backbone: FILE.safetensors, FILE.pth.",
    )
    embedding_dim: int | None = _of_network(
        None,
        touches="training",
        low=2,
        high=65_536,
        default_text=_by_backbone("embedding_dim"),
        help="Length of an embedding.",
    )
    image_size: int | None = _of_network(
        None,
        touches="training",
        low=32,
        high=1024,
        default_text=_by_backbone("image_size"),
        help="Side of the images, in pixels.",
    )
    dropout: float | None = _of_network(
        None,
        touches="training",
        low=0,
        high=0.95,
        default_text=f"{DROPOUT:g}, or what a file of your own says",
        help="Dropout before the embedding layer.",
    )

    epochs: int | None = _of_training(
        None,
        touches="training",
        low=1,
        high=100_000,
        default_text=_by_data("epochs"),
        help="Passes over the training images.",
    )
    batch_size: int | None = _of_training(
        None, touches="training", low=2, high=65_536, default_text=_by_data("batch_size"), help="Images per step."
    )
    lr: float | None = _of_training(
        None,
        touches="training",
        low=1e-8,
        high=_HIGHEST_LR,
        default_text=f"{_by_backbone('lr')}; with sgd {_SGD_LR:g} at batch size {_SGD_BATCH}, in proportion to it",
        help="Peak learning rate.",
    )
    optimizer: str = _of_training(
        "adamw", touches="training", choices=("adamw", "sgd"), help="For every loss. sgd has momentum 0.9."
    )
    schedule: str = _of_training(
        "cosine",
        touches="training",
        help="How the learning rate falls once it has risen: cosine or poly (power 2) to 0, or step:10,18, to a tenth "
        "after each of these epochs.",
    )
    weight_decay: float = _of_training(
        5e-4, touches="training", low=0, high=10, help="For weights of two and more dimensions."
    )
    warmup: float = _of_training(
        0.1, touches="training", low=0, high=0.9, help="Share of the steps in which the learning rate rises."
    )

    sample_centers: float | None = _of_training(
        None,
        touches="training",
        low=1e-6,
        high=1,
        default_text="all",
        help="In each step, score the classes of the batch and others drawn at random: this share of all, or as many "
        "as the batch has images (Partial FC). For losses whose class weights serve a margin softmax alone.",
    )

    repeats: int | None = _of_statistics(
        None,
        touches="neither",
        low=1,
        high=1000,
        default_text=_by_data("repeats"),
        help="Trainings of every entrant, each with another seed and fold.",
    )
    seed: int = _of_statistics(0, touches="training", low=0, high=2**63 - 1, help="Decides every random draw.")
    fpr: tuple[float, ...] = _of_statistics(
        (),
        touches="measuring",
        default_text="0.1, 0.05, 0.01 and 0.001; also 1e-4, 1e-5 and 1e-6 where the data supports them",
        help="False-positive rates (FAR) to report identification rates (TAR) at: 1e-3,1e-4. The four largest are the "
        "headline.",
    )
    smallest_difference: float = _of_statistics(
        0.02,
        touches="neither",
        low=1e-6,
        high=0.5,
        help="Two losses whose accuracies or rates differ by less are equivalent.",
    )
    until_settled: bool = _of_statistics(
        False,
        touches="neither",
        help="Add repeats until every pair of losses is settled: one is ahead, or both are equivalent. It looks at "
        "the verdicts after --repeats repeats and after each further one, at levels that keep the error of all looks.",
    )
    max_repeats: int | None = _of_statistics(
        None,
        touches="neither",
        low=2,
        high=1000,
        default_text=f"{_MOST_REPEATS}",
        help="The limit of --until-settled. The levels of its looks depend on it, so another limit starts them again.",
    )
    max_minutes: float | None = _of_statistics(
        None,
        touches="neither",
        low=0.01,
        high=_MANY,
        default_text="no limit",
        help="With --until-settled: add no repeat that would probably end later than so many minutes after the start.",
    )
    select: str = _of_statistics(
        "last",
        touches="training",
        choices=("last", "val"),
        help="Which epoch is reported: the last, or the best on val.",
    )
    track: bool = _of_statistics(
        False,
        touches="training",
        help="Measure test and query after every epoch, for the report alone: how much picking the best would flatter.",
    )

    out: str = _of_process("results", touches="neither", path=True, help="The folder of all benchmarks.")
    name: str | None = _of_process(
        None,
        touches="neither",
        default_text="the data's name",
        help="This benchmark's folder below --out. Benchmarks of one data set with names of their own stay apart.",
    )
    keep_embeddings: bool = _of_process(
        False,
        touches="neither",
        help="Also keep the embeddings of the training images in each run's embeddings.npz. Otherwise it holds "
        "their names, labels and class means; `lossbench embed` makes the rest again from the weights.",
    )
    log_to: tuple[str, ...] = _of_process(
        (),
        touches="neither",
        choices=("tensorboard", "wandb", "trackio"),
        help="Also write every epoch and the final figures there, as they come; repeatable, or with commas. The extra "
        "of that name installs it. tensorboard writes below the benchmark's folder, trackio into its local database. "
        "wandb uploads to your account, unless WANDB_MODE=offline.",
    )
    device: str = _of_process("auto", touches="neither", help="auto, cpu or cuda.")
    pixels: str | None = _of_process(
        None,
        touches="neither",
        choices=("resident", "stream"),
        default_text="resident on a GPU where they take at most half of the free memory, else stream",
        help="Keep the decoded images in the device's memory, or stream them from the cache file. Same results.",
    )
    jobs: int = _of_process(1, touches="neither", low=1, high=1024, help="Runs at a time, each in a process.")
    threads: int | None = _of_process(
        None,
        touches="neither",
        low=1,
        high=1024,
        default_text="cores / jobs",
        help="Threads of each run. Another number rounds sums differently, which training amplifies: that is another "
        "run.",
    )
    engine: str = _of_process(
        "local",
        touches="neither",
        choices=("local", "ray"),
        help="Do the runs in processes on this machine, or as tasks of a Ray cluster: the extra [ray].",
    )
    ray_address: str | None = _of_process(
        None,
        touches="neither",
        default_text="start one on this machine, with room for --jobs runs",
        help="The Ray cluster to join, as HOST:PORT of its head, or auto for the one on this machine. It gets as many "
        "runs at a time as it has room for, or as --jobs says if that is above 1.",
    )
    gpus_per_run: float | None = _of_process(
        None,
        touches="neither",
        low=0.01,
        high=1,
        default_text="1",
        help="The share of a GPU that each run asks Ray for: 0.25 packs four on one.",
    )

    @property
    def data_name(self) -> str:
        """The name of the data: the data set's, or the last part of the data folder's path."""
        return Path(self.data).resolve().name if data_info(self.data).is_folder else self.data

    @property
    def benchmark(self) -> str:
        """The name of the benchmark's folder below `out`."""
        return self.data_name if self.name is None else self.name

    def resolved(self) -> "Config":
        """Return the settings with every default filled in, checked.

        Raises:
            InputError: a value that does not fit; the message names it, the rule and the cure.
        """
        check(self)
        for option, text in (("--losses", self.losses), ("--schedule", self.schedule)):
            comma_list(text, option)
        if self.pretrained is not None:
            check_pretrained(self.pretrained)
        suits = data_info(self.data)
        backbone = suits.backbone if self.backbone is None else self.backbone
        info = backbone_info(backbone)
        epochs = suits.epochs if self.epochs is None else self.epochs
        batch_size = suits.batch_size if self.batch_size is None else self.batch_size
        filled = replace(
            self,
            backbone=backbone,
            embedding_dim=info.embedding_dim if self.embedding_dim is None else self.embedding_dim,
            image_size=info.image_size if self.image_size is None else self.image_size,
            dropout=_dropout(self.dropout, info, backbone),
            epochs=epochs,
            batch_size=batch_size,
            lr=suitable_lr(self.optimizer, backbone, batch_size) if self.lr is None else self.lr,
            repeats=suits.repeats if self.repeats is None else self.repeats,
            fpr=operating_points(self.fpr),
            max_repeats=_MOST_REPEATS if self.until_settled and self.max_repeats is None else self.max_repeats,
        )
        check(filled)  # the defaults of a network's own file, too
        if self.name is not None:
            _check_name(self.name)
        if late := [epoch for epoch in drops(self.schedule) if epoch >= epochs]:
            raise InputError(
                f"--schedule {self.schedule} changes nothing after epoch {late[0]} of {epochs}; name epochs below "
                f"{epochs}, or raise --epochs"
            )
        if self.flip and self.pairs is None:
            raise InputError("--flip applies to verification pairs only; add --pairs, or drop --flip")
        for option, value in (("--max-repeats", self.max_repeats), ("--max-minutes", self.max_minutes)):
            if value is not None and not self.until_settled:
                raise InputError(f"{option} applies to --until-settled only; add --until-settled, or drop {option}")
        for option, given in (("--ray-address", self.ray_address), ("--gpus-per-run", self.gpus_per_run)):
            if given is not None and self.engine != "ray":
                raise InputError(f"{option} applies to --engine ray only; add --engine ray, or drop {option}")
        return filled


def _dropout(given: float | None, info: BackboneInfo, backbone: str) -> float:
    if info.dropout is not None:
        return info.dropout if given is None else given
    if given:
        raise InputError(
            f"--dropout {given:g} has no effect: {backbone} takes no dropout; drop --dropout, or add it to its __init__"
        )
    return 0.0


def suitable_lr(optimizer: str, backbone: str, batch_size: int) -> float:
    """Return the peak learning rate where none is given: the backbone's for adamw, the batch's for sgd."""
    if optimizer == "adamw":
        return backbone_info(backbone).lr
    return min(_SGD_LR * batch_size / _SGD_BATCH, _HIGHEST_LR)


def operating_points(fprs: Sequence[float]) -> tuple[float, ...]:
    """Return false-positive rates as they are measured: from the largest down, with six digits.

    Raises:
        InputError: one that is not between 0 and 1, or that is there twice.
    """
    rounded = [float(f"{fpr:g}") for fpr in fprs]  # what the keys of their figures say
    for fpr, given in zip(rounded, fprs, strict=True):
        if not _LOWEST_FPR <= fpr < 1:
            raise InputError(f"--fpr {given!r} is out of range; use rates from {_LOWEST_FPR:g} to below 1: 1e-3,1e-4")
        if rounded.count(fpr) > 1:
            raise InputError(f"--fpr has {fpr:g} twice; name each rate once")
    return tuple(sorted(rounded, reverse=True))


SETTINGS = {one.name: one for one in settings_of(Config)}


def settings_touching(touches: Touches) -> tuple[str, ...]:
    """Return the names of the settings that declare so, in the order of `Config`."""
    return tuple(name for name, one in SETTINGS.items() if one.touches == touches)


def _check_name(name: str) -> None:
    rule = "use a plain folder name"
    if not name.strip() or name in (".", "..") or not name.isprintable() or set(name) & set("/\\"):
        raise InputError(f"--name '{clipped(name)}' cannot name a folder; {rule} such as try1; --out is for paths")
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"--name '{clipped(name)}' is too long; {rule} of at most {_LONGEST_NAME} bytes")


def typed(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings as fields of `Config`, checked for names and types; `losses` may be a list, too.

    Raises:
        InputError: as `utils.settings.typed`.
    """
    losses = table.get("losses")
    joined = {"losses": ",".join(map(str, losses))} if isinstance(losses, list) else {}
    return fields_of(SETTINGS, {**table, **joined}, where)
