"""A .tflite of any size, written weight by weight: the graph of a stand-in, with other sizes.

TensorFlow's converter takes several times the weights in memory, and its flatbuffer ends at 2 GB.
So it gets a stand-in: as many layers, random weights, and sizes of which none equals another. In
the file that it makes each constant is known by its value, as one of the weights or as a shape.
There the sizes are replaced, and the weights follow behind the graph, where a reader maps them.
"""

import copy
import dataclasses
import os
import shutil

import numpy as np
import tensorflow as tf
import tqdm
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from ..sampling import litert
from . import litert_graph, litert_weights

SMALL = {'n_vocab': 1009, 'n_ctx': 1021, 'n_embd': 77, 'n_head': 7}
ALIGNMENT = 64  # bytes, of weights in the file; more than any processor asks for


def write(file, stage, hparams, dtype, read):
    """Write the .tflite of a model to a binary file.

    Args:
        stage: a folder for what lies on the disk meanwhile.
        read: gives the weights of a name in the checkpoint, in float32.

    Raises ValueError: TensorFlow's converter made something else of the graph than is known here.
    """
    graph, constants = _stand_in(stage, hparams, dtype)
    shapes = litert_weights.shapes(hparams)
    for tensor, name in constants.scales:
        tensor.quantization.scale = np.ones(shapes[name][0], np.float32)
        tensor.quantization.zeroPoint = np.zeros(shapes[name][0], np.int64)
    begin = end = _aligned(len(_packed(graph)))  # which numbers are in it changes nothing
    scales = {}
    total = sum(map(_size, shapes.values()))
    with tqdm.tqdm(total=total, unit='B', unit_scale=True, unit_divisor=1024) as progress:
        for name, shape in shapes.items():
            weights = litert_weights.made(name, hparams, read)
            for part, values in _parts(name, weights, dtype).items():
                scales |= {name: values} if part == 'scales' else {}
                if (name, part) in constants.buffers:
                    buffer = graph.buffers[constants.buffers[name, part]]
                    buffer.offset, buffer.size = end, values.nbytes
                    file.seek(end)
                    file.write(values.data)
                    end = _aligned(end + values.nbytes)
            progress.update(_size(shape))
    for tensor, name in constants.scales:
        tensor.quantization.scale = scales[name]
    packed = _packed(graph)
    assert _aligned(len(packed)) == begin
    file.seek(end)
    file.write(litert.seal(packed))
    file.seek(0)
    file.write(packed)


@dataclasses.dataclass
class Constants:
    """Where weights belong in a graph.

    Attributes:
        buffers: {(name, part): index of the buffer}.
        scales: [(tensor in int8, name)].
    """

    buffers: dict
    scales: list


def _stand_in(stage, hparams, dtype):
    """The graph of a model without its weights, a schema.ModelT, and its Constants."""
    small = dataclasses.replace(hparams, **SMALL)
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in litert_weights.shapes(small).items()
    }
    graph = flatbuffer_utils.read_model_from_bytearray(_converted(stage, small, weights, dtype))
    names = {
        values.tobytes(): (name, part)
        for name, array in weights.items()
        for part, values in _parts(name, array, dtype).items()
    }
    constants, sizes = Constants({}, []), _sizes(small, hparams)
    for tensor in graph.subgraphs[0].tensors:
        tensor.shape = _replaced(tensor.shape, sizes)
        tensor.shapeSignature = _replaced(tensor.shapeSignature, sizes)
        content = graph.buffers[tensor.buffer].data
        if content is None or not len(content):
            continue
        name = names.get(bytes(content))
        if name:
            constants.buffers[name] = tensor.buffer
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                constants.scales.append((tensor, name[0]))
        elif tensor.type == schema.TensorType.INT32:
            values = _replaced(np.frombuffer(bytes(content), np.int32), sizes)
            graph.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        elif len(content) > 4:
            raise ValueError(
                f'TensorFlow {tf.__version__} made a graph with a constant of {len(content)} bytes '
                'that is not known; take one of the versions of requirements.txt'
            )
    for index in constants.buffers.values():
        graph.buffers[index].data = None
        graph.buffers[index].offset = graph.buffers[index].size = 1
    for operator in graph.subgraphs[0].operators:
        if isinstance(operator.builtinOptions, schema.ReshapeOptionsT):
            shape = operator.builtinOptions.newShape
            operator.builtinOptions.newShape = _replaced(shape, sizes)
    (signature,) = graph.signatureDefs  # one graph by each name; two of them would be two graphs
    graph.signatureDefs = [copy.copy(signature) for _ in litert.SIGNATURES]
    for signature, name in zip(graph.signatureDefs, litert.SIGNATURES, strict=True):
        signature.signatureKey = name
    return graph, constants


def _converted(stage, hparams, weights, dtype):
    path, first = os.path.join(stage, 'graph'), litert.SIGNATURES[0]
    step = litert_graph.Step(hparams, weights, dtype)
    tf.saved_model.save(step, path, signatures={first: step.signature()})
    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=[first])
    if dtype == 'int8':  # the weights; XNNPACK rounds activations as they come
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converted = converter.convert()
    shutil.rmtree(path)
    return bytearray(converted)


def _parts(name, weights, dtype):
    """{part: array} of what the file may hold of some weights."""
    if not litert_weights.is_rounded(name, weights.shape, dtype):
        return {'values': weights}
    values, scales = litert_weights.rounded(weights)
    return {'values': values, 'scales': scales}


def _sizes(small, hparams):
    """{size in the stand-in: size in the model}."""

    def sizes(hparams):
        n_embd = hparams.n_embd
        heads = [hparams.n_head, n_embd // hparams.n_head]
        return [hparams.n_vocab, hparams.n_ctx, n_embd, 3 * n_embd, 4 * n_embd, *heads]

    return dict(zip(sizes(small), sizes(hparams), strict=True))


def _replaced(shape, sizes):
    if shape is None:
        return None
    return np.array([sizes.get(int(size), int(size)) for size in shape], np.int32)


def _packed(graph):
    return flatbuffer_utils.convert_object_to_bytearray(graph)


def _size(shape):
    return 4 * int(np.prod(shape))


def _aligned(place):
    return -(-place // ALIGNMENT) * ALIGNMENT
