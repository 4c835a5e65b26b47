"""ONNX models: one that lossbench did not write, and how any is opened. The file is untrusted.

onnxruntime runs the graph; no other file is read because the graph names it, since a path in it could lead anywhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.errors import InputError
from lossbench.utils.text import clipped, described, listed

USUAL_MEAN = USUAL_STD = 127.5  # InsightFace's: pixels in -1..1
_NORMALISING = ({"Sub"}, {"Mul", "Div"})  # operators at the beginning of a graph
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_BATCH = 32

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class InputOptions:
    """What the user said of the input of models from elsewhere; None leaves a choice to the graph or to convention.

    `mean` and `std` are of values in 0..255, one number for all channels or three, in the order that the model takes.
    """

    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None

    def given(self) -> str | None:
        """Return the first option that was given, as it was typed."""
        for name, value in vars(self).items():
            if value is not None:
                text = ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
                return f"--{name.replace('_', '-')} {text}"
        return None


@dataclass(frozen=True)
class ForeignModel:
    """A model from elsewhere: images [B, 3, S, S] uint8, RGB -> embeddings [B, D] float32; `said` is how it is fed."""

    side: int
    batch: int
    embed: Callable[[Tensor], Tensor]
    said: str


def open_session(data: bytes, where: str, cure: str) -> Any:
    """Return onnxruntime's session of an ONNX file, on the CPU.

    Args:
        data: the file's bytes.
        where: the file, for messages.
        cure: what to do about a damaged one, for messages.

    Raises:
        InputError: the extra [onnx] is not installed; the file is damaged, or keeps weights in other files.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise InputError(f"{where} needs {listed(missing)} to run; install it with: pip install 'lossbench[onnx]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads = torch.get_num_threads()
    # onnxruntime's own format, which it would know by its mark, is not what `_refuse_other_files` has checked
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        _refuse_other_files(data, where)
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except InputError:
        raise
    except Exception as error:  # types of onnxruntime's own, and of protobuf's
        raise InputError(f"{where} is damaged, or no ONNX file ({described(error)}); {cure}") from error


def _refuse_other_files(data: bytes, where: str) -> None:
    import onnx

    model = onnx.load_from_string(data)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            raise InputError(
                f"{where} keeps weights in another file, '{clipped(place)}', which is not read; save it as one file: "
                "onnx.save(onnx.load(FILE), ONE_FILE)"
            )


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a model, in graphs within graphs and in functions, too."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                yield from _tensors(one)


def foreign_model(data: bytes, where: str, options: InputOptions) -> ForeignModel:
    """Return a model from elsewhere: NCHW in, one embedding per image out.

    Its size is the graph's, or `--image-size`. Pixels in 0..255 become (x - mean) / std, by default InsightFace's
    (x - 127.5) / 127.5, and are left as they are where the graph begins with such a step itself or takes uint8.

    Raises:
        InputError: as `open_session`; the graph's input or output is of another kind, or an option contradicts it.
    """
    session = open_session(data, where, "get the file again")
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InputError(f"{where} takes {len(inputs)} inputs; a face model takes one, images [batch, 3, SIZE, SIZE]")
    kind = _TYPES.get(inputs[0].type)
    if kind is None:
        raise InputError(f"{where} takes {inputs[0].type}; images are float, float16 or uint8")
    side = _side(inputs[0].shape, where, options.image_size)
    bytes_in = kind is np.uint8
    if bytes_in and (options.mean or options.std):
        option = "--mean" if options.mean else "--std"
        raise InputError(f"{option} does not apply to {where}, which takes uint8 and normalises by itself; drop it")
    chosen = bool(options.mean or options.std)  # the user knows; what was not said is as usual
    inside = bytes_in or (not chosen and _normalises(data, inputs[0].name))
    mean, std = (
        np.asarray(given if given else (usual,), dtype=np.float32).reshape(1, -1, 1, 1)
        for given, usual in ((options.mean, 0 if inside else USUAL_MEAN), (options.std, 1 if inside else USUAL_STD))
    )
    reverse = options.channels == "bgr"

    def prepared(images: Pixels) -> Any:
        fed = images[:, ::-1] if reverse else images
        return np.ascontiguousarray(fed if bytes_in else ((fed - mean) / std).astype(kind))

    batch, output = _probed(session, inputs[0], side, prepared, where)

    def embed(images: Tensor) -> Tensor:
        found = []
        for part in torch.split(images, batch):
            given = part.numpy()
            short = batch - len(given) if isinstance(inputs[0].shape[0], int) else 0
            padded = np.concatenate([given, np.repeat(given[-1:], short, axis=0)]) if short else given
            found.append(_ran(session, inputs[0].name, output, prepared(padded), where)[: len(given)])
        return torch.from_numpy(np.concatenate(found).astype(np.float32))

    return ForeignModel(side, batch, embed, _said(side, mean, std, options, inside=inside, bytes_in=bytes_in))


def _said(side: int, mean: Any, std: Any, options: InputOptions, *, inside: bool, bytes_in: bool) -> str:
    """Return how a model is fed, in a line."""

    def text(values: Any) -> str:
        flat = values.ravel().tolist()
        return f"{flat[0]:g}" if len(flat) == 1 else f"[{', '.join(f'{one:g}' for one in flat)}]"

    order = (options.channels or "rgb").upper()
    if inside:
        how = "pixels as uint8" if bytes_in else "pixels in 0..255, since the graph begins with a normalisation"
    else:
        usual = "" if options.mean or options.std else ", as InsightFace does (--mean and --std choose others)"
        how = f"pixels (x - {text(mean)}) / {text(std)}{usual}"
    return f"{side} px, {order}, {how}"


def _side(shape: list[Any], where: str, asked: int | None) -> int:
    """Return the side of the images that an input of this shape takes."""
    text = f"[{', '.join(str(one or '?') for one in shape)}]"
    if len(shape) != 4:
        raise InputError(f"{where} takes {text}; a face model takes images [batch, 3, SIZE, SIZE]")
    if shape[1] != 3 and isinstance(shape[1], int):
        hint = ", channels last" if shape[3] == 3 else ""
        raise InputError(f"{where} takes {text}{hint}; images are given as [batch, 3, SIZE, SIZE], export it as NCHW")
    sides = {one for one in shape[2:] if isinstance(one, int) and one > 0}
    if len(sides) > 1:
        raise InputError(f"{where} takes {text}; images are squares here, and its are not")
    if asked is not None and sides and asked not in sides:
        raise InputError(f"--image-size {asked} contradicts {where}, which takes {text}; drop the option")
    if asked is None and not sides:
        raise InputError(f"{where} takes {text}, images of any size; choose theirs with --image-size 112")
    side = asked or sides.pop()
    if not 8 <= side <= 1024:
        raise InputError(f"{where} takes images of {side} pixels; 8 to 1024 can be measured")
    return int(side)


def _normalises(data: bytes, name: str) -> bool:
    """Return whether a graph begins by a subtraction from its input and a factor, as those that MXNet exports do."""
    import onnx

    graph = onnx.load_from_string(data).graph
    for operators in _NORMALISING:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in operators:
            return False
        name = users[0].output[0]
    return True


def _probed(session: Any, taken: Any, side: int, prepared: Callable[[Pixels], Any], where: str) -> tuple[int, str]:
    """Return how many images to give at once, and the output that is the embedding, by a first run."""
    fixed = taken.shape[0] if isinstance(taken.shape[0], int) else None
    if fixed is not None and not 1 <= fixed <= 1024:
        raise InputError(f"{where} takes {fixed} images at once; 1 to 1024 can be given")
    names = [one.name for one in session.get_outputs()]
    for count in [fixed] if fixed else [2, 1]:  # some graphs say that they take any number, and take one
        images = np.zeros((count, 3, side, side), dtype=np.uint8)
        try:
            found = session.run(None, {taken.name: prepared(images)})
            break
        except Exception as error:  # types of onnxruntime's own
            failed = error
    else:
        shape = f"[{fixed or 1}, 3, {side}, {side}]"
        raise InputError(f"{where} cannot be run on images {shape} ({described(failed)}); check --image-size")
    fitting = [
        name
        for name, one in zip(names, found, strict=True)
        if isinstance(one, np.ndarray) and one.ndim == 2 and len(one) == count and one.shape[1] > 1
        and one.dtype.kind == "f"
    ]  # fmt: skip
    if len(fitting) != 1:
        shapes = ", ".join(f"{clipped(n)} {list(np.shape(one))}" for n, one in zip(names, found, strict=True))
        raise InputError(
            f"{where} gives {clipped(shapes, 200)} for {count} images; a face model gives one embedding per image, "
            "[batch, D]"
        )
    return fixed or (_BATCH if count > 1 else 1), fitting[0]


def _ran(session: Any, name: str, output: str, images: Any, where: str) -> Any:
    try:
        (found,) = session.run([output], {name: images})
    except Exception as error:  # types of onnxruntime's own
        raise InputError(f"{where} cannot be run ({described(error)}); get the file again") from error
    if found.ndim != 2 or len(found) != len(images):
        raise InputError(f"{where} gives {list(found.shape)} for {len(images)} images; it should give one row for each")
    return found
