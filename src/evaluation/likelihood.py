"""What a text costs a model: for each token -log p, in nats, given those before it.

A window is of as many tokens as in training, where its last token is predicted and nothing is
predicted from it: a model that was trained on windows of n_ctx tokens has never used its last
position.
"""

import itertools

import numpy as np
import tensorflow as tf

from .. import model
from ..gradients import backpropagation, fused_loss, lean_block, masks


def sliding(chunks, window, stride):
    """(tokens, how many of them are new), …: all but the first token of each chunk are new once.

    Args:
        chunks: arrays [tokens].
        window: how many tokens a window has; fewer only where a chunk has fewer.
        stride: how many are new in each window but a chunk's first, below `window`. A new token has
            at least window - stride others before it, or all that there are.
    """
    for chunk in chunks:
        known = 1
        while known < len(chunk):
            end = min(len(chunk), max(window, known + stride))
            yield chunk[max(0, end - window) : end], end - known
            known = end


def batches(some_windows, batch_size, window, end=None):
    """Windows in batches of one shape, so that a function of them is compiled once.

    Yields tokens, [batch, window] int32, with zeros behind what is shorter, and which of
    tokens[:, 1:] count, [batch, window - 1] bool: those that are new and to be learnt, see
    masks.py, and with `end` do not begin a text behind it.
    """
    some_windows = iter(some_windows)
    while some := list(itertools.islice(some_windows, batch_size)):
        tokens = np.zeros([batch_size, window], np.int32)
        new = np.zeros([batch_size, window - 1], bool)
        for row, (ids, number) in enumerate(some):
            tokens[row, : len(ids)] = ids
            new[row, len(ids) - 1 - number : len(ids) - 1] = True
        new &= tokens[:, 1:] >= 0
        if end is not None:
            new &= np.maximum(tokens, ~tokens)[:, :-1] != end
        yield tokens, new


def compiled(lm, lora_scale=1.0, end=None, parts=1):
    """A compiled function from tokens, [batch, window], to what tokens[:, 1:] cost.

    Tokens see none before the last `end` before them, where one is given; ~token is that token. A
    batch of equal `parts` is computed in so many places at once.
    """

    @tf.function(autograph=False)
    def costs(tokens):  # [batch, window] -> [batch, window - 1]
        return tf.concat([costs_of_part(part) for part in tf.split(tokens, parts)], axis=0)

    def costs_of_part(tokens):
        block = lean_block.lean_block(lora_scale=lora_scale)
        tokens = masks.tokens_of(tokens)
        starts = None if end is None else masks.document_starts(tokens, end)
        h = backpropagation.features(lm, tokens, starts, block)
        wte = tf.cast(lm.params['wte'], tf.float32)
        costs = fused_loss.cross_entropy(*backpropagation.aligned(h, tokens), wte)
        return tf.reshape(costs, [tokens.shape[0], -1])

    return costs


class Reader:
    """Reads what follows a context, in several ways, without reading the context again."""

    def __init__(self, lm):
        hparams, params = lm.hparams, lm.params
        self.wte = params['wte']
        shape = model.past_shape(hparams=hparams, batch_size=1)
        self.nothing = tf.zeros([0 if size is None else size for size in shape])
        signature = [tf.TensorSpec([1, None], tf.int32), tf.TensorSpec(shape)]

        @tf.function(autograph=False, input_signature=signature)
        def features(tokens, past):  # -> [sequence, features], and the present in past's shape
            h, presents = model.transformer(hparams, params, tokens, past)
            return h[0], tf.stack(presents, axis=1)

        self.features = features

    def read(self, context, choices):
        """For each choice: the log-probabilities of its tokens, and which are the likeliest.

        Args:
            context: a list of ids, at least one; with any of the choices they fit into the window.
            choices: lists of ids, each of which follows `context`.

        Yields arrays, [tokens] float32 and [tokens] bool.
        """
        past = self.nothing
        if context[:-1]:
            _, past = self.features(tf.constant([context[:-1]], tf.int32), past)
        for choice in choices:
            tokens = [context[-1], *choice]
            h, _ = self.features(tf.constant([tokens[:-1]], tf.int32), past)
            yield log_probabilities(h, np.array(choice), self.wte)


def log_probabilities(h, tokens, wte):  # [n, features], [n], [vocab, features] -> [n], [n]
    """The log-probability of each token in nats, and whether none was likelier."""
    logs, likeliest = [], []
    for start in range(0, len(tokens), fused_loss.ROWS):  # of all logits at once some rows alone
        some = tokens[start : start + fused_loss.ROWS]
        logits = tf.matmul(h[start : start + fused_loss.ROWS], wte, transpose_b=True)
        logs.append(tf.gather(tf.nn.log_softmax(logits), some, batch_dims=1))
        likeliest.append(tf.argmax(logits, axis=-1).numpy() == some)
    return np.concatenate(logs), np.concatenate(likeliest)
