"""The loss and its gradients for models so small that starting operations takes most of the time.

XLA makes one program of the model, its loss and their gradients, all of which is remembered. Such
products are too small to be shared: each core works on a part of the batch by itself.
"""

import tensorflow as tf

from . import lean_block, model, processes

WIDEST = 128  # n_embd; wider models gain nothing
MOST = 10**8  # numbers that may be remembered: 0.4 GB


def suits(config, hparams):
    """Whether a run may use it, where nothing but windows of text are learnt."""
    return (
        hparams.n_embd <= WIDEST
        and remembered(config, hparams) <= MOST
        and config.dtype == 'float32'
        and not (config.memory_saving_gradients or config.lora_rank)
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


def loss_and_gradients(lm, variables, batch_size, window):
    """A function from inputs and tokens, [batch, window]s, to the loss, [], and its gradients.

    Args:
        variables: a list, by which of them.
    """
    parts, last = parts_of(batch_size), window - 1  # from the last input nothing is predicted
    block = lean_block.lean_block(last)  # XLA computes nothing twice, so nothing is forgotten

    @tf.function(jit_compile=True, autograph=False)
    def of_part(inputs, tokens):  # its summands of the mean
        with tf.GradientTape() as tape:
            h, _ = model.transformer(lm.hparams, lm.params, inputs[:, :last], block=block)
            logits = model.logits_of(h, lm.params)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
            loss = tf.reduce_mean(losses) / parts
        return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]

    def of_batch(inputs, tokens):
        of_parts = map(of_part, tf.split(inputs, parts), tf.split(tokens, parts))
        losses, gradients = zip(*of_parts, strict=True)
        return tf.add_n(losses), [tf.add_n(some) for some in zip(*gradients, strict=True)]

    return of_batch
