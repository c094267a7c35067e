"""Converting in this process, and what came out of it."""

import numpy as np
from conftest import GOLDEN

from src import encoder, model
from src.converting import convert
from src.model_files import checkpoint, model_directory

RECORDED = GOLDEN / 'other_programs'


def converted(source, destination, **flags):
    """The path `destination`, in which a model is."""
    convert.convert(convert.ConvertConfig(str(source), str(destination), **flags))
    return destination


def loaded(directory):
    """(the GPT2 in a model directory, its Encoder)"""
    hparams = checkpoint.read_hparams(str(directory))
    params = checkpoint.load(model_directory.latest(str(directory)), hparams)
    return model.GPT2(hparams, params), encoder.get_encoder('', str(directory))


def weights(directory):
    """{name: array} of a model directory."""
    lm, _ = loaded(directory)
    return {name: variable.numpy() for name, variable in model.by_name(lm.params).items()}


def require_logits(directory, recorded, tokens, tolerance=1e-5):
    lm, _ = loaded(directory)
    np.testing.assert_allclose(lm(np.int32(tokens))['logits'], recorded, rtol=0, atol=tolerance)


def same(some, others):
    return some.keys() == others.keys() and all(np.array_equal(some[n], others[n]) for n in some)
