"""A file that `lossbench export` wrote, read for use. It is untrusted: nothing in it is unpickled or run as Python.

ONNX is run by onnxruntime. Of safetensors and .pt2 only the weights are taken, for the backbone that the metadata
names: `torch.export.load` would run code that a .pt2 brings with it.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossbench.errors import InputError
from lossbench.models.backbones import OURS, build_backbone
from lossbench.models.export import FACTS, FORMATS, INPUT, Embedder
from lossbench.models.onnx_file import open_session
from lossbench.results.model_facts import read_facts
from lossbench.results.onnx_trial import read_onnx
from lossbench.utils.plugin_file import is_plugin_file
from lossbench.utils.text import clipped, described, listed, shown


@dataclass(frozen=True)
class ExportedModel:
    """A model in use: its metadata, and what maps images [B, 3, S, S] uint8 to unit embeddings [B, D] float32."""

    facts: dict[str, Any]
    embed: Callable[[Tensor], Tensor]


def read_model(path: Path) -> ExportedModel:
    """Read a model's file; what it ends in says its format.

    Raises:
        InputError: it cannot be read, is damaged, of another format, or not of lossbench; or its network is a file of
            the user's own, and the format has only its weights; or an ONNX file is beyond the limits of a trial.
    """
    where = shown(path)
    kinds = {ending: kind for kind, ending in FORMATS.items()}
    if path.suffix not in kinds:
        raise InputError(
            f"{where} is in no format that lossbench exports ({listed(list(kinds), 'or')}); "
            "make a model's file with: lossbench export RUN"
        )
    try:
        data = read_onnx(path, where) if path.suffix == FORMATS["onnx"] else path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error.strerror}); name a file that lossbench export wrote"
        ) from error
    return model_of(data, kinds[path.suffix], where)


def model_of(data: bytes, kind: str, where: str) -> ExportedModel:
    """Return the model in a file's bytes.

    Args:
        data: the bytes.
        kind: one of `FORMATS`.
        where: the file, for messages.

    Raises:
        InputError: as `read_model`.
    """
    if kind == "onnx":
        return _onnx(data, where)
    read = _safetensors if kind == "safetensors" else _archive
    try:
        text, weights = read(data)
    except Exception as error:  # zipfile, safetensors and json raise anything for bytes that are damaged
        raise InputError(f"{where} is damaged, or no {kind} file ({described(error)}); export the run again") from error
    facts = read_facts(text, where)
    return ExportedModel(facts, _inference(_rebuilt(facts["model"], weights, where)))


def _onnx(data: bytes, where: str) -> ExportedModel:
    session = open_session(data, where, "export the run again")
    facts = read_facts(session.get_modelmeta().custom_metadata_map.get(FACTS), where)

    def embed(images: Tensor) -> Tensor:
        try:
            (found,) = session.run(None, {INPUT: images.numpy()})
        except Exception as error:  # a graph that another program has changed
            raise InputError(f"{where} cannot be run ({described(error)}); export the run again") from error
        if found.shape != (len(images), facts["model"]["embedding_dim"]):
            raise InputError(f"{where} gives {found.shape}, and not what its metadata says; export the run again")
        return torch.from_numpy(found)

    return ExportedModel(facts, embed)


def _safetensors(data: bytes) -> tuple[str | None, dict[str, Tensor]]:
    from safetensors.torch import load

    weights = load(data)  # which checks the header
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(FACTS), weights


_CONFIG, _EXTRA = "/data/weights/model_weights_config.json", f"/extra/{FACTS}.json"
_TYPES = {4: torch.int32, 5: torch.int64, 7: torch.float32}  # torch._export.serde.schema.ScalarType


def _archive(data: bytes) -> tuple[str | None, dict[str, Tensor]]:
    """Return the metadata and the weights of torch.export's archive, which are raw bytes; its program is not read."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("compressed, which torch.export's archives are not")  # a few bytes may unpack to gigabytes
        root = next((name for name in names if name.endswith(_CONFIG)), "").removesuffix(_CONFIG)
        if not root:
            raise ValueError("no weights where torch 2.9 and later put them")
        text = archive.read(root + _EXTRA).decode() if root + _EXTRA in names else None
        entries = json.loads(archive.read(root + _CONFIG))["config"]
        weights = {}
        for name, entry in entries.items():
            raw = archive.read(f"{root}/data/weights/{entry['path_name']}")
            weights[name.removeprefix("backbone.")] = _tensor(raw, entry["tensor_meta"])
    return text, weights


def _tensor(raw: bytes, about: dict[str, Any]) -> Tensor:
    sizes, strides = ([part["as_int"] for part in about[key]] for key in ("sizes", "strides"))
    flat = torch.frombuffer(bytearray(raw), dtype=_TYPES[about["dtype"]])
    if math.prod(sizes) > len(flat):
        raise ValueError("a tensor is larger than its data")
    return flat.as_strided(sizes, strides, about["storage_offset"]["as_int"]).contiguous()


def _rebuilt(model: dict[str, Any], weights: dict[str, Tensor], where: str) -> Embedder:
    """Return the backbone that the metadata names, with these weights; no file is executed because it names one."""
    name = model["backbone"]
    if model.get("network") or is_plugin_file(name):
        raise InputError(
            f"{where} holds the weights of a network of your own, {clipped(name)}, without the network; "
            "use the ONNX file, which holds both: lossbench export RUN --format onnx"
        )
    built = {key: model[key] for key in ("embedding_dim", "image_size", "dropout")}
    if name in OURS:  # whose size follows from the metadata, which may ask for more than memory holds
        with torch.device("meta"):
            _refuse_misfit(build_backbone(name, **built).state_dict(), weights, where)
    with torch.random.fork_rng(devices=[]):  # building it draws weights, which those of the file replace
        backbone = build_backbone(name, **built)
    _refuse_misfit(backbone.state_dict(), weights, where)
    backbone.load_state_dict(weights)
    return Embedder(backbone)


def _refuse_misfit(needed: Mapping[str, Tensor], weights: Mapping[str, Tensor], where: str) -> None:
    shapes, found = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (needed, weights))
    if wrong := [name for name in {**shapes, **found} if shapes.get(name) != found.get(name)]:
        asked, given = (str(one.get(wrong[0], "nothing")) for one in (shapes, found))
        raise InputError(
            f"the weights in {where} do not fit its metadata ({clipped(wrong[0])} is {given}, not {asked}); "
            "export the run again"
        )


def _inference(embedder: Embedder) -> Callable[[Tensor], Tensor]:
    def embed(images: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = embedder(images)
            return found

    return embed
