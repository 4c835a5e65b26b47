"""A first run of an untrusted ONNX file in a process of its own, within limits of size, nodes, memory and time.

A small file may hold a loop without an end, or ask for more memory than there is, even while onnxruntime opens it. What
passes here may still do so on other images than the black one of the trial.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lossbench.errors import InputError

LARGEST = 2**31  # bytes: protobuf holds no more
_NODES = 100_000  # of all graphs in the file; the largest face models have a few thousand
SECONDS = 120.0  # to be opened and run on one image
_SIDE = 112  # of an image, where nothing says another
_TOO_MANY, _TOO_MUCH = 3, 4  # exit codes: nodes, memory


def read_onnx(path: Path, where: str, side: int | None = None) -> bytes:
    """Return the bytes of an ONNX file that opens and runs on one image within the limits.

    Whatever else may be wrong with it is left to the caller.

    Args:
        path: the file.
        where: the file, for messages.
        side: pixels of an image, where the graph does not say it.

    Raises:
        InputError: it is too large, has too many nodes, or takes too much memory or time.
        OSError: it cannot be read.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise InputError(f"{where} has {size:,} bytes; an ONNX file has at most {LARGEST:,}")
    data = path.read_bytes()
    if all(map(find_spec, ("onnx", "onnxruntime"))):  # else it is not opened at all
        _try(data, where, side or _SIDE)
    return data


def _try(data: bytes, where: str, side: int) -> None:
    import torch

    limits = (str(side), str(torch.get_num_threads()), str(_NODES), str(_memory()))
    reach = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # it finds what this process finds
    command = [sys.executable, "-P", "-m", __name__, *limits]  # -P: nothing is imported from the working directory
    cure = "use another file, or run it elsewhere and give its embeddings as an .npz"
    try:
        code = subprocess.run(command, input=data, env=reach, timeout=SECONDS, capture_output=True).returncode
    except subprocess.TimeoutExpired:
        raise InputError(f"{where} did not open and run on one image within {SECONDS:g} s; {cure}") from None
    if code == _TOO_MANY:
        raise InputError(f"{where} has more than {_NODES:,} nodes; {cure}")
    if code == _TOO_MUCH:
        raise InputError(f"{where} needs more than {_memory() / 2**30:.1f} GiB of memory for one image; {cure}")
    if code:
        raise InputError(f"{where} ended the process that ran it on one image (exit code {code}); {cure}")


def _memory() -> int:
    """Return how many bytes a trial may take: half of the machine's memory; 0 where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 0


def _main(side: int, threads: int, nodes: int, memory: int) -> int:
    """Try the file on standard input; return 0 where it stays within the limits, even if it fails."""
    if memory:
        import resource

        with suppress(ValueError, OSError):  # macOS refuses it
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        _open_and_run(sys.stdin.buffer.read(), side, threads, nodes)
    except MemoryError:
        return _TOO_MUCH
    except _Beyond:
        return _TOO_MANY
    except Exception as error:  # of onnxruntime's own types
        return _TOO_MUCH if "alloc" in str(error) else 0  # the caller meets the same error and says it
    return 0


class _Beyond(Exception):
    """More nodes than are allowed."""


def _open_and_run(data: bytes, side: int, threads: int, nodes: int) -> None:
    import numpy as np
    import onnx
    import onnxruntime

    count = 0
    for message in _messages(onnx.load_from_string(data)):
        if message.DESCRIPTOR.name == "TensorProto" and message.data_location == onnx.TensorProto.EXTERNAL:
            return  # refused before it is opened
        count += message.DESCRIPTOR.name == "NodeProto"
        if count > nodes:
            raise _Beyond
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    (taken,) = session.get_inputs()
    usual = (1, 3, side, side)
    shape = [own if isinstance(own, int) and own > 0 else other for own, other in zip(taken.shape, usual, strict=True)]
    session.run(None, {taken.name: np.zeros(shape, kinds[taken.type])})


def _messages(message: Any) -> Iterator[Any]:
    """Yield the nodes and tensors of a model, those of graphs within graphs and of functions, too."""
    if message.DESCRIPTOR.name in ("NodeProto", "TensorProto"):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                yield from _messages(one)


if __name__ == "__main__":
    os._exit(_main(*map(int, sys.argv[1:])))  # without waiting for threads that onnxruntime may have left
