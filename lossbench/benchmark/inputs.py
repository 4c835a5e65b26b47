"""What all runs of a benchmark share: settings, faces, pairs and pixels, opened and checked before any training."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lossbench.benchmark.listener import Listener
from lossbench.config import Config, suitable_lr
from lossbench.data.catalogue import data_info, open_data
from lossbench.data.copies import shared_by_splits
from lossbench.data.faces import FaceSet
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.images.store import ImageStore, open_store
from lossbench.data.images.streaming import StoredPixels, place_pixels, suitable_place
from lossbench.data.left_out import left_out_of_tree
from lossbench.data.packed import open_packed
from lossbench.data.pairs import PairSet, read_pairs
from lossbench.data.set_files import is_packed
from lossbench.data.split_file import SplitFile
from lossbench.errors import InputError
from lossbench.evaluation.embed import PairImages
from lossbench.losses.loading import trial_head
from lossbench.losses.plain_twin import with_twins
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import Spec, parse_losses
from lossbench.models.network_file import read_network, refuse_misfit
from lossbench.models.pretrained import weights_digest
from lossbench.results.metric_fields import NOBODY_UNSEEN
from lossbench.training.seeds import initial_backbone
from lossbench.utils.device import be_deterministic, device_of
from lossbench.utils.distributed import ALONE, Ranks
from lossbench.utils.hashing import sha
from lossbench.utils.plugin_file import is_plugin_file, plugin_fingerprint


@dataclass(frozen=True)
class Inputs:
    """What all runs share except the pixels: small enough to send to another process, which maps the pixels itself.

    `config` is resolved. `fingerprints` are the SHA-256 of the images, by name; `split_file` that of split.json.
    `ranks` are the processes that train each run together.
    """

    config: Config
    specs: tuple[Spec, ...]
    faces: FaceSet
    pairs: PairSet | None
    device: torch.device
    fingerprints: dict[str, str]
    split_file: str | None
    folder: Path
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class Pixels:
    """The images for the device: those of the faces [N, H, W, 3] uint8, and the verification pairs with theirs."""

    faces: StoredPixels
    pairs: PairImages | None


def gather(config: Config, listener: Listener, *, verify: bool, device: torch.device | None = None) -> Inputs:
    """Open and check everything the user named; decode the images if the cache holds no store of them.

    Args:
        config: settings as the user gave them.
        listener: receives the progress of the decoding.
        verify: refuse data whose files are not what and where its split.json says.
        device: what the runs compute on, where that is decided already: it need not be on this machine.

    Raises:
        InputError: something the user gave is wrong; only the cache has been written.
    """
    known = find_plugins(config.plugins)
    specs = parse_losses(config.losses, known)
    if config.deconfound:
        specs = with_twins(specs, known)
    batch_size, lr = config.batch_size, config.lr
    config = config.resolved()
    device = device or device_of(config.device)
    be_deterministic(device)
    faces = open_data(
        config.data,
        identities=config.identities,
        min_images=config.min_images,
        images_per_identity=config.images_per_identity,
    )
    tree = Path(config.data) if data_info(config.data).is_folder else None
    split_file = SplitFile.of(tree) if verify and tree else None
    packed = tree is not None and is_packed(tree)
    if split_file and not packed:
        split_file.verify_layout(faces.names)
    elif tree:
        for ignored in left_out_of_tree(tree, faces.files):
            listener.note(f"left out: {ignored}")
    if not all(split.query.rows for split in faces.folds):
        listener.note(NOBODY_UNSEEN)
    pairs = read_pairs(Path(config.pairs), tree) if config.pairs else None
    for note in pairs.notes if pairs else ():
        listener.note(note)
    per_person = {str(spec): trial_head(spec).samples_per_class for spec in specs}  # refuses what cannot be built
    pairs_of = {spec: count for spec, count in per_person.items() if count}
    config = _fit_batches(config, faces, pairs_of, listener, typed=batch_size is not None)
    if lr is None:
        assert config.backbone is not None
        assert config.batch_size is not None
        config = replace(config, lr=suitable_lr(config.optimizer, config.backbone, config.batch_size))
    started = _start(config, listener)
    folder = Path(config.out) / config.benchmark
    _refuse_unwritable(folder)
    store = _open_store(faces.files, config, listener)
    if split_file and packed:
        open_packed(split_file.root).verify_content(store.digests)
    elif split_file:
        split_file.verify_content(faces.names, store.digests)
    if verify and (copies_line := shared_by_splits(faces, store.digests)):
        listener.note(copies_line)
    fingerprints = {"data": store.fingerprint, **started}
    if pairs:
        pair_store = _open_store(pairs.files, config, listener)
        fingerprints["pairs"] = _of_pairs(pairs, pair_store)
        copies = sum(pair_store.digests[a] == pair_store.digests[b] for a, b in zip(pairs.a, pairs.b, strict=True))
        if copies:
            listener.note(f"{copies:,} pairs are of two files with the same content, which any model gets right")
    sha256 = split_file.sha256 if split_file else None
    return Inputs(config, tuple(specs), faces, pairs, device, fingerprints, sha256, folder)


def _start(config: Config, listener: Listener) -> dict[str, str]:
    """Build the backbone, so that what cannot be built fails before anything is decoded or written.

    Returns:
        The fingerprints of the user's own files: ``network``, and ``pretrained``, the weights that it starts from.
    """
    assert config.backbone is not None
    digest = weights_digest(config.backbone, config.pretrained)
    found = {"pretrained": digest} if digest else {}
    net = initial_backbone(config, 0, listener.note)
    if not is_plugin_file(config.backbone):
        return found
    assert config.embedding_dim is not None
    assert config.image_size is not None
    file = read_network(Path(config.backbone))
    refuse_misfit(file, net, embedding_dim=config.embedding_dim, image_size=config.image_size)
    return found | {"network": plugin_fingerprint(net)}


def refuse_changed(inputs: Inputs) -> None:
    """Refuse to train from other files of the user's own than those that were checked when the benchmark began.

    Raises:
        InputError: the weights to start from or the network's files have changed, or cannot be read.
    """
    config = inputs.config
    assert config.backbone is not None
    changed = ""
    if weights_digest(config.backbone, config.pretrained) != inputs.fingerprints.get("pretrained"):
        changed = f"weights of --pretrained {config.pretrained}"
    elif is_plugin_file(config.backbone):
        net = initial_backbone(replace(config, pretrained=None), 0)
        if plugin_fingerprint(net) != inputs.fingerprints["network"]:
            changed = f"files of --backbone {config.backbone}"
    if changed:
        raise InputError(f"the {changed} have just changed; run the same command again")


def open_pixels(inputs: Inputs, listener: Listener) -> Pixels:
    """Map the packed images from the cache, and put them on the device or stream them, as ``--pixels`` says.

    Raises:
        InputError: they are not the images that were checked when the benchmark began, or do not fit on the device.
    """
    return place_stores(inputs, *open_stores(inputs, listener), listener)


def open_stores(inputs: Inputs, listener: Listener) -> tuple[ImageStore, ImageStore | None]:
    """Map the packed images of the faces, and of the pairs where there are any.

    Raises:
        InputError: they are not the images that were checked when the benchmark began.
    """
    store = _open_store(inputs.faces.files, inputs.config, listener)
    if store.fingerprint != inputs.fingerprints["data"]:
        raise InputError(f"the images of {inputs.config.data} have just changed; run the same command again")
    pair_store = _open_store(inputs.pairs.files, inputs.config, listener) if inputs.pairs else None
    if inputs.pairs and pair_store and _of_pairs(inputs.pairs, pair_store) != inputs.fingerprints["pairs"]:
        raise InputError(f"the images of {inputs.config.pairs} have just changed; run the same command again")
    return store, pair_store


def place_stores(inputs: Inputs, store: ImageStore, pair_store: ImageStore | None, listener: Listener) -> Pixels:
    """Put mapped images on the device or stream them, as ``--pixels`` says.

    Raises:
        InputError: they do not fit on the device.
    """
    device, size = inputs.device, store.pixels.nbytes + (pair_store.pixels.nbytes if pair_store else 0)
    place = inputs.config.pixels or suitable_place(size, device, sharers=inputs.config.jobs)
    if place == "stream" and inputs.config.pixels is None and device.type == "cuda":
        listener.note(f"the images ({size / 2**30:.1f} GiB) are streamed to the GPU, whose memory they would fill")
    faces = place_pixels(store.pixels, device, place)
    if inputs.pairs is None or pair_store is None:
        return Pixels(faces, None)
    return Pixels(faces, PairImages(inputs.pairs, place_pixels(pair_store.pixels, device, place)))


def _of_pairs(pairs: PairSet, store: ImageStore) -> str:
    return sha([pairs.fingerprint, store.fingerprint])


def _open_store(files: Sequence[ImagePlace], config: Config, listener: Listener) -> ImageStore:
    assert config.image_size is not None
    return open_store(files, config.image_size, on_progress=lambda done: listener.decoding(done, len(files)))


def _fit_batches(
    config: Config, faces: FaceSet, per_person: dict[str, int], listener: Listener, *, typed: bool
) -> Config:
    """Refuse a given batch size that cannot be; shrink the default to four batches an epoch.

    Args:
        config: with a batch size.
        faces: their training images are at least as many.
        per_person: images of each person in a batch, by entrant, for those that compare images of one batch. A batch
            then holds two people or more, and all of them whole.
        listener: receives a note where the default shrinks.
        typed: whether the user gave the batch size.
    """
    assert config.batch_size is not None
    images = min(len(split.train) for split in faces.folds)
    whole = math.lcm(*per_person.values()) if per_person else 1
    least = max(whole, 2 * max(per_person.values(), default=1))
    if typed and config.batch_size > images:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {images} training images; use at most {images}"
        )
    if least > images:
        name = max(per_person, key=lambda spec: per_person[spec], default="a loss")
        raise InputError(f"there are {images} training images, and {name} needs batches of at least {least}; add more")
    if typed:
        _refuse_cut(config.batch_size, images, per_person, whole, least)
    fitting = max(least, images // 4 // whole * whole)
    if typed or (config.batch_size <= fitting and config.batch_size % whole == 0):
        return config
    fitting = min(fitting, max(least, config.batch_size // whole * whole))
    listener.note(f"batches of {fitting}, not {config.batch_size}: there are {images} training images")
    return replace(config, batch_size=fitting)


def _refuse_cut(size: int, images: int, per_person: dict[str, int], whole: int, least: int) -> None:
    """Refuse batches of one person, and those that end in the middle of one, for losses that compare pairs."""
    for spec, count in per_person.items():
        takes = f"{spec} takes {count} images of each person in a batch"
        if size < 2 * count:
            raise InputError(f"--batch-size {size} is too few: {takes}, and pairs of two people too; use {least}")
        if size % count:
            below, above = size // whole * whole, size // whole * whole + whole
            fitting = [str(value) for value in (below, above) if least <= value <= images]
            raise InputError(f"--batch-size {size} would cut a person: {takes}; use {' or '.join(fitting) or least}")


def _refuse_unwritable(folder: Path) -> None:
    """Check before any work starts that the results can be written; a later failure has its own message."""
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "is not a folder" if not place.is_dir() else "cannot be written"
        raise InputError(f"--out: {place} {what}; choose another folder")
