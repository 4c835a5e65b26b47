"""What a cluster's nodes may lack: packed images, files of weights, plugins, and a network's file.

Large files are used where they lie if a node sees them, and otherwise kept in the node's cache, where they arrive in
chunks, are checked, and appear by rename. Plugins and networks are small: they travel with the job.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lossbench.benchmark.engines.ray_bootstrap import CHUNK
from lossbench.benchmark.inputs import Inputs, open_stores
from lossbench.benchmark.listener import Listener
from lossbench.data.images.store import ImageStore, cache_folder
from lossbench.errors import CONTINUE, InputError
from lossbench.losses.registry import shipped_plugins
from lossbench.losses.spec import Spec
from lossbench.training.checkpoint import drop_checkpoints
from lossbench.utils.claims import alone
from lossbench.utils.files import half_of, heed_fence, put_in_place, whole_file, write_bytes
from lossbench.utils.plugin_file import is_plugin_file
from lossbench.utils.text import shown


@dataclass(frozen=True)
class Parcel:
    """A large file on the caller's side: its path, bytes, time of change (ns), and what else is known of it."""

    path: Path
    size: int
    changed: int
    fingerprint: str = ""

    @classmethod
    def of(cls, path: Path, fingerprint: str = "") -> "Parcel":
        """Return the parcel of a file."""
        stat = path.stat()
        return cls(path.absolute(), stat.st_size, stat.st_mtime_ns, fingerprint)

    @property
    def here(self) -> bool:
        """Whether this process sees the same file at the same path."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.changed)


@dataclass(frozen=True)
class Luggage:
    """What the runs of a benchmark need from the caller's disk.

    `large` are parcels by name: data, pairs and pretrained. `small` are the contents of plugins and of the network, by
    the path that specs and settings give. `plugins` is the caller's folder of those that come with lossbench.
    """

    large: dict[str, Parcel]
    small: dict[str, bytes]
    plugins: Path

    @property
    def paths(self) -> dict[str, str]:
        """Where the large files lie, by name."""
        return {name: str(parcel.path) for name, parcel in self.large.items()}


def pack(inputs: Inputs, listener: Listener) -> Luggage:
    """Collect what the runs need from this disk.

    Raises:
        InputError: the images have changed, or a file cannot be read.
    """
    config, (store, pair_store) = inputs.config, open_stores(inputs, listener)
    large = {"data": _of_store(store)} | ({"pairs": _of_store(pair_store)} if pair_store else {})
    own = shipped_plugins()
    terms = [term for spec in inputs.specs for term in spec.terms]
    files = {term.plugin.path for term in terms if term.plugin.path.is_file() and term.plugin.path.parent != own}
    if config.backbone and is_plugin_file(config.backbone):
        files.add(Path(config.backbone))
    try:
        if config.pretrained and Path(config.pretrained).is_file():
            large["pretrained"] = Parcel.of(Path(config.pretrained))
        return Luggage(large, {str(file): file.read_bytes() for file in sorted(files)}, own)
    except OSError as error:
        raise InputError(f"{shown(Path(error.filename))} cannot be read ({error.strerror})") from error


def _of_store(store: ImageStore) -> Parcel:
    assert isinstance(store.pixels, np.memmap)
    assert store.pixels.filename is not None
    return Parcel.of(Path(store.pixels.filename), store.fingerprint)


def received(parcel: Parcel, name: str, desk: Any, get: Any) -> Path:
    """Return a large file as this node sees it, from the caller's side if it has none.

    Args:
        parcel: the file.
        name: what the desk calls it.
        desk: the handle of the actor `Desk`.
        get: ray.get.

    Raises:
        InputError: it arrived damaged, or the cache cannot be written.
    """
    if parcel.here:
        return parcel.path
    folder = cache_folder()
    digest = get(desk.digest.remote(name))
    place = folder / (parcel.path.name if parcel.fingerprint else f"{digest[:32]}{parcel.path.suffix}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / ".claims" / f"ray-{digest[:32]}", folder):  # one process of the node fetches it
            if not place.is_file() or place.stat().st_size != parcel.size:
                _fetch(place, parcel, name, digest, desk, get)
    except OSError as error:
        raise InputError(
            f"the cache {shown(folder)} cannot be written ({error.strerror or error}); set LOSSBENCH_CACHE there"
        ) from error
    return place


def _fetch(place: Path, parcel: Parcel, name: str, digest: str, desk: Any, get: Any) -> None:
    found = hashlib.sha256()
    coming = desk.chunk.remote(name, 0)
    with whole_file(place) as file:
        for start in range(0, parcel.size, CHUNK):
            data = get(coming)
            coming = desk.chunk.remote(name, start + CHUNK)  # travels while this one is written
            file.write(data)
            found.update(data)
        if found.hexdigest() != digest:
            raise InputError(f"{parcel.path} arrived damaged at this node, or has just changed; run the command again")


def store_at(path: Path, parcel: Parcel) -> ImageStore:
    """Map packed images that this node has, as `open_store` does.

    Raises:
        InputError: the file is damaged.
    """
    try:
        pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)} is damaged ({error}); clear that node's cache") from error
    return ImageStore(pixels, parcel.fingerprint, path)


class Unpacked:
    """Plugins and a network's file as this node has them: written to its cache, under their own names."""

    def __init__(self, luggage: Luggage):
        self.luggage, self.places = luggage, dict[str, Path]()
        for path, content in luggage.small.items():
            digest = hashlib.sha256(content).hexdigest()
            place = cache_folder() / "ray" / digest[:32] / Path(path).name
            if not place.is_file() or place.read_bytes() != content:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(place, content)
            self.places[path] = place

    def spec(self, spec: Spec) -> Spec:
        """Return an entrant whose plugins lie where this node has them."""
        terms = [replace(term, plugin=term.plugin._replace(path=self._of(term.plugin.path))) for term in spec.terms]
        return Spec(tuple(terms))

    def _of(self, path: Path) -> Path:
        if path.parent == self.luggage.plugins:
            return shipped_plugins() / path.name
        return self.places.get(str(path), path)

    def backbone(self, name: str | None) -> str | None:
        """Return what ``--backbone`` is on this node."""
        return str(self.places[name]) if name in self.places else name


def written(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def files_in(folder: Path) -> Sequence[Path]:
    """Return the files of a run's folder, ``run.json`` last; half-written ones are left out."""
    files = sorted(file for file in folder.glob("*") if file.is_file() and not file.name.startswith("."))
    return sorted(files, key=lambda file: file.name == "run.json")


def receive_run(folder: Path, listed: Sequence[tuple[str, int, str]], chunks: Iterator[bytes], host: str) -> None:
    """Take the files of a run that a node sends, under the run's claim; what was there stays until all have come.

    Args:
        folder: of the run; it is made.
        listed: names, bytes and SHA-256 of the files, in the order in which they come and are put in place.
        chunks: their contents, one file after the other.
        host: of the node, for errors.

    Raises:
        InputError: a file has arrived damaged.
        OSError: the folder cannot be written.
        ClaimLost: another process has taken the run over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = {name: folder / Path(name).name for name, _, _ in listed}
    halves = {name: half_of(place) for name, place in places.items()}
    try:
        for name, size, digest in listed:
            found, left = hashlib.sha256(), size
            with halves[name].open("wb") as file:
                while left > 0:
                    data = next(chunks)
                    left -= file.write(data)
                    found.update(data)
            if found.hexdigest() != digest:
                raise InputError(f"{places[name]} arrived damaged from node {host}; {CONTINUE}")
        heed_fence()
        for name in ("run.json", "traceback.txt"):
            (folder / name).unlink(missing_ok=True)
        for name, half in halves.items():
            put_in_place(half, places[name])
        if "checkpoint.pt" not in places:
            drop_checkpoints(folder)
    finally:
        for half in halves.values():
            half.unlink(missing_ok=True)
