"""What a window of tokens says besides them: which are to be learnt.

A token that is there to be seen, and not to be learnt, stands as ~token, which is below 0.
"""

import tensorflow as tf


def tokens_of(windows):  # of any shape -> the same
    """The tokens, whether they are to be learnt or not."""
    return tf.maximum(windows, -1 - windows)  # ~token is -1 - token


def weights_of(windows):  # [..., sequence] -> [..., sequence - 1]
    """By what the loss of predicting each token but the first is multiplied, before their mean.

    It is 0 for what is not to be learnt and the same for all others, so that the mean is over the
    others alone. Where there are none, all are 0.
    """
    learnt = tf.cast(windows[..., 1:] >= 0, tf.float32)
    return tf.math.divide_no_nan(learnt, tf.reduce_mean(learnt))
