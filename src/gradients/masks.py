"""What a window of tokens says besides them: which are to be learnt, and where texts begin.

A token that is there to be seen, and not to be learnt, stands as ~token, which is below 0. A text
begins behind an end token, and where the window does.
"""

import tensorflow as tf


def parts_of(windows, marked, end=None):  # [..., sequence] int32 -> {name: tensor}
    """What backpropagation.loss_and_gradients takes under these names: tokens, weights and starts.

    Args:
        marked: whether there may be tokens that are not to be learnt.
        end: the token behind which nothing before it is seen; None where all of a window is.
    """
    parts = {'tokens': tokens_of(windows) if marked else windows}
    if end is not None:
        parts['starts'] = document_starts(parts['tokens'], end)
    if marked or end is not None:
        parts['weights'] = loss_weights(windows, parts.get('starts'))
    return parts


def tokens_of(windows):  # of any shape -> the same
    """The tokens, whether they are to be learnt or not."""
    return tf.maximum(windows, -1 - windows)  # ~token is -1 - token


def document_starts(tokens, end):  # [..., sequence] -> the same
    """Where in the window each token's text begins."""
    texts = tf.cumsum(tf.cast(tokens == end, tf.int32), axis=-1, exclusive=True)  # before this one
    return tf.searchsorted(texts, texts)


def loss_weights(windows, starts=None):  # [..., sequence] -> [..., sequence - 1]
    """By what the loss of predicting each token but the first is multiplied, before their mean.

    It is 0 for what is not to be learnt and the same for all others, so that the mean is over the
    others alone. Where there are none, all are 0. With `starts`, nothing predicts the first token
    of a text.
    """
    learnt = windows[..., 1:] >= 0
    if starts is not None:
        learnt &= starts[..., 1:] < tf.range(1, windows.shape[-1])
    learnt = tf.cast(learnt, tf.float32)
    return tf.math.divide_no_nan(learnt, tf.reduce_mean(learnt))
