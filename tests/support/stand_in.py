"""Tiny ONNX networks with the inputs and outputs of the official two."""

from pathlib import Path

import numpy as np
import onnx

Shapes = list[tuple[str, list[int | str]]]


def write_onnx(path: Path, inputs: Shapes, outputs: Shapes, nodes: list, constants: dict) -> None:
    """Write an ONNX file; an IR version that every supported onnxruntime reads."""
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "stand-in",
        [make(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs],
        [make(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.save(model, path)


def write_networks(folder: Path, score: float = 0.9) -> Path:
    """Write a detector that sees a person where the picture is bright, and fixed key points."""
    folder.mkdir(parents=True, exist_ok=True)
    # the mean of each 32-pixel cell becomes its objectness; every cell reports a 160-pixel box
    boxes = np.zeros((8400, 85), dtype=np.float32)
    boxes[:, 2:4] = np.log(np.repeat([20.0, 10.0, 5.0], [6400, 1600, 400]))[:, None]
    boxes[:, 5] = 1
    pad = np.zeros((1, 8000, 1), dtype=np.float32)
    column = np.zeros((1, 1, 85), dtype=np.float32)
    column[..., 4] = 1 / 255
    write_onnx(
        folder / "yolox_l.onnx",
        [("images", [1, 3, 640, 640])],
        [("output", [1, 8400, 85])],
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["grey"], axes=[1], keepdims=1),
            onnx.helper.make_node(
                "AveragePool", ["grey"], ["cells"], kernel_shape=[32, 32], strides=[32, 32]
            ),
            onnx.helper.make_node("Reshape", ["cells", "flat"], ["list"]),
            onnx.helper.make_node("Concat", ["pad", "list"], ["scores"], axis=1),
            onnx.helper.make_node("Mul", ["scores", "column"], ["objectness"]),
            onnx.helper.make_node("Add", ["objectness", "boxes"], ["output"]),
        ],
        {"flat": np.array([1, 400, 1]), "pad": pad, "column": column, "boxes": boxes[None]},
    )
    x, y = (np.zeros((1, 133, bins), dtype=np.float32) for bins in (576, 768))
    for point in range(133):
        x[0, point, 4 * point], y[0, point, 5 * point] = score, score * 8 / 9
    x[0, 9] = 0  # the left wrist is not found
    write_onnx(
        folder / "dw-ll_ucoco_384.onnx",
        [("input", ["n", 3, 384, 288])],
        [("simcc_x", ["n", 133, 576]), ("simcc_y", ["n", 133, 768])],
        [
            onnx.helper.make_node("ReduceMean", ["input"], ["m"], axes=[1, 2, 3], keepdims=1),
            onnx.helper.make_node("Reshape", ["m", "shape"], ["row"]),
            onnx.helper.make_node("Mul", ["row", "zero"], ["nothing"]),
            onnx.helper.make_node("Add", ["nothing", "x"], ["simcc_x"]),
            onnx.helper.make_node("Add", ["nothing", "y"], ["simcc_y"]),
        ],
        {
            "shape": np.array([-1, 1, 1]),
            "zero": np.zeros(1, dtype=np.float32),
            "x": x,
            "y": y,
        },
    )
    return folder
