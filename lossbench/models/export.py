"""A trained backbone as one file for use elsewhere: its pixels' normalisation inside, its embeddings of unit length."""

import io
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.errors import InputError, did_you_mean
from lossbench.utils.text import clipped, described, listed

FORMATS = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}  # and what a file of each ends in
FACTS = "lossbench"  #: the key of the metadata, JSON, in each format; in a .pt2 it is the file extra/lossbench.json
INPUT, OUTPUT = "images", "embeddings"
_ONNX = ("onnx", "onnxscript", "onnxruntime")


class Embedder(nn.Module):
    """Images [B, 3, S, S] uint8, RGB -> embeddings [B, D] float32 of length 1, so that a dot product is their cosine.

    uint8, since a float image in 0..1 where 0..255 is meant gives embeddings that look right and are not.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.contiguous_format)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, D] of images [B, 3, S, S]."""
        return F.normalize(self.backbone(images.to(torch.float32) / 255).to(torch.float32))


def format_of(path: Path) -> str:
    """Return the format that a file's ending stands for; onnx for any other.

    >>> format_of(Path("model.pt2"))
    'torch'
    """
    return next((name for name, ending in FORMATS.items() if ending == path.suffix), "onnx")


def check_format(name: str) -> None:
    """Refuse a format that is unknown, or whose packages are not installed.

    Raises:
        InputError: it is.
    """
    if name not in FORMATS:
        raise InputError(
            f"--format '{clipped(name)}' is unknown{did_you_mean(name, list(FORMATS))}; "
            f"choose {listed(list(FORMATS), 'or')}"
        )
    if name == "onnx" and not all(map(find_spec, _ONNX)):
        raise InputError(f"--format onnx needs {listed(_ONNX)}; install them with: pip install 'lossbench[onnx]'")


def serialised(embedder: Embedder, side: int, facts: str, kind: str) -> bytes:
    """Return the bytes of a model's file.

    ONNX and .pt2 hold the whole computation, for any number of images; safetensors the backbone's weights alone, under
    the names of its state_dict.

    Args:
        embedder: the model, on the CPU.
        side: S, pixels per side of its images.
        facts: its metadata, JSON.
        kind: of the file, one of `FORMATS`.

    Raises:
        InputError: a network whose computation torch.export cannot follow.
    """
    if kind == "safetensors":
        from safetensors.torch import save

        weights = {name: tensor.contiguous().clone() for name, tensor in embedder.backbone.state_dict().items()}
        return save(weights, metadata={FACTS: facts})
    program = _program(embedder, side)
    return _onnx(program, facts) if kind == "onnx" else _archive(program, facts)


def _program(embedder: Embedder, side: int) -> torch.export.ExportedProgram:
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)  # two: torch.export takes 1 for a constant
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(embedder, (images,), dynamic_shapes={INPUT: {0: batch}})
    except Exception as error:  # a network of the user's own may do anything
        raise InputError(
            f"torch.export cannot follow this network ({described(error)}); use --format safetensors, or write it "
            "without Python branches on the content of tensors or the number of images"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return program


def _archive(program: torch.export.ExportedProgram, facts: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own archive
        torch.export.save(program, buffer, extra_files={f"{FACTS}.json": facts})
    return buffer.getvalue()


def _onnx(program: torch.export.ExportedProgram, facts: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of onnxscript, about what the next torch will change
        try:
            made: Any = torch.onnx.export(
                program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, external_data=False, verbose=False
            )
        except Exception as error:  # operations of a user's network that ONNX does not have
            raise InputError(
                f"this network cannot be written as ONNX ({described(error)}); use --format torch"
            ) from error
    model = made.model_proto
    _without_paths(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name = "lossbench"
    _describe(model, {FACTS: facts})
    data: bytes = model.SerializeToString()
    return data


def _describe(model: Any, facts: Mapping[str, str]) -> None:
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _without_paths(graph: Any) -> None:
    """Drop what torch notes of each node for debugging, and shapes within, whose batch has a name of torch's."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:]
