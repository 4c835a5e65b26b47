"""ONNX from elsewhere: how it is fed, against numpy, and graphs that are no face models in one line."""

import numpy as np
import pytest
import torch

from lossbench.errors import InputError
from lossbench.models.onnx_file import InputOptions, foreign_model, open_session

pytestmark = pytest.mark.extra("onnx")
SIDE, LENGTH = 8, 5
WEIGHT = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, LENGTH)).astype(np.float32)
IMAGES = torch.randint(0, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def model(shape=("n", 3, SIDE, SIDE), first=(), kind="FLOAT", more_inputs=(), more_outputs=(), output=("n", LENGTH)):
    """A graph that flattens images and multiplies them by `WEIGHT`, after steps such as ("Sub", 127.5)."""
    import onnx
    from onnx import helper, numpy_helper

    at, nodes, constants = "data", [], [numpy_helper.from_array(WEIGHT, "weight")]
    if kind != "FLOAT":
        nodes.append(helper.make_node("Cast", [at], ["cast"], to=onnx.TensorProto.FLOAT))
        at = "cast"
    for i, (operator, number) in enumerate(first):
        constants.append(numpy_helper.from_array(np.float32(number), f"c{i}"))
        nodes.append(helper.make_node(operator, [at, f"c{i}"], [f"s{i}"]))
        at = f"s{i}"
    nodes += [helper.make_node("Flatten", [at], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["fc1"])]
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("data", getattr(onnx.TensorProto, kind), shape), *more_inputs],
        [helper.make_tensor_value_info("fc1", onnx.TensorProto.FLOAT, output), *more_outputs],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def expected(mean, std, reverse=False):
    values = IMAGES.numpy().astype(np.float64)[:, ::-1] if reverse else IMAGES.numpy().astype(np.float64)
    mean, std = (np.reshape(one, (1, -1, 1, 1)) for one in (mean, std))
    return ((values - mean) / std).reshape(len(values), -1) @ WEIGHT.astype(np.float64)


def embedded(made, **options):
    found = foreign_model(made.SerializeToString(), "m", InputOptions(**options))
    return found.embed(IMAGES).numpy(), found.said


@pytest.mark.parametrize(
    ("options", "fed", "said"),
    [
        (
            {},
            (127.5, 127.5),
            "8 px, RGB, pixels (x - 127.5) / 127.5, as InsightFace does (--mean and --std choose others)",
        ),
        ({"std": (128.0,)}, (127.5, 128), "8 px, RGB, pixels (x - 127.5) / 128"),
        (
            {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)},
            ([1, 2, 3], [4, 5, 6]),
            "pixels (x - [1, 2, 3]) / [4, 5, 6]",
        ),
    ],
)
@pytest.mark.parametrize("channels", [None, "bgr"])
def test_pixels_are_prepared_as_it_is_said(options, fed, said, channels):
    found, says = embedded(model(), channels=channels, **options)
    np.testing.assert_allclose(found, expected(*fed, reverse=channels == "bgr"), rtol=1e-4, atol=1e-3)
    assert (said if channels is None else said.replace("RGB", "BGR")) in says


def test_a_graph_that_normalises_by_itself_is_given_pixels():
    """As those that MXNet exports do: Sub and Mul first. One that takes uint8 does so, too."""
    found, said = embedded(model(first=[("Sub", 127.5), ("Mul", 1 / 128)]))
    np.testing.assert_allclose(found, expected(127.5, 128), rtol=1e-4, atol=1e-3)
    assert said == "8 px, RGB, pixels in 0..255, since the graph begins with a normalisation"
    found, said = embedded(model(kind="UINT8"))
    np.testing.assert_allclose(found, expected(0, 1), rtol=1e-4, atol=1e-1)
    assert said == "8 px, RGB, pixels as uint8"
    chosen, _ = embedded(model(first=[("Sub", 127.5), ("Mul", 1 / 128)]), std=(1.0,))
    np.testing.assert_allclose(chosen, expected(127.5 + 127.5, 128), rtol=1e-4, atol=1e-3)
    for steps in ([("Mul", 2.0), ("Add", 1.0)], [("Sub", 1.0)]):  # which is something else
        assert "as InsightFace does" in embedded(model(first=steps))[1]
    with pytest.raises(InputError, match="--std does not apply to m, which takes uint8"):
        embedded(model(kind="UINT8"), std=(128.0,))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_graph_of_a_fixed_batch_is_given_as_many_images(batch):
    found, _ = embedded(model((batch, 3, SIDE, SIDE), output=(batch, LENGTH)))
    np.testing.assert_allclose(found, expected(127.5, 127.5), rtol=1e-4, atol=1e-3)


def test_the_size_is_asked_for_where_the_graph_does_not_say_it():
    dynamic = model(("n", 3, "h", "w"))
    found, said = embedded(dynamic, image_size=SIDE)
    np.testing.assert_allclose(found, expected(127.5, 127.5), rtol=1e-4, atol=1e-3)
    assert said.startswith("8 px")
    with pytest.raises(
        InputError, match=r"m takes \[n, 3, h, w\], images of any size; choose theirs with --image-size"
    ):
        embedded(dynamic)
    with pytest.raises(InputError, match=r"m cannot be run on images \[1, 3, 9, 9\] \(.*\); check --image-size"):
        embedded(dynamic, image_size=9)
    with pytest.raises(InputError, match=r"--image-size 9 contradicts m, which takes \[n, 3, 8, 8\]; drop the option"):
        embedded(model(), image_size=9)


def test_graphs_that_are_no_face_models_are_one_line():
    from onnx import TensorProto, helper

    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, (1,))
    unused = model(more_inputs=[other], more_outputs=[other])
    second = model(more_outputs=[helper.make_tensor_value_info("flat", TensorProto.FLOAT, ("n", "d"))])
    for made, says in [
        (unused, "m takes 2 inputs; a face model takes one"),
        (second, r"m gives fc1 \[2, 5\], flat \[2, 192\] for 2 images; a face model gives one embedding per image"),
        (model(("n", SIDE, SIDE, 3)), r"m takes \[n, 8, 8, 3\], channels last; .* export it as NCHW"),
        (model(("n", 1, SIDE, 3 * SIDE)), r"m takes \[n, 1, 8, 24\]; images are given as"),
        (model(("n", 3, SIDE // 2, 2 * SIDE)), "images are squares here, and its are not"),
        (model(("n", 3 * SIDE * SIDE)), r"m takes \[n, 192\]; a face model takes images"),
        (model(("n", 3, 4, "w")), r"m takes images of 4 pixels; 8 to 1024"),
        (model(kind="INT64"), r"m takes tensor\(int64\); images are float, float16 or uint8"),
    ]:
        with pytest.raises(InputError, match=says) as error:
            embedded(made)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["../../etc/passwd", "weights.bin", "/etc/passwd"])
def test_weights_in_other_files_are_never_read(place, tmp_path, monkeypatch):
    """Neither at the top nor in a graph within; beside the file they would be found, and are refused as well."""
    from onnx import TensorProto, helper

    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    made = model()
    (weight,) = made.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", place
    with pytest.raises(
        InputError, match=r"m keeps weights in another file, '.*', which is not read; save it as one file"
    ):
        embedded(made)
    inner = helper.make_graph([], "inner", [], [], [weight])
    nested = model()
    nested.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    with pytest.raises(InputError, match="keeps weights in another file"):
        open_session(nested.SerializeToString(), "m", "cure")


def test_a_file_is_run_as_the_onnx_that_was_checked():
    """Its first bytes are the mark of onnxruntime's own format, and, as ONNX, the name of who made it."""
    marked = b"\x08\x00\x12\x04ORTM" + model().SerializeToString()
    found = foreign_model(marked, "m", InputOptions()).embed(IMAGES).numpy()
    np.testing.assert_allclose(found, expected(127.5, 127.5), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "operator"])
def test_damage_is_one_line(damage):
    made = model()
    data = made.SerializeToString()
    made.graph.node[0].op_type = "Flatter"
    data = {"cut": data[:500], "empty": b"", "noise": bytes(range(256)) * 9, "operator": made.SerializeToString()}[
        damage
    ]
    with pytest.raises(InputError, match=r"^m is damaged, or no ONNX file \(.*\); get the file again$") as error:
        foreign_model(data, "m", InputOptions())
    assert "\n" not in str(error.value)


def test_without_the_extra_it_is_said(monkeypatch):
    monkeypatch.setattr("lossbench.models.onnx_file.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"m needs onnx and onnxruntime to run; .* pip install 'lossbench\[onnx\]'"):
        open_session(b"", "m", "cure")


def test_options_that_were_given_are_named():
    assert InputOptions().given() is None
    assert InputOptions(std=(128.0, 2.5, 1.0)).given() == "--std 128,2.5,1"
    assert InputOptions(image_size=112).given() == "--image-size 112"
