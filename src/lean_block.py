"""model.block for training: the same values, and gradients that need to remember less.

What a gradient needs is computed again where that is cheap: norms, gelu and attention, which are a
small part of the work and most of the memory. The products with the weights are not repeated. Of a
layer only the inputs of the five steps below are remembered.

Attention goes through the tokens in slices and looks only at those before them: in a window of
1024, at 10 of 16 squares. Like FlashAttention (Dao et al. 2022, arXiv:2205.14135) it remembers
none of its weights.
"""

import numpy as np
import tensorflow as tf

from . import model

SLICE = 256  # tokens


@tf.custom_gradient
def gelu(x):
    """model.gelu in one pass over x, and its gradient in another."""
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


@tf.function(jit_compile=True, autograph=False)
def _gelu(x):
    return tf.cast(model.gelu(tf.cast(x, tf.float32)), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _gelu_gradient(x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = _gelu(x)
    return tape.gradient(y, x, upstream)


def lean_block(window, dtype=tf.float32, lora_scale=1.0):
    """A function with the arguments of model.block, for batches of `window` tokens.

    With another `dtype`, matrix products are computed in it; what is added up along the layers, the
    norms, the softmax and gelu stay in float32, and so do the weights and their gradients. Linear
    layers may have adapters, whose products are multiplied by `lora_scale`: see lora.
    """
    size = min(window, SLICE)
    # Made here and not in the graph, where each layer would have a constant of its own.
    mask = tf.constant(np.triu(np.full([size, size], -1e10, np.float32), 1))

    def linear(x, params):  # model.conv1d in `dtype`
        x = tf.cast(x, dtype)
        y = model.conv1d(x, {name: tf.cast(params[name], dtype) for name in ('w', 'b')})
        if 'lora' in params:
            a, b = (tf.cast(params['lora'][name], dtype) for name in ('a', 'b'))
            y += tf.matmul(tf.matmul(x, a), b) * lora_scale
        return y

    def attention(c, n_head):  # [batch, sequence, 3 * features] -> [batch, sequence, features]
        q, k, v = (model.split_heads(part, n_head) for part in tf.split(c, 3, axis=2))
        q *= tf.math.rsqrt(tf.cast(v.shape[-1], q.dtype))
        a = []
        for start in range(0, window, size):
            end = min(start + size, window)
            w = tf.matmul(q[:, :, start:end], k[:, :, :end], transpose_b=True)
            w = tf.cast(w, tf.float32)  # [batch, heads, dst, src]
            w += tf.pad(mask[: end - start, : end - start], [[0, 0], [start, 0]])
            a.append(tf.matmul(tf.cast(tf.nn.softmax(w), dtype), v[:, :, :end]))
        return model.merge_heads(tf.concat(a, axis=2))

    def block(x, params, *, past, hparams):
        assert past is None
        attn, mlp = params['attn'], params['mlp']
        remember_input = tf.recompute_grad
        to_attn = remember_input(lambda x: linear(model.norm(x, params['ln_1']), attn['c_attn']))
        attend = remember_input(lambda c: attention(c, hparams.n_head))
        to_mlp = remember_input(lambda x: linear(model.norm(x, params['ln_2']), mlp['c_fc']))
        from_mlp = remember_input(lambda m: linear(gelu(m), mlp['c_proj']))
        x = x + tf.cast(linear(attend(to_attn(x)), attn['c_proj']), tf.float32)
        return x + tf.cast(from_mlp(to_mlp(x)), tf.float32), None

    return block
