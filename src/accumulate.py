"""The mean gradient of several small batches, as if they had been one large batch.

Shepperd's accumulate.py summed. For Adam the two differ by almost nothing, because Adam divides by
the size of the gradient; for SGD the sum is the mean with `accumulate_gradients` times the
learning rate.
"""

import tensorflow as tf


def batch_of(batches, i):
    return tf.nest.map_structure(lambda tensor: tensor[i], batches)


def mean_gradients(loss_and_gradients, batches, shapes):
    """Mean loss and mean gradients over batches of equal size.

    Args:
        loss_and_gradients: a function from a batch to a loss, [], and a list of gradients.
        batches: [number, ...], or a dict of such tensors, of which a batch is a dict; the number
            must be known while tracing.
        shapes: the shapes of the gradients.
    """
    number = tf.nest.flatten(batches)[0].shape[0]
    if number == 1:
        return loss_and_gradients(batch_of(batches, 0))

    def add(i, loss_sum, sums):
        loss, gradients = loss_and_gradients(batch_of(batches, i))
        return i + 1, loss_sum + loss, [s + g for s, g in zip(sums, gradients, strict=True)]

    start = 0, 0.0, [tf.zeros(shape) for shape in shapes]
    _, loss_sum, sums = tf.while_loop(
        lambda i, *_: i < number, add, start, parallel_iterations=1
    )  # one batch at a time: the memory of one
    return loss_sum / number, [s / number for s in sums]
