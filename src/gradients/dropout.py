"""Dropout whose mask is made again where it is needed again, from the same seed.

A seed, [2], comes from the step; each layer, and each place in it, makes one of its own from that.
So what is computed a second time has the same mask, and so has a resumed run. Dropout is a product
with a mask: its gradient is the dropout of the gradient, with the same seed.
"""

import tensorflow as tf


def seed_of(seed, place):  # [2], a number -> [2]
    """The seed of a layer, or of a place in it; None, where there is no dropout, stays None."""
    return None if seed is None else tf.random.fold_in(seed, place)


def dropped(x, rate, seed):  # of any shape -> the same
    """x with each element at 0 with probability `rate`, the others larger for that.

    The mean stays (Srivastava et al. 2014, section 10). Without a seed x stays as it is.
    """
    if seed is None:
        return x
    kept = tf.random.stateless_uniform(x.shape, seed) >= rate
    return tf.where(kept, x * tf.cast(1 / (1 - rate), x.dtype), tf.zeros([], x.dtype))
