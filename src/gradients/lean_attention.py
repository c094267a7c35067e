"""Causal attention over a whole window that remembers none of its weights.

It goes through the tokens in slices and looks only at those before them: in a window of 1024, at 10
of 16 squares. What the gradient needs of the weights is computed again, from the logarithms of
their sums, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135).

Weights are [batch, heads, src, dst] here, unlike in model.multihead_attn: src is what may be long,
and products whose larger factor lies as it is used are up to twice as fast.
"""

import tensorflow as tf

from .. import model
from . import dropout

SLICE = 256  # tokens
FAR_BELOW = -1e10  # as in model.multihead_attn


def attention(c, n_head, starts=None, dropout_rate=0.0, seed=None, known=None):
    """What model.attn computes between its two linear layers.

    Args:
        c: [batch, sequence, 3 * features], of any floating type; the softmax is float32.
        starts: [batch, sequence], the first token that each may look at; None for that of the
            window.
        dropout_rate: of the weights; each slice has a seed of its own, made from `seed`.
        known: what an earlier call with the same arguments returned, for its gradient alone.

    Returns [batch, sequence, features], and what its gradient needs besides.
    """

    @tf.custom_gradient
    def attention(c):
        a, logs = known or _attention(c, n_head, starts, dropout_rate, seed)

        def gradient(da, *_):
            return _gradient(c, a, da, logs, n_head, starts, dropout_rate, seed)

        return (a, *logs), gradient

    a, *logs = attention(c)
    return a, logs


def _slices(c):
    return [(start, min(start + SLICE, c.shape[1])) for start in range(0, c.shape[1], SLICE)]


def _heads(c, n_head):  # -> queries, to be multiplied by keys as they are, keys, values:
    # [batch, sequence, 3 * features] -> [batch, heads, sequence, features / heads] each
    batch, sequence, features = c.shape
    c = tf.reshape(c, [batch, sequence, 3, n_head, features // (3 * n_head)])
    q, k, v = tf.unstack(tf.transpose(c, [2, 0, 3, 1, 4]))  # as model.split_heads, in one pass
    return q * tf.math.rsqrt(tf.cast(v.shape[-1], q.dtype)), k, v


def _merged(x):  # [batch, heads, features, sequence] -> [batch, sequence, heads * features]
    batch, _, _, sequence = x.shape
    return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [batch, sequence, -1])


def _attention(c, n_head, starts, dropout_rate, seed):
    q, k, v = _heads(c, n_head)
    a, logs = [], []  # of each slice
    for number, (start, end) in enumerate(_slices(c)):
        w = tf.matmul(k[:, :, :end], q[:, :, start:end], transpose_b=True)
        w, log = _softmax(w, None if starts is None else starts[:, start:end])
        w = dropout.dropped(w, dropout_rate, dropout.seed_of(seed, number))
        a.append(tf.matmul(v[:, :, :end], w, transpose_a=True))  # [batch, heads, features, dst]
        logs.append(log)
    return _merged(tf.concat(a, axis=3)), logs


@tf.function(jit_compile=True, autograph=False)
def _softmax(w, starts):  # [batch, heads, src, dst], [batch, dst] -> the same, and
    # [batch, heads, 1, dst], the logarithms of the sums of exp(w)
    dtype, w = w.dtype, _masked(w, starts)
    largest = tf.reduce_max(w, axis=2, keepdims=True)
    e = tf.exp(w - largest)
    total = tf.reduce_sum(e, axis=2, keepdims=True)
    return tf.cast(e / total, dtype), largest + tf.math.log(total)


def _masked(w, starts):  # [batch, heads, src, dst], [batch, dst] -> the same, as float32
    # The mask is added, which takes XLA two thirds of the time of comparing src and dst everywhere.
    src, dst = w.shape[2:]
    mask = tf.where(tf.range(dst)[:, None] <= tf.range(dst), 0.0, FAR_BELOW)
    w = tf.cast(w, tf.float32) + tf.pad(mask, [[src - dst, 0], [0, 0]])
    if starts is None:
        return w
    return tf.where(tf.range(src)[:, None] < starts[:, None, None], FAR_BELOW, w)


def _gradient(c, a, da, logs, n_head, starts, dropout_rate, seed):  # shapes of c, a, a -> c
    slices = _slices(c)
    with tf.control_dependencies([da]):  # or the weights would be those of the first time
        q, k, v = _heads(tf.identity(c), n_head)
        seeds = [dropout.seed_of(seed, number) for number in range(len(slices))]
    a, da = model.split_heads(a, n_head), model.split_heads(da, n_head)
    sums = tf.reduce_sum(tf.cast(da, tf.float32) * tf.cast(a, tf.float32), axis=-1)[:, :, None]
    dq, dk, dv = [], [[] for _ in slices], [[] for _ in slices]  # of each slice; its summands
    for number, (start, end) in enumerate(slices):
        some_q, some_da = q[:, :, start:end], da[:, :, start:end]
        w = tf.matmul(k[:, :, :end], some_q, transpose_b=True)  # [batch, heads, src, dst]
        dw = tf.matmul(v[:, :, :end], some_da, transpose_b=True)
        dw = dropout.dropped(dw, dropout_rate, seeds[number])
        some = None if starts is None else starts[:, start:end]
        w, dw = _weights_and_gradient(w, dw, logs[number], sums[..., start:end], some)
        w = dropout.dropped(w, dropout_rate, seeds[number])
        dq.append(tf.matmul(k[:, :, :end], dw, transpose_a=True))
        sizes = [end - start for start, end in slices[: number + 1]]
        for summands, weight, upstream in ((dk, dw, some_q), (dv, w, some_da)):
            product = tf.matmul(weight, upstream)
            for i, part in enumerate(tf.split(product, sizes, axis=2)):
                summands[i].append(part)
    dq = _merged(tf.concat(dq, axis=3)) * tf.math.rsqrt(tf.cast(q.shape[-1], q.dtype))
    dk, dv = (tf.concat([tf.add_n(s) for s in summands], axis=2) for summands in (dk, dv))
    return tf.concat([dq, model.merge_heads(dk), model.merge_heads(dv)], axis=2)


@tf.function(jit_compile=True, autograph=False)
def _weights_and_gradient(w, dw, logs, sums, starts):
    """The softmax of w, and the gradient of w, as algorithm 4 of FlashAttention; in one pass."""
    p = tf.exp(_masked(w, starts) - logs)
    return tf.cast(p, w.dtype), tf.cast(p * (tf.cast(dw, tf.float32) - sums), w.dtype)
