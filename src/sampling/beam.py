"""The likeliest continuations of a text: beam search.

The language model is given, as in sample. Nothing is random here.
"""

import typing

import numpy as np
import tensorflow as tf

from .. import sample
from . import sample_config


class Beam(typing.NamedTuple):
    """A continuation of the context."""

    tokens: list[int]  # without the context; `end`, if it came, is the last
    score: float  # the sum of their log-probabilities, in nats


def beam_search(lm, context, *, length, num_beams, end=None):
    """The best continuations that are found when only `num_beams` are pursued at a time.

    At each step each of them is continued with every token, and the best `num_beams` of all these
    are kept (Sutskever et al. 2014, arXiv:1409.3215, 3.2). Unlike there, what has ended keeps its
    place among them, until better ones take it. Scores are not divided by lengths, so that with
    `end` short continuations have the better prospects.

    Args:
        lm: the language model.
        context: a list of ids to continue.
        length: how many tokens to add, at most.
        num_beams: how many to pursue, and to return; 1 takes the likeliest token each time.
        end: the id of <|endoftext|>, behind which a continuation stays as it is; None is never.

    Returns a list of num_beams Beams, best first; fewer, where there are not so many continuations.

    Raises ValueError: the last token would stand beyond the model's n_ctx; no context; a length or
    num_beams below 1; logits that are NaN.
    """
    if length < 1 or num_beams < 1:
        raise ValueError(f'length is {length}, num_beams {num_beams}; they must be 1 or more')
    sample_config.require_in_window(len(context), length, lm.hparams.n_ctx)
    end = -1 if end is None else end  # no token's id
    past = _prompt(lm, context[:-1], num_beams)
    last = np.full([num_beams], context[-1], np.int32)
    tokens = np.zeros([num_beams, 0], np.int32)
    scores = np.where(np.arange(num_beams) == 0, 0.0, -np.inf)  # all are the same one at first
    parents = np.arange(num_beams, dtype=np.int32)
    ended = np.zeros([num_beams], bool)
    for position in range(len(context) - 1, len(context) + length - 1):
        window = sample.window_for(position + 1, lm.hparams.n_ctx)
        past = [layer.widened(window) for layer in past]
        logits, total, past = _step(lm, past, tf.constant(parents), tf.constant(last))
        # Not in _step, since XLA sorts all of the vocabulary.
        if np.isnan(total).any():
            raise ValueError(sample.NO_NUMBERS)
        values, ids = map(np.array, tf.math.top_k(logits, min(num_beams, logits.shape[-1])))
        steps = values.astype(np.float64) - total.numpy()[:, None]
        steps[ended], ids[ended] = -np.inf, end  # what has ended has one successor: itself
        steps[ended, 0] = 0
        scores, parents, last = best(scores, steps, ids)
        tokens = np.concatenate([tokens[parents], last[:, None]], axis=1)
        ended = last == end
        if np.all(ended[scores > -np.inf]):
            break
    pairs = zip(tokens.tolist(), scores.tolist(), strict=True)
    return [Beam(_until(end, ids), score) for ids, score in pairs if score > -np.inf]


def best(scores, steps, ids):
    # [beams], [beams, candidates], the same -> [beams] each
    """The scores, parents and last tokens of the beams after a step.

    Args:
        scores: those of the beams before it.
        steps: the log-probabilities of the tokens with which each may go on.
        ids: these tokens.
    """
    candidates = (scores[:, None] + steps).reshape(-1)
    order = np.argsort(-candidates, kind='stable')[: len(scores)]
    return candidates[order], (order // steps.shape[1]).astype(np.int32), ids.reshape(-1)[order]


def _prompt(lm, tokens, num_beams):
    """The past of each beam: the tokens, read once."""
    window = sample.window_for(max(len(tokens), 1), lm.hparams.n_ctx)
    past = lm.empty_cache(1, window)
    if len(tokens):
        padded = np.pad(np.array([tokens], np.int32), [[0, 0], [0, window - len(tokens)]])
        past = sample.read(lm, tf.constant(padded), past)
        past = [layer._replace(length=tf.fill([1], len(tokens))) for layer in past]
    return tf.nest.map_structure(lambda x: tf.repeat(x, num_beams, axis=0), past)


@sample.compiled
def _step(lm, past, parents, last):
    # [beams], [beams] -> logits [beams, vocab], the logarithms of their sums [beams], and the past
    past = tf.nest.map_structure(lambda x: tf.gather(x, parents), past)
    outputs = lm(last[:, None], past)
    logits = outputs['logits'][:, -1]
    return logits, tf.reduce_logsumexp(logits, axis=-1), outputs['present']


def _until(end, tokens):  # up to the first `end`, with it
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
