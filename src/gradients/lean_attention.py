"""Causal attention over a whole window that remembers none of its weights.

It goes through the tokens in slices and looks only at those before them: in a window of 1024, at 10
of 16 squares. What the gradient needs of the weights is computed again, as in FlashAttention (Dao
et al. 2022, arXiv:2205.14135).
"""

import numpy as np
import tensorflow as tf

from .. import model
from . import dropout

SLICE = 256  # tokens


def causal_mask(window):
    """What is added to the weights where the tokens of a slice meet themselves.

    To be made outside a graph, in which each layer would have a constant of its own.
    """
    size = min(window, SLICE)
    return tf.constant(np.triu(np.full([size, size], -1e10, np.float32), 1))


def attention(c, n_head, mask, starts=None, dropout_rate=0.0, seed=None):
    """What model.attn computes between its two linear layers.

    Args:
        c: [batch, sequence, 3 * features], of any floating type; the softmax is float32.
        mask: causal_mask(sequence).
        starts: [batch, sequence], the first token that each may look at; None for that of the
            window.
        dropout_rate: of the weights; each slice has a seed of its own, made from `seed`.

    Returns [batch, sequence, features].
    """

    @tf.custom_gradient
    def attention(c):
        a = _attention(c, n_head, mask, starts, dropout_rate, seed)
        return a, lambda da: _gradient(c, a, da, n_head, mask, starts, dropout_rate, seed)

    return attention(c)


def _slices(c, mask):
    size, window = mask.shape[0], c.shape[1]
    return [(start, min(start + size, window)) for start in range(0, window, size)]


def _heads(c, n_head):  # -> queries, to be multiplied by keys as they are, keys, values:
    # [batch, sequence, 3 * features] -> [batch, heads, sequence, features / heads] each
    batch, sequence, features = c.shape
    c = tf.reshape(c, [batch, sequence, 3, n_head, features // (3 * n_head)])
    q, k, v = tf.unstack(tf.transpose(c, [2, 0, 3, 1, 4]))  # as model.split_heads, in one pass
    return q * tf.math.rsqrt(tf.cast(v.shape[-1], q.dtype)), k, v


def _weights(q, k, mask, starts):
    # [batch, heads, dst, features], [batch, heads, src, features] up to dst
    w = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)  # [batch, heads, dst, src]
    dst, src = w.shape[-2:]
    if starts is not None:
        w = tf.where(tf.range(src) < starts[:, None, src - dst : src, None], -1e10, w)
    return tf.nn.softmax(w + tf.pad(mask[:dst, :dst], [[0, 0], [src - dst, 0]]))


def _attention(c, n_head, mask, starts, dropout_rate, seed):
    q, k, v = _heads(c, n_head)
    a = []
    for number, (start, end) in enumerate(_slices(c, mask)):
        w = _weights(q[:, :, start:end], k[:, :, :end], mask, starts)
        w = dropout.dropped(w, dropout_rate, dropout.seed_of(seed, number))
        a.append(tf.matmul(tf.cast(w, c.dtype), v[:, :, :end]))
    return model.merge_heads(tf.concat(a, axis=2))


def _gradient(c, a, da, n_head, mask, starts, dropout_rate, seed):  # shapes of c, a, a -> c
    slices = _slices(c, mask)
    with tf.control_dependencies([da]):  # or the weights would be those of the first time
        q, k, v = _heads(tf.identity(c), n_head)
        seeds = [dropout.seed_of(seed, number) for number in range(len(slices))]
    a, da = model.split_heads(a, n_head), model.split_heads(da, n_head)
    sums = tf.reduce_sum(tf.cast(da, tf.float32) * tf.cast(a, tf.float32), axis=-1, keepdims=True)
    dq, dk, dv = [], [[] for _ in slices], [[] for _ in slices]  # of each slice; its summands
    for number, (start, end) in enumerate(slices):
        some_q, some_da = q[:, :, start:end], da[:, :, start:end]
        w = _weights(some_q, k[:, :, :end], mask, starts)  # [batch, heads, dst, src]
        dw = tf.matmul(some_da, v[:, :, :end], transpose_b=True)
        dw = dropout.dropped(dw, dropout_rate, seeds[number])
        dw = _softmax_gradient(w, dw, sums[:, :, start:end])
        w = dropout.dropped(w, dropout_rate, seeds[number])
        dq.append(tf.matmul(dw, k[:, :, :end]))
        sizes = [end - start for start, end in slices[: number + 1]]
        for summands, weight, upstream in ((dk, dw, some_q), (dv, w, some_da)):
            product = tf.matmul(tf.cast(weight, c.dtype), upstream, transpose_a=True)
            for i, part in enumerate(tf.split(product, sizes, axis=2)):
                summands[i].append(part)
    dq = tf.concat(dq, axis=2) * tf.math.rsqrt(tf.cast(q.shape[-1], q.dtype))
    dk, dv = (tf.concat([tf.add_n(s) for s in summands], axis=2) for summands in (dk, dv))
    return tf.concat([model.merge_heads(d) for d in (dq, dk, dv)], axis=2)


@tf.function(jit_compile=True, autograph=False)
def _softmax_gradient(w, dw, sums):  # as algorithm 4 of FlashAttention; in one pass
    return tf.cast(w * (tf.cast(dw, tf.float32) - sums), dw.dtype)
