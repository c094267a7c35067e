"""A file that is written weight by weight is the one that the converter would have made."""

import dataclasses

import numpy as np
import pytest
from conftest import recorded
from tensorflow.lite.tools import flatbuffer_utils

from src import model
from src.exporting import litert_weights, tflite_file
from src.sampling import litert


def weights_of(lm):
    arrays = {name: leaf.numpy() for name, leaf in model.by_name(lm.params).items()}
    return arrays.__getitem__


def written(path, lm, dtype):
    with open(path, 'wb') as file:
        tflite_file.write(file, str(path.parent), lm.hparams, dtype, weights_of(lm))
    return path.read_bytes()


@pytest.mark.parametrize('dtype', litert.DTYPES)
def test_it_is_what_the_converter_makes(tmp_path, dtype):
    hparams = model.HParams(n_vocab=97, n_ctx=32, n_embd=48, n_head=3, n_layer=2)
    random = np.random.default_rng(1)  # and larger: it does not round matrices as small as tiny's
    shapes = model.by_name(model.parameter_shapes(hparams)).items()
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes}
    with open(tmp_path / 'm', 'wb') as file:
        tflite_file.write(file, str(tmp_path), hparams, dtype, arrays.__getitem__)
    found = flatbuffer_utils.read_model_from_bytearray((tmp_path / 'm').read_bytes())
    weights = {
        name: litert_weights.made(name, hparams, arrays.__getitem__)
        for name in litert_weights.shapes(hparams)
    }
    expected = tflite_file._converted(str(tmp_path), hparams, weights, dtype)
    expected = flatbuffer_utils.read_model_from_bytearray(expected)
    tensors = [graph.subgraphs[0].tensors for graph in (found, expected)]
    for ours, theirs in zip(*tensors, strict=True):
        assert ours.name == theirs.name and ours.type == theirs.type
        assert np.array_equal(ours.shape, theirs.shape)
        assert np.array_equal(ours.shapeSignature, theirs.shapeSignature)
        contents = [found.buffers[ours.buffer].data, expected.buffers[theirs.buffer].data]
        assert len({bytes(b'' if content is None else content) for content in contents}) == 1
        scales = [t.quantization and t.quantization.scale for t in (ours, theirs)]
        assert (scales[0] is None) == (scales[1] is None)
        assert scales[0] is None or np.array_equal(*scales)
    operators = [graph.subgraphs[0].operators for graph in (found, expected)]
    assert [repr(list(o.inputs)) for o in operators[0]] == [
        repr(list(o.inputs)) for o in operators[1]
    ]


@pytest.mark.parametrize('dtype', litert.DTYPES)
def test_each_weight_is_in_the_file_once(tmp_path, dtype):
    lm = recorded()
    content = written(tmp_path / 'm', lm, dtype)
    for name in litert_weights.shapes(lm.hparams):
        weights = litert_weights.made(name, lm.hparams, weights_of(lm))
        if litert_weights.is_rounded(name, weights.shape, dtype):
            weights, _ = litert_weights.rounded(weights)
        assert content.count(weights.tobytes()) == 1, name


def test_places_behind_four_gigabytes(tmp_path, monkeypatch):
    """The disk holds the weights alone: what lies between them is never written."""
    lm, tokens = recorded(), [1, 2, 3]
    monkeypatch.setattr(tflite_file, 'ALIGNMENT', 2**28)
    path = tmp_path / 'm'
    with open(path, 'wb') as file:
        tflite_file.write(file, str(tmp_path), lm.hparams, 'float32', weights_of(lm))
    assert path.stat().st_size > 2**32 and path.stat().st_blocks * 512 < 2**24
    expected = lm(np.array([tokens], np.int32))['logits'][0, -1]
    assert np.allclose(litert.LiteRT(str(path), threads=1).start(tokens), expected, atol=1e-5)


def test_a_converter_that_does_something_else_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_file, '_replaced', lambda shape, _: shape)
    monkeypatch.setattr(litert_weights, 'rounded', lambda matrix: (np.sign(matrix), matrix[:, 0]))
    hparams = dataclasses.replace(recorded().hparams, n_layer=1)
    with pytest.raises(
        ValueError, match=r'TensorFlow .* made a graph with a constant of \d+ bytes'
    ):
        tflite_file._stand_in(str(tmp_path), hparams, 'int8')
