"""ONNX files that would run without an end, or fill the memory, are refused; all others are left as they are."""

import numpy as np
import pytest

from lossbench.errors import InputError
from lossbench.results import onnx_trial
from lossbench.results.onnx_trial import read_onnx

pytestmark = pytest.mark.extra("onnx")
SIDE = 8


def written(path, nodes, constants=(), *, output="out"):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ("n", 3, SIDE, SIDE))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        list(constants),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def endless(path):
    """A loop that adds to its input for ever."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64, ()), value("more", TensorProto.BOOL, ()), value("x", TensorProto.FLOAT, None)],
        [value("again", TensorProto.BOOL, ()), value("y", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["", "true", "data"], ["out"], body=body)
    return written(path, [loop], [numpy_helper.from_array(np.bool_(True), "true")])


def hungry(path, count):
    """So many floats, whose number is a constant."""
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("ConstantOfShape", ["many"], ["ones"]), helper.make_node("ReduceSum", ["ones"], ["sum"])]
    nodes.append(helper.make_node("Add", ["data", "sum"], ["out"]))
    return written(path, nodes, [numpy_helper.from_array(np.array([count]), "many")])


def test_a_file_within_the_limits_is_read_as_it_is(tmp_path):
    file = hungry(tmp_path / "m.onnx", 10)
    assert read_onnx(file, "m") == file.read_bytes()
    (tmp_path / "none.onnx").write_bytes(b"no ONNX")
    assert read_onnx(tmp_path / "none.onnx", "m") == b"no ONNX", "what opens it says what is wrong"


def test_nothing_is_imported_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("import pathlib\npathlib.Path('executed').touch()\n")
    monkeypatch.chdir(tmp_path)
    read_onnx(hungry(tmp_path / "m.onnx", 10), "m")
    assert not (tmp_path / "executed").exists()


def test_a_loop_without_an_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trial, "SECONDS", 3.0)
    with pytest.raises(InputError, match=r"\Am did not open and run on one image within 3 s; use another file, or "):
        read_onnx(endless(tmp_path / "m.onnx"), "m")


def test_more_memory_than_a_trial_may_take_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trial, "_memory", lambda: 2**31)
    assert read_onnx(hungry(tmp_path / "few.onnx", 10), "m"), "there is room for onnxruntime itself"
    with pytest.raises(InputError, match=r"\Am needs more than 2\.0 GiB of memory for one image; use another file"):
        read_onnx(hungry(tmp_path / "m.onnx", 2**30), "m")


def test_too_many_nodes_and_bytes_are_refused(tmp_path, monkeypatch):
    file = hungry(tmp_path / "m.onnx", 10)
    monkeypatch.setattr(onnx_trial, "_NODES", 2)
    with pytest.raises(InputError, match=r"\Am has more than 2 nodes; use another file"):
        read_onnx(file, "m")
    monkeypatch.setattr(onnx_trial, "LARGEST", 2**4)
    with pytest.raises(InputError, match=r"\Am has \d+ bytes; an ONNX file has at most 16\Z"):
        read_onnx(file, "m")
