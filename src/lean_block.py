"""model.block for training: the same values, and gradients that need to remember less.

What a gradient needs is computed again where that is cheap: norms, gelu and attention, which are a
small part of the work and most of the memory. The products with the weights are not repeated. Of a
layer only the inputs of the five steps below are remembered.

Attention goes through the tokens in slices and looks only at those before them: in a window of
1024, at 10 of 16 squares. Like FlashAttention (Dao et al. 2022, arXiv:2205.14135) it remembers
none of its weights, and its gradient is written out.
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


@tf.function(jit_compile=True, autograph=False)
def _softmax_gradient(w, dw, sums):  # w float32; dw and what comes out in another type
    return tf.cast(w * (tf.cast(dw, tf.float32) - sums), dw.dtype)


def lean_block(window, dtype=tf.float32, lora_scale=1.0):
    """A function with the arguments of model.block, for batches of `window` tokens.

    With another `dtype`, matrix products are computed in it; what is added up along the layers, the
    norms, the softmax and gelu stay in float32, and so do the weights and their gradients. Linear
    layers may have adapters, whose products are multiplied by `lora_scale`: see lora.
    """
    size = min(window, SLICE)
    slices = [(start, min(start + size, window)) for start in range(0, window, size)]
    # Made here and not in the graph, where each layer would have a constant of its own.
    mask = tf.constant(np.triu(np.full([size, size], -1e10, np.float32), 1))

    def linear(x, params):  # model.conv1d in `dtype`
        x = tf.cast(x, dtype)
        y = model.conv1d(x, {name: tf.cast(params[name], dtype) for name in ('w', 'b')})
        if 'lora' in params:
            a, b = (tf.cast(params['lora'][name], dtype) for name in ('a', 'b'))
            y += tf.matmul(tf.matmul(x, a), b) * lora_scale
        return y

    def heads(c, n_head):  # [batch, sequence, 3 * features] -> three slices by slices
        q, k, v = (model.split_heads(part, n_head) for part in tf.split(c, 3, axis=2))
        return q * tf.math.rsqrt(tf.cast(v.shape[-1], q.dtype)), k, v

    def weights(q, k):  # [batch, heads, dst, features], [batch, heads, src, features], to the end
        w = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [batch, heads, dst, src]
        dst, src = w.shape[-2:]
        return tf.nn.softmax(w + tf.pad(mask[:dst, :dst], [[0, 0], [src - dst, 0]]))

    def attention(c, n_head):  # [batch, sequence, 3 * features] -> [batch, sequence, features]
        q, k, v = heads(c, n_head)
        a = []
        for start, end in slices:
            w = weights(q[:, :, start:end], k[:, :, :end])
            a.append(tf.matmul(tf.cast(w, dtype), v[:, :, :end]))
        return model.merge_heads(tf.concat(a, axis=2))

    def attention_gradient(c, a, da, n_head):  # Dao et al. 2022, algorithm 4, for whole rows
        with tf.control_dependencies([da]):  # or its weights would be those of the first time
            q, k, v = heads(tf.identity(c), n_head)
        a, da = model.split_heads(a, n_head), model.split_heads(da, n_head)
        sums = tf.reduce_sum(tf.cast(da * a, tf.float32), axis=-1, keepdims=True)
        dq, dk, dv = [], [[] for _ in slices], [[] for _ in slices]
        for i, (start, end) in enumerate(slices):
            some, dsome = q[:, :, start:end], da[:, :, start:end]
            w = weights(some, k[:, :, :end])
            dw = tf.matmul(dsome, v[:, :, :end], transpose_b=True)
            dw = _softmax_gradient(w, dw, sums[:, :, start:end])
            dq.append(tf.matmul(dw, k[:, :, :end]))
            sizes = [end - start for start, end in slices[: i + 1]]
            for parts, weight, upstream in ((dk, dw, some), (dv, tf.cast(w, dtype), dsome)):
                product = tf.matmul(weight, upstream, transpose_a=True)
                for j, part in enumerate(tf.split(product, sizes, axis=2)):
                    parts[j].append(part)
        dq = tf.concat(dq, axis=2) * tf.math.rsqrt(tf.cast(q.shape[-1], q.dtype))
        dk, dv = (tf.concat([tf.add_n(part) for part in parts], axis=2) for parts in (dk, dv))
        return tf.concat([model.merge_heads(d) for d in (dq, dk, dv)], axis=2)

    def attend(c, n_head):
        @tf.custom_gradient
        def attend(c):
            a = attention(c, n_head)
            return a, lambda da: attention_gradient(c, a, da, n_head)

        return attend(c)

    def block(x, params, *, past, hparams):
        assert past is None
        attn, mlp = params['attn'], params['mlp']
        remember_input = tf.recompute_grad
        to_attn = remember_input(lambda x: linear(model.norm(x, params['ln_1']), attn['c_attn']))
        to_mlp = remember_input(lambda x: linear(model.norm(x, params['ln_2']), mlp['c_fc']))
        from_mlp = remember_input(lambda m: linear(gelu(m), mlp['c_proj']))
        x = x + tf.cast(linear(attend(to_attn(x), hparams.n_head), attn['c_proj']), tf.float32)
        return x + tf.cast(from_mlp(to_mlp(x)), tf.float32), None

    return block
