"""Converting in this process, and what came out of it."""

import numpy as np
from conftest import GOLDEN

from src import encoder, model
from src.converting import convert, portable
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


def every_weight(opened):
    """The sizes of a portable.Model in somebody's files, all of whose weights were read."""
    with opened as a_model:
        for name in portable.shapes_of(a_model.hparams):
            a_model.read(name)
        return a_model.hparams


ODD = (
    None, True, -1, 0, 10**30, float('inf'), 1.5, '', '\ud800', 'x' * 99_999, '\n\x1b[2J', [], {},
    [[]], [None], {'a': []}, '../../x', [1, 2, 3] * 999,
)  # fmt: skip


def odd_ones(content, items=12):
    """(where, the content of a file with one of its values, or its name, another) for many.

    Args:
        content: of dicts, lists and what is in them; of each of these so many items are changed.
    """
    parts = content if isinstance(content, dict) else dict(enumerate(content))
    for name, part in list(parts.items())[:items]:

        def changed(value, name=name, others=content):
            return {**others, name: value} if isinstance(others, dict) else [
                value if number == name else other for number, other in enumerate(others)
            ]  # fmt: skip

        yield from (((name, repr(odd)[:9]), changed(odd)) for odd in ODD)
        if isinstance(content, dict):
            others = {other: value for other, value in content.items() if other != name}
            yield from (((name, odd[:9]), {**others, odd: part}) for odd in ODD if type(odd) is str)
        if isinstance(part, dict | list):
            yield from (((name, *where), changed(odd)) for where, odd in odd_ones(part, 2))
