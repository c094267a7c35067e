"""Recompute activations instead of remembering them (Chen et al. 2016, arXiv:1604.06174).

Training remembers every intermediate value for the gradient. Wrapped in `recompute`, a block
remembers its input alone and is computed a second time when its gradient is wanted: one more
forward pass, for the memory of a single block instead of all of them.

Shepperd's memory_saving_gradients.py rewrote a TensorFlow 1 graph and had one checkpoint, the
output of layer 10. Here every block is one.
"""

import tensorflow as tf


def recompute(block):
    """`block`, as model.transformer takes it, that remembers nothing but its input.

    It gives no present: training has no use for one.
    """

    def recomputed(x, params, *, past, hparams):
        assert past is None

        def features(x):
            return block(x, params, past=None, hparams=hparams)[0]

        return tf.recompute_grad(features)(x), None

    return recomputed
