"""model.block for training: the same values, and gradients that need to remember less.

What a gradient needs is computed again where that is cheap: norms, gelu and attention, which are a
small part of the work and most of the memory. The products with the weights are not repeated. Of a
layer only the inputs of the five steps below are remembered.
"""

import numpy as np
import tensorflow as tf

from .. import model
from . import dropout, lean_attention


@tf.custom_gradient
def gelu(x):
    """model.gelu in one pass over x, and its gradient in another."""
    rows = tf.reshape(x, [-1, x.shape[-1]])  # which XLA shares among cores, unlike batches of one

    def gradient(upstream):
        return tf.reshape(_gelu_gradient(rows, tf.reshape(upstream, rows.shape)), x.shape)

    return tf.reshape(_gelu(rows), x.shape), gradient


@tf.function(jit_compile=True, autograph=False)
def _gelu(x):
    return tf.cast(model.gelu(tf.cast(x, tf.float32)), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _gelu_gradient(x, upstream):  # of 0.5 x (1 + tanh(slope (x + 0.044715 x³)))
    slope, dtype = np.sqrt(2 / np.pi), x.dtype
    x, upstream = tf.cast(x, tf.float32), tf.cast(upstream, tf.float32)
    t = tf.tanh(slope * (x + 0.044715 * x * x * x))
    inner = slope * (1 + 3 * 0.044715 * x * x)
    return tf.cast(upstream * 0.5 * (1 + t + x * (1 - t * t) * inner), dtype)


def norm(x, params):
    """model.norm in one program, and its gradient in another."""
    return _norm_of(x, tf.convert_to_tensor(params['g']), tf.convert_to_tensor(params['b']))


@tf.custom_gradient
def _norm_of(x, g, b):
    return _norm(x, g, b), lambda dy: _norm_gradient(x, g, dy)


@tf.function(jit_compile=True, autograph=False)
def _norm(x, g, b):
    return _standardized(x)[0] * g + b


@tf.function(jit_compile=True, autograph=False)
def _norm_gradient(x, g, dy):  # [batch, sequence, features]s but g -> dx, dg, db
    n, std = _standardized(x)
    dn = dy * g
    dx = (dn - _mean(dn) - n * _mean(dn * n)) / std
    return dx, tf.reduce_sum(dy * n, axis=[0, 1]), tf.reduce_sum(dy, axis=[0, 1])


def _standardized(x, epsilon=1e-5):  # -> the same and its std, [..., 1]
    x = x - _mean(x)
    std = tf.sqrt(_mean(tf.square(x)) + epsilon)
    return x / std, std


def _mean(x):  # [batch, sequence, features] -> [batch, sequence, 1]
    """A product on CPUs, for which XLA adds several numbers at a time, unlike for a sum."""
    *start, features = x.shape
    if tf.config.list_physical_devices('GPU'):  # which may round what it multiplies
        return tf.reduce_mean(x, axis=-1, keepdims=True)
    ones = tf.fill([features], 1 / features)
    return tf.reshape(tf.linalg.matvec(tf.reshape(x, [-1, features]), ones), [*start, 1])


def remembering_input(function):
    """The function of x and trees of weights that computes what it needs again for its gradient."""

    @tf.custom_gradient
    def of(x, *weights):
        def gradient(dy):
            with tf.control_dependencies([dy]):  # or it would be done at once and remembered
                again = tf.identity(x)
            with tf.GradientTape() as tape:
                tape.watch([again, weights])
                y = function(again, *weights)
            return tape.gradient(y, [again, *weights], dy)

        return function(x, *weights), gradient

    return of


def lean_block(dtype=tf.float32, lora_scale=1.0, dropout_rate=0.0):
    """A function with the arguments of model.block, which returns what attention gave besides.

    That it takes as `attended`, where it is called again for its gradient: in long windows
    attention takes most of the time, and what it gave is little to remember.

    With another `dtype`, matrix products are computed in it; what is added up along the layers, the
    norms, the softmax and gelu stay in float32, and so do the weights and their gradients. Linear
    layers may have adapters, whose products are multiplied by `lora_scale`: see lora.

    Where it is called with `starts`, tokens look no further back than to these. Where it is called
    with a `seed`, there is dropout in the places of nanoGPT's model.py: the weights of attention,
    and what attention and mlp add to x.
    """

    def linear(x, params):  # model.conv1d in `dtype`
        x = tf.cast(x, dtype)
        plain = {name: tf.cast(params[name], dtype) for name in params if name != 'lora'}
        y = model.conv1d(x, plain)
        if 'lora' in params:
            a, b = (tf.cast(params['lora'][name], dtype) for name in ('a', 'b'))
            y += tf.matmul(tf.matmul(x, a), b) * lora_scale
        return y

    linear_of_norm = remembering_input(lambda x, of_norm, of: linear(norm(x, of_norm), of))
    linear_of_gelu = remembering_input(lambda x, of: linear(gelu(x), of))

    def block(x, params, *, past, hparams, starts=None, seed=None, attended=None):
        assert past is None
        in_attention, of_attention, of_mlp = (dropout.seed_of(seed, place) for place in range(3))
        attn, mlp = params['attn'], params['mlp']
        c = linear_of_norm(x, params['ln_1'], attn['c_attn'])
        attended = lean_attention.attention(
            c, hparams.n_head, starts, dropout_rate, in_attention, attended
        )
        a = tf.cast(linear(attended[0], attn['c_proj']), tf.float32)
        x = x + dropout.dropped(a, dropout_rate, of_attention)
        m = linear_of_gelu(linear_of_norm(x, params['ln_2'], mlp['c_fc']), mlp['c_proj'])
        return x + dropout.dropped(tf.cast(m, tf.float32), dropout_rate, of_mlp), attended

    return block
