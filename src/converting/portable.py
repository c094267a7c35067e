"""A model on its way from one kind of files to another: what it is, and its weights one by one."""

import dataclasses
import math
import re
import typing

import numpy as np
import tqdm

from .. import encoder, model
from ..command_line import escaping


@dataclasses.dataclass(frozen=True)
class Model:
    """What was found in somebody's files.

    Attributes:
        read: gives one of the weights by its name in OpenAI's checkpoints, as float32 in the shape
            of model.parameter_shapes. Nothing is kept of it.
        counter: how many steps it was trained, where the files say so.
        told: what a person should know of it before it is converted, in sentences.
        known: what a model card says of how it was made, in sentences.
    """

    source: str
    hparams: model.HParams
    encoder: encoder.Encoder
    read: typing.Callable
    counter: int = 0
    told: tuple = ()
    known: tuple = ()


def hparams_of(path, values):
    """The HParams of {name: size}. Raises ValueError, with the path, where they are none."""
    hparams = model.default_hparams()
    try:
        hparams.override_from_dict(values)
    except ValueError as error:
        raise ValueError(f'{path} does not describe a GPT-2: {error}') from None
    return hparams


def shapes_of(hparams):
    """{name: shape} of the weights, in OpenAI's order."""
    return model.by_name(model.parameter_shapes(hparams))


def torch_name(name):
    """'model/h0/attn/c_attn/w' -> 'h.0.attn.c_attn.weight', as in transformers and nanoGPT."""
    _, *path, leaf = name.split('/')
    if not path:  # wte and wpe
        return f'{leaf}.weight'
    layer = [f'h.{path[0][1:]}', *path[1:]] if path[0][1:].isdigit() else path
    return '.'.join([*layer, 'bias' if leaf == 'b' else 'weight'])


def transposed(shape):
    """A shape as PyTorch has it: [1, n_in, n_out] -> [n_out, n_in], others as they are."""
    return shape[:0:-1] if len(shape) == 3 else shape


def is_size(number):
    """Whether a number of a file can be how many there are of something."""
    return type(number) is int and 0 <= number < 2**63


def is_buffer(name):
    """Whether a tensor is the mask of attention, which older versions of others save as well."""
    return bool(re.fullmatch(r'h\.\d+\.attn\.(masked_)?bias', name))


def require_layers(path, names, hparams):
    """Raise ValueError where a file has not as many layers as it says; a number may be any.

    Args:
        names: of its tensors, like h.0.ln_1.weight or blk.0.attn_norm.weight.
    """
    layers = {match[1] for match in map(re.compile(r'\w+\.(\d+)\.').match, names) if match}
    if len(layers) != hparams.n_layer:
        raise ValueError(f'{path} has {len(layers)} layers, and says that it has {hparams.n_layer}')


def require(path, found, expected):
    """Raise ValueError where tensors are missing or have other shapes.

    Args:
        found, expected: {name: shape}, in the words of the file.
    """
    for name, shape in expected.items():
        if name not in found:
            raise ValueError(f'{path} has no tensor {name}; it is not a GPT-2 of these sizes')
        if list(found[name]) != list(shape):
            raise ValueError(
                f'{path}: {name} has shape {list(found[name])}; it should have {list(shape)}'
            )
    if others := sorted(found.keys() - expected.keys()):
        name = escaping.told(others[0])
        raise ValueError(f'{path} has a tensor {name}, for which GPT-2 has no place')


def size_of(shapes):
    """How many bytes weights of these shapes have in float32."""
    return 4 * sum(map(math.prod, shapes))


def weights(a_model, names):
    """The weights of these names, one after the other, with a bar on stderr."""
    shapes = shapes_of(a_model.hparams)
    total = size_of(shapes[name] for name in names)
    with tqdm.tqdm(total=total, unit='B', unit_scale=True, unit_divisor=1024) as progress:
        for name in names:
            array = a_model.read(name)
            progress.update(array.nbytes)
            yield array


def rows_without_token(path, hparams, enc):
    """A sentence on the rows of wte that no token has, in a list; [] where there are none.

    Raises ValueError, with the path: a token that has no row.
    """
    if (last := max(enc.decoder)) >= hparams.n_vocab:
        raise ValueError(
            f'{path}: the vocabulary has ids up to {last}, and wte {hparams.n_vocab} rows'
        )
    without = hparams.n_vocab - len(enc.decoder)
    return [f'{without} rows of wte have no token'] if without else []


def cut(a_model):
    """The model without the rows of wte behind the last token, which some add for speed."""
    size, rows = max(a_model.encoder.decoder) + 1, a_model.hparams.n_vocab
    if rows <= size:
        return a_model

    def read(name):
        return a_model.read(name)[:size] if name == 'model/wte' else a_model.read(name)

    hparams = dataclasses.replace(a_model.hparams, n_vocab=size)
    told = f'wte is cut from {rows} rows to the {size} of the vocabulary'
    return dataclasses.replace(a_model, hparams=hparams, read=read, told=(*a_model.told, told))


def widened(array, dtype):
    """Numbers of a file, as bytes of `dtype`, as float32: 'bfloat16' is the upper half of that."""
    if dtype == 'bfloat16':
        return (array.view('<u2').astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over='ignore'):  # what is too large is infinite
        return array.view(dtype).astype(np.float32, copy=False)
