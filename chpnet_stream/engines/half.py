"""A half-precision graph inside a float32 wrapper, made of a float32 graph."""

from __future__ import annotations

from chpnet_stream.errors import EngineError


def half_graph(content: bytes) -> bytes:
    """The same ONNX graph with half-precision weights and arithmetic.

    Inputs and outputs stay float32: they are cast where they enter and leave, so that a strongly
    typed engine computes everything in between in half precision. Weights that the graph stores as
    float16 (`chpnet_training.export`) are taken as they are.

    Args:
        content: The float32 graph.

    Raises:
        EngineError: If the package onnx is missing, or a node of the graph asks for float32.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise EngineError(
            "fp16: expected the package onnx, which makes the half-precision graph, found none; "
            "install it, or take precision fp32"
        ) from error
    import numpy as np

    model = onnx.load_from_string(content)
    graph = model.graph
    widened = {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT
    }
    halves = {weight.name for weight in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Cast"]:
        if node.input[0] not in halves:
            raise EngineError(
                f"fp16: expected casts of weights only, found a cast of '{node.input[0]}'; "
                "export the model again"
            )
        graph.node.remove(node)
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(values, name=weight.name))
        weight.name = widened.get(weight.name, weight.name)
    inside = {value.name: f"{value.name}.half" for value in (*graph.input, *graph.output)}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inside.get(name, name) for name in names]
    enter = [
        helper.make_node("Cast", [v.name], [inside[v.name]], to=TensorProto.FLOAT16)
        for v in graph.input
    ]
    leave = [
        helper.make_node("Cast", [inside[v.name]], [v.name], to=TensorProto.FLOAT)
        for v in graph.output
    ]
    nodes = [*enter, *graph.node, *leave]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())
