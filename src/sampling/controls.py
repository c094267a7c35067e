"""What a text shall not say, or say less often: changes of logits before a token is drawn."""

import tensorflow as tf

from . import sample_config
from .sample_config import ANY


class Controls(sample_config.Controls):
    """Of tensors; sample.Rows applies them before each choice."""

    def applied(self, logits, tokens, known):
        """Logits as the controls will have them.

        Args:
            logits: [batch, vocab].
            tokens: [batch, n], the text so far and anything behind it.
            known: [batch], how many of the tokens are the text so far; at least 1.
        """
        if self.repetition_penalty is not None:
            logits = penalized(logits, tokens, known, self.repetition_penalty)
        if self.bias is not None:
            logits += self.bias
        if 0 < self.no_repeat_ngram <= tokens.shape[1]:  # else no text is as long
            logits = without(logits, *repeating(tokens, known, self.no_repeat_ngram))
        if self.banned is not None:
            logits = without(logits, *completing(tokens, known, self.banned))
        return logits


def penalized(logits, tokens, known, penalty):
    """Logits, [batch, vocab], of tokens that are there made smaller: Keskar et al. 2019, 4.1."""
    there = _marked(logits, tokens, tf.range(tokens.shape[1]) < known[:, None])
    smaller = tf.where(logits > 0, logits / penalty, logits * penalty)
    return tf.where(there, smaller, logits)


def without(logits, tokens, true):  # [batch, vocab], [batch or 1, n], [batch, n] -> [batch, vocab]
    """The logits with the lowest there is for those tokens for which it is true."""
    return tf.where(_marked(logits, tokens, true), logits.dtype.min, logits)


def repeating(tokens, known, n):  # [batch, m], [batch] -> two of [batch, m - n + 1]
    """The tokens that ended n-grams of the text, and whether they would end one again."""
    starts = tokens.shape[1] - n + 1
    same = tf.range(starts) + n <= known[:, None]  # those that lie in the text
    last = _last(tokens, known, n - 1)
    for i in range(n - 1):
        same &= tokens[:, i : i + starts] == last[:, i, None]
    return tokens[:, n - 1 :], same


def completing(tokens, known, banned):  # [batch, n], [batch], [number, longest]
    """The last tokens of phrases, [1, number], and whether all before them is there already."""
    last = _last(tokens, known, banned.shape[1] - 1)[:, None]  # [batch, 1, longest - 1]
    begun = banned[:, :-1]
    return banned[None, :, -1], tf.reduce_all((begun == ANY) | (begun == last), axis=-1)


def _last(tokens, known, n):  # [batch, m], [batch] -> [batch, n]; -2 where the text is shorter
    at = known[:, None] + tf.range(-n, 0)
    return tf.where(at >= 0, tf.gather(tokens, tf.maximum(at, 0), batch_dims=1), -2)


def _marked(logits, tokens, true):  # -> [batch, vocab], where a token is for which it is true
    batch, vocab = logits.shape
    tokens = tf.where(true, tokens, vocab)  # one behind the last for all others
    rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(tokens))
    marks = tf.zeros([batch, vocab + 1], tf.bool)
    ones = tf.ones_like(tokens, tf.bool)
    return tf.tensor_scatter_nd_update(marks, tf.stack([rows, tokens], axis=-1), ones)[:, :vocab]
