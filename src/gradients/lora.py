"""LoRA (Hu et al. 2021, arXiv:2106.09685): weights that stay, and thin matrices that learn.

Beside each linear layer's w, [1, n_in, n_out], stand a, [n_in, rank], and b, [rank, n_out]; the
layer computes x w + (x a) b alpha / rank. The weights themselves are frozen, so that they need no
gradients and no optimizer, and can be held in fewer bits.
"""

import os

import numpy as np
import tensorflow as tf

SUFFIX = '.adapters.npz'


def frozen(dtype):
    """What makes a variable of a weight that is not trained: its matrices are in `dtype`."""

    def variable(value, name):
        dtype_of_it = dtype if len(value.shape) > 1 else tf.float32
        return tf.Variable(tf.cast(value, dtype_of_it), trainable=False, name=name)

    return variable


def linear_layers(params):
    """The name and the branch of each linear layer in the blocks: ('model/h0/attn/c_attn', …)."""
    for layer, branch in params.items():
        if layer.startswith('h'):
            for part in ('attn', 'mlp'):
                for name, linear in branch[part].items():
                    yield f'model/{layer}/{part}/{name}', linear


def add_adapters(params, rank, seed=None):
    """Give each linear layer of `params` its `lora`, which at first changes nothing."""
    random = np.random.default_rng(seed)
    for name, linear in linear_layers(params):
        _, n_in, n_out = linear['w'].shape
        a = random.standard_normal([n_in, rank], np.float32) / np.float32(np.sqrt(n_in))
        linear['lora'] = {
            'a': tf.Variable(a, name=f'{name}/lora/a'),
            'b': tf.Variable(tf.zeros([rank, n_out]), name=f'{name}/lora/b'),
        }


def merged(params, scale):
    """The branches of `params`, one after the other, as those of a plain model in float32.

    Args:
        scale: alpha / rank.
    """
    for key, branch in params.items():
        yield {key: _merged(branch, scale)}


def _merged(branch, scale):
    if not isinstance(branch, dict):
        return tf.cast(tf.convert_to_tensor(branch), tf.float32)
    plain = {key: _merged(value, scale) for key, value in branch.items() if key != 'lora'}
    if 'lora' in branch:
        plain['w'] += scale * tf.matmul(branch['lora']['a'], branch['lora']['b'])
    return plain


def write(path, params, alpha, base):
    """Save the adapters alone, and with them alpha and `base`, the prefix of their checkpoint."""
    arrays = {
        f'{name}/lora/{key}': value.numpy()
        for name, linear in linear_layers(params)
        for key, value in linear['lora'].items()
    }
    with open(path, 'wb') as file:
        np.savez(file, alpha=np.float32(alpha), base=np.str_(base), **arrays)
        file.flush()
        os.fsync(file.fileno())


def read(path):
    """{name: array} of what `write` wrote. Raises ValueError where that is not it."""
    try:
        with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return {'alpha': float(arrays.pop('alpha')), 'base': str(arrays.pop('base')), **arrays}
    except OSError:
        raise
    except Exception as error:  # of zip, zlib, NumPy and Python's tokenizer, at damaged bytes
        raise ValueError(
            f'{path} does not hold adapters of train.py --lora_rank: {error}'
        ) from None


def can_go_on(saved, rank, scale):
    """Whether what `read` gave is of this kind, and its base is still there."""
    there = [array.shape for name, array in saved.items() if name.endswith('/lora/a')]
    return (
        all(len(shape) == 2 and shape[1] == rank for shape in there)
        and np.isclose(saved['alpha'], rank * scale)
        and os.path.exists(f'{saved["base"]}.index')
    )


def restore(params, path):
    """Set the adapters of `params` to those of a file. Raises ValueError where they do not fit."""
    arrays = read(path)
    for name, linear in linear_layers(params):
        for key, variable in linear['lora'].items():
            variable.assign(_fitting(arrays, f'{name}/lora/{key}', variable.shape, path))


def merge_into(params, path):
    """Change the weights of a model that only samples by the adapters of a file.

    Raises ValueError: they do not fit.
    """
    arrays = read(path)
    for name, linear in linear_layers(params):
        n_out, n_in = linear['w_t'].shape
        b = arrays.get(f'{name}/lora/b', np.zeros([0, 0]))
        rank = max(1, b.shape[0] if b.ndim else 0)  # there is none of 0
        a = _fitting(arrays, f'{name}/lora/a', [n_in, rank], path)
        b = _fitting(arrays, f'{name}/lora/b', [rank, n_out], path)
        w = linear['w_t']
        more = tf.transpose(tf.matmul(a, b)) * (arrays['alpha'] / rank)
        w.assign(tf.cast(tf.cast(w, tf.float32) + more, w.dtype))


def _fitting(arrays, name, shape, path):
    if name not in arrays or arrays[name].shape != tuple(shape):
        there = f'shape {arrays[name].shape}' if name in arrays else 'not there'
        raise ValueError(
            f'{path} does not fit this model: {name} is {there}; it should have {tuple(shape)}'
        )
    return arrays[name].astype(np.float32)
