"""Sampling with a draft: a small model proposes tokens, the large one checks several in one call.

What comes out has exactly the large model's distribution, whatever the draft proposes (Leviathan
et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318). Both are given, as in sample.
"""

import typing

import numpy as np
import tensorflow as tf

from .. import sample
from . import sample_config, sample_numpy


class Sampled(typing.NamedTuple):
    """A sample, and what the draft was good for."""

    tokens: np.ndarray  # [sequence + length] int32: the context and what continues it
    accepted: np.ndarray  # [calls] int32: how many proposals each call of the model accepted


def accept(p, q, proposed, uniforms):
    # [batch, proposals + 1, vocab], [batch, proposals, vocab], [batch, proposals],
    # [2, batch, proposals + 1] -> [batch] int32, [batch] int32
    """How many proposals are kept, from the first on, and the token behind them.

    A proposal is kept with the probability min(1, p / q); where one is not, the token is drawn from
    the positive part of p - q, and behind the last from p (Leviathan et al., algorithm 1).

    Args:
        p: what the model thinks of each place, float64.
        q: what the draft thought, and drew `proposed` from.
        uniforms: numbers in [0, 1), the first to decide, the second to draw with. Each place needs
            but one of each.
    """
    chances = [tf.gather(x, proposed, batch_dims=2) for x in (p[:, :-1], q)]
    kept = tf.cast(uniforms[0, :, :-1] * chances[1] < chances[0], tf.int32)
    accepted = tf.reduce_sum(tf.math.cumprod(kept, axis=-1), axis=-1)
    q = tf.pad(q, [[0, 0], [0, 1], [0, 0]])  # behind the last there is no q
    p, q, u = (tf.gather(x, accepted, batch_dims=1) for x in (p, q, uniforms[1]))
    rest = tf.maximum(p - q, 0)
    possible = tf.reduce_sum(rest, axis=-1, keepdims=True) > 0  # never zero but by rounding
    return accepted, sample.draw(tf.where(possible, rest, p), u)


def probabilities(logits, *, temperature, top_k, top_p):  # [places, vocab] -> the same, float64
    """What sample.choose draws from; temperature None is all for the likeliest token."""
    if temperature is None:
        return tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1], dtype=tf.float64)
    logits = sample.filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    return tf.nn.softmax(tf.cast(logits, tf.float64))


def _cut(past, length):
    """The past of which only the first `length` tokens are known."""
    return [layer._replace(length=tf.fill([1], length)) for layer in past]


def _propose(draft, past, tokens, uniforms, known, count, settings):
    """Tokens by the draft behind those that are `known`, written to their places.

    Returns tokens [1, window + 1], the probabilities q [1, count, vocab] that they were drawn
    from, and the draft's past.
    """

    def body(position, past, tokens, q):
        outputs = draft(tf.gather(tokens, [position], axis=1), past)
        position += 1
        q_here = probabilities(outputs['logits'][:, -1], **settings)  # [1, vocab]
        chosen = sample.draw(q_here, tf.gather(uniforms, [position]))
        here = tf.range(tokens.shape[1]) == tf.where(position < known, -1, position)
        tokens = tf.where(here, chosen[:, None], tokens)
        # A known token is read where all proposals were accepted; its place is soon overwritten.
        at = tf.reshape(tf.maximum(position - known, 0), [1, 1])
        q = tf.tensor_scatter_nd_update(q, at, q_here)
        return position, outputs['present'], tokens, q

    q = tf.zeros([count, draft.hparams.n_vocab], tf.float64)
    _, past, tokens, q = tf.while_loop(
        lambda position, *_: position < known + count - 1,
        body,
        [past[0].length[0], past, tokens, q],
    )
    return tokens, q[None], past


@sample.compiled
def _continue(
    lm, draft, past, draft_past, tokens, uniforms, known, end, *, count, temperature, top_k, top_p
):
    # tokens [1, window + 1], uniforms [3, window + 1] -> how many tokens are known, the number of
    # calls, how many proposals each accepted [window + 1], the tokens, and both pasts
    settings = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
    window = tokens.shape[1] - 1

    def body(known, calls, accepted, tokens, past, draft_past):
        q = tf.zeros([1, 0, lm.hparams.n_vocab], tf.float64)
        if count:
            tokens, q, draft_past = _propose(
                draft, draft_past, tokens, uniforms[0], known, count, settings
            )
        places = known + tf.range(count + 1)
        outputs = lm(tf.gather(tokens, places - 1, axis=1), past)
        p = probabilities(outputs['logits'][0], **settings)
        proposed = tf.gather(tokens, places[:-1], axis=1)
        number, token = accept(p[None], q, proposed, tf.gather(uniforms[1:, None], places, axis=2))
        known += number[0]
        tokens = tf.where(tf.range(window + 1) == known, token[:, None], tokens)
        accepted = tf.where(tf.range(window + 1) == calls, number, accepted)
        past = _cut(outputs['present'], known)
        if count:  # of its last proposal the draft has no keys and values
            draft_past = _cut(draft_past, tf.minimum(draft_past[0].length[0], known))
        return known + 1, calls + 1, accepted, tokens, past, draft_past

    return tf.while_loop(
        lambda known, *_: (known < end) & (known + count <= window),
        body,
        [known, 0, tf.zeros([window + 1], tf.int32), tokens, past, draft_past],
    )


def sample_sequence(
    *,
    lm,
    draft,
    length,
    context,
    temperature=1,
    top_k=0,
    top_p=1,
    uniforms=None,
    draft_tokens=4,
):
    """The context followed by `length` sampled tokens, as sample.sample_sequence, with fewer calls.

    Args:
        lm: the language model.
        draft: a smaller one with the same vocabulary. Where its window ends, the model goes on
            alone.
        context: a list of ids to continue.
        length, temperature, top_k, top_p: as there; what both models say is cut off alike.
        uniforms: [3, length] numbers in [0, 1): the draft's, those that accept, and those that draw
            what the draft did not propose; sample_numpy.uniforms_for(seed, range(3), length).
            They decide together with `draft_tokens`, so that another number of these is another
            sample.
        draft_tokens: how many are proposed at a time.

    Returns Sampled. The last call may have accepted more than `length` leaves room for.

    Raises ValueError: the vocabularies differ; no context; length or draft_tokens below 1; the last
    token would stand beyond the model's n_ctx.
    """
    _check(lm.hparams, draft.hparams, len(context), length, draft_tokens)
    n_ctx, both = lm.hparams.n_ctx, min(lm.hparams.n_ctx, draft.hparams.n_ctx)
    known, end = len(context), len(context) + length
    if uniforms is None:
        uniforms = sample_numpy.uniforms_for(None, range(3), length)
    tokens, numbers = np.zeros([1, n_ctx + 1], np.int32), np.zeros([3, n_ctx + 1])
    tokens[0, :known] = context
    numbers[:, known:end] = uniforms
    settings = {
        'temperature': tf.constant(temperature, tf.float32) if temperature else None,
        'top_k': top_k,
        'top_p': tf.constant(top_p, tf.float32) if 0 < top_p < 1 else None,
    }
    count = draft_tokens if known + draft_tokens <= both else 0
    window = sample.window_for(known + count, both if count else n_ctx)
    past = _prompt(lm, tokens[:, : known - 1], window)
    draft_past = _prompt(draft, tokens[:, : known - 1], window) if count else []
    accepted = []
    while known < end:
        if known + count > both:
            count, draft_past = 0, []
        window = max(window, sample.window_for(known + count, both if count else n_ctx))
        past, draft_past = ([layer.widened(window) for layer in p] for p in (past, draft_past))
        reached, calls, counts, written, past, draft_past = _continue(
            lm,
            draft,
            past,
            draft_past,
            tf.constant(tokens[:, : window + 1]),
            tf.constant(numbers[:, : window + 1]),
            tf.constant(known),
            tf.constant(end),
            count=count,
            **settings,
        )
        known = int(reached)
        tokens[:, : window + 1] = written
        accepted.append(counts[: int(calls)])
    return Sampled(tokens[0, :end], np.concatenate(accepted))


def _prompt(lm, tokens, window):  # [1, sequence] -> the past with the tokens
    past, length = lm.empty_cache(1, window), tokens.shape[1]
    if length:
        padded = np.pad(tokens, [[0, 0], [0, window - length]])
        past = _cut(sample.read(lm, tf.constant(padded), past), length)
    return past


def _check(hparams, draft, sequence, length, draft_tokens):
    if draft.n_vocab != hparams.n_vocab:
        raise ValueError(
            f'The draft has {draft.n_vocab} tokens and the model {hparams.n_vocab}; '
            'they must share one vocabulary'
        )
    if length < 1 or draft_tokens < 1:
        raise ValueError(f'length is {length}, draft_tokens {draft_tokens}; they must be 1 or more')
    sample_config.require_in_window(sequence, length, hparams.n_ctx)
