"""The loss and its gradients for models so small that starting operations takes most of the time.

XLA makes one program of the model, its loss and their gradients, all of which is remembered. Such
products are too small to be shared: each core works on a part of the batch by itself.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from .. import model
from ..data import processes
from . import lean_block

WIDEST = 256  # n_embd; wider models gain little
LONGEST = 512  # tokens; of a longer window attention would look at too much that it does not need
MOST = 10**8  # numbers that may be remembered: 0.4 GB


def suits(config, hparams):
    """Whether a run may use it, where nothing but windows of text are learnt."""
    others = config.memory_saving_gradients, config.lora_rank, config.dropout, config.document_mask
    return (
        hparams.n_embd <= WIDEST
        and min(config.seq_length, hparams.n_ctx) <= LONGEST
        and remembered(config, hparams) <= MOST
        and config.dtype == 'float32'
        and not any(others)
        and not tf.config.list_physical_devices('GPU')
    )


def remembered(config, hparams):
    """About how many numbers a step remembers: all logits, and all of each layer."""
    window = min(config.seq_length, hparams.n_ctx)
    of_layer = 20 * hparams.n_embd + 3 * hparams.n_head * window  # for each token
    return config.batch_size * window * (3 * hparams.n_vocab + hparams.n_layer * of_layer)


def use_cores():
    """Let operations run side by side, each on one core; too late once TensorFlow has begun."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(processes.cores())
    except RuntimeError:  # in a process that has done something else before, it is only slower
        return


def parts_of(batch_size):
    """In how many equal parts a batch is shared among the cores."""
    return max(n for n in range(1, processes.cores() + 1) if batch_size % n == 0)


@tf.custom_gradient
def product(a, b):  # [..., n, k], [..., k, m] -> [..., n, m]
    """tf.matmul, with a gradient that multiplies no matrix by its columns.

    A transposition becomes part of the products beside it, and XLA then multiplies at two thirds of
    the speed. Barriers keep it a copy, of the smaller matrix.
    """

    def gradient(dc):
        if a.shape[-1] > dc.shape[-1]:
            db = _transposed(_apart(_apart(_transposed(dc)) @ a))
        else:
            db = _apart(_apart(_transposed(a)) @ dc)
        return tf.matmul(dc, b, transpose_b=True), db

    return tf.matmul(a, b), gradient


_transposed = tf.linalg.matrix_transpose


def _apart(x):
    return xla.optimization_barrier(x)[0]


def linear(x, params):  # [batch, sequence, nx] -> [batch, sequence, nf]
    (*start, nx), nf = x.shape, params['b'].shape[0]
    y = product(tf.reshape(x, [-1, nx]), tf.reshape(params['w'], [nx, nf]))
    return tf.reshape(y + params['b'], [*start, nf])


def block(x, params, *, past, hparams):  # [batch, sequence, features] -> the same, and no present
    """model.block out of these products, for XLA; what it computes is remembered."""
    attn, mlp = params['attn'], params['mlp']
    c = linear(lean_block.norm(x, params['ln_1']), attn['c_attn'])
    q, k, v = (model.split_heads(part, hparams.n_head) for part in tf.split(c, 3, axis=2))
    w = product(q, _transposed(k))  # [batch, heads, dst, src]
    b = model.attention_mask(*w.shape[-2:], 0, dtype=tf.bool)
    w = tf.nn.softmax(tf.where(b, w * tf.math.rsqrt(float(v.shape[-1])), -1e10))
    x = x + linear(model.merge_heads(product(w, v)), attn['c_proj'])
    m = lean_block.gelu(linear(lean_block.norm(x, params['ln_2']), mlp['c_fc']))
    return x + linear(m, mlp['c_proj']), None


def loss_and_gradients(lm, variables, batch_size, window):
    """A function from inputs and tokens, [batch, window]s, to the loss, [], and its gradients.

    Args:
        variables: a list, by which of them.
    """
    parts, last = parts_of(batch_size), window - 1  # from the last input nothing is predicted

    @tf.function(jit_compile=True, autograph=False)
    def of_part(inputs, tokens):  # its summands of the mean
        with tf.GradientTape() as tape:
            h, _ = model.transformer(lm.hparams, lm.params, inputs[:, :last], block=block)
            logits = model.logits_of(tf.reshape(h, [-1, lm.hparams.n_embd]), lm.params)
            labels = tf.reshape(tokens[:, 1:], [-1])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses) / parts
        return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]

    def of_batch(inputs, tokens):
        of_parts = map(of_part, tf.split(inputs, parts), tf.split(tokens, parts))
        losses, gradients = zip(*of_parts, strict=True)
        return tf.add_n(losses), [tf.add_n(some) for some in zip(*gradients, strict=True)]

    return of_batch
