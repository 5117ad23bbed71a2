"""ONNX programs with their weights in separate files, which is torch.onnx.export's default."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from retroguide_jax import onnx_files
from retroguide_jax.errors import UserError
from retroguide_jax.exported import open_program

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)


def make_model(scale):
    """Mean over an image times a row of weights."""
    weights = numpy_helper.from_array(np.full((3, 64), scale, np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 64])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write(folder, scale, location="net.onnx.data"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.onnx"
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(
        make_model(scale), path, save_as_external_data=True, location=location, size_threshold=0
    )
    return path


def apply(path):
    return open_program(path, "a network").call(IMAGES)[0]


@pytest.mark.parametrize("location", ["net.onnx.data", "weights/part.bin", "w\u00f6.data"])
def test_weights_are_read_from_beside_the_program(tmp_path, monkeypatch, location):
    """The working directory is another network's folder, whose files have the same names."""
    first, second = write(tmp_path / "a", 1, location), write(tmp_path / "b", 5, location)
    assert first.read_bytes() == second.read_bytes()
    wanted = IMAGES.mean((2, 3)).sum(1)
    for place in (tmp_path, tmp_path / "a", tmp_path / "b"):
        monkeypatch.chdir(place)
        np.testing.assert_allclose(apply(first)[:, 0], wanted, rtol=1e-5)
        np.testing.assert_allclose(apply(second)[:, 0], 5 * wanted, rtol=1e-5)


def test_the_fingerprint_is_of_all_files(tmp_path):
    prints = [open_program(write(tmp_path / f"{k}", k), "").fingerprint for k in (1, 2, 1)]
    assert prints[0] != prints[1]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "alone.onnx").write_bytes(make_model(1).SerializeToString())
    assert open_program(tmp_path / "0" / "alone.onnx", "").fingerprint not in prints
    assert open_program(write(tmp_path / "again", 1), "").fingerprint == prints[0]


def test_links_of_a_hub_s_cache_are_followed(tmp_path):
    """Program and weights are both links to files named by their digests."""
    path = write(tmp_path / "a", 3)
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate((path, path.with_name("net.onnx.data"))):
        file.rename(tmp_path / "blobs" / f"{number}")
        file.symlink_to(f"../blobs/{number}")
    np.testing.assert_allclose(apply(path)[:, 0], 3 * IMAGES.mean((2, 3)).sum(1), rtol=1e-5)


def test_missing_weights_are_named(tmp_path):
    path = write(tmp_path / "a", 1)
    (tmp_path / "a" / "net.onnx.data").rename(tmp_path / "net.onnx.data")
    with pytest.raises(UserError, match=r"net\.onnx\.data cannot be read .*external_data=False"):
        open_program(path, "a network")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "x/../../secret.bin"])
def test_names_that_lead_out_are_refused(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(768))
    path = write(tmp_path / "a", 1)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    assert model.graph.initializer[0].external_data[0].key == "location"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="names weights outside of its folder"):
        open_program(path, "a network")


def make_external(location):
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "t")
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def test_every_place_of_a_tensor_is_looked_at():
    """Initial values, constants, branches, functions, sparse tensors."""
    places = [make_external(f"{k}.bin") for k in range(5)]
    inner = helper.make_graph([], "branch", [], [], [places[1]])
    sparse = helper.make_sparse_tensor(places[4], make_external("5.bin"), [4])
    model = make_model(1)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=places[0]))
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner))
    model.graph.initializer.append(places[2])
    model.graph.sparse_initializer.append(sparse)
    node = helper.make_node("Constant", [], ["e"], value=places[3])
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", [], ["e"], [node], opset))
    found = sorted(onnx_files._list_locations(model.SerializeToString()))
    assert found == [f"{k}.bin" for k in range(6)]


def test_damaged_programs_are_reported(tmp_path):
    content = write(tmp_path / "a", 1).read_bytes()
    for number, damaged in enumerate((content[:40], b"\x3a\xff\xff\xff\x7f", b"\xff" * 30)):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="ONNX Runtime cannot read it .*; export it again"):
            open_program(path, "a network")
