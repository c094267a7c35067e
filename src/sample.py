"""Logits to the next token, and the loop around it.

The language model is given: `lm(tokens, past)` as model.model, with `lm.empty_cache` and
`lm.hparams.n_ctx`. All randomness is given as well, one number in [0, 1) for each token, so that
what is sampled depends on these numbers alone and not on batches, shapes or devices.
"""

import numpy as np
import tensorflow as tf

SMALLEST_WINDOW = 64  # each window is compiled, which takes longer than a short sample


def top_k_logits(logits, k):  # [batch, vocab] -> the same
    """The logits of the k likeliest tokens, and of those that equal the last of them; 0 is all."""
    if k == 0:
        return logits
    k = min(k, logits.shape[-1])
    return _above(logits, lambda kept: tf.reduce_sum(tf.cast(kept, tf.int32), axis=-1) >= k)


def top_p_logits(logits, p):  # [batch, vocab], 0 < p < 1 -> [batch, vocab]
    """The logits of the fewest tokens whose probabilities reach p (Holtzman et al. 2019, 3.1).

    The token that crosses p is one of them; OpenAI's own top_p_logits leaves it out.
    """
    probs = tf.nn.softmax(logits)
    return _above(logits, lambda kept: tf.reduce_sum(tf.where(kept, probs, 0.0), axis=-1) >= p)


def _above(logits, enough):  # [batch, vocab], function from which are kept to [batch] -> as logits
    """The logits from the highest value on at which `enough` are kept; all, if it never is.

    Found bit by bit, since XLA sorts 50,257 logits in 8 ms, a third of what the model takes.
    """
    keys = _ordered(tf.bitcast(logits, tf.int32))

    def body(bit, lowest):
        higher = lowest + tf.bitwise.left_shift(1, bit)  # of the highest bit, from -2**31 to 0
        return bit - 1, tf.where(enough(keys >= higher[:, None]), higher, lowest)

    lowest = tf.fill(tf.shape(logits)[:1], tf.int32.min)
    _, lowest = tf.while_loop(lambda bit, _: bit >= 0, body, [31, lowest])
    return tf.where(keys < lowest[:, None], logits.dtype.min, logits)


def _ordered(bits):  # the bits of floating point numbers -> integers in the order of the numbers
    return tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, 0x7FFFFFFF), bits)


def choose(logits, uniforms, *, temperature, top_k, top_p):
    # [batch, vocab], [batch] in [0, 1) -> [batch] int32
    """One token for each row: the likeliest where temperature is None, else drawn.

    Drawn by inverting the cumulative distribution, in double precision, because its last terms
    vanish in a float32 sum.
    """
    if temperature is None:
        return tf.argmax(logits, axis=-1, output_type=tf.int32)
    logits = top_k_logits(logits / temperature, top_k)
    if top_p is not None:
        logits = top_p_logits(logits, top_p)
    cumulative = tf.cumsum(tf.nn.softmax(tf.cast(logits, tf.float64)), axis=-1)
    reached = uniforms[:, None] * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(cumulative <= reached, tf.int32), axis=-1)


@tf.function(jit_compile=True, autograph=False)
def _read(lm, tokens, past):  # [batch, sequence] -> the past with the tokens
    return lm(tokens, past)['present']


@tf.function(jit_compile=True, autograph=False)
def _continue(lm, past, tokens, uniforms, position, end, *, temperature, top_k, top_p):
    # tokens and uniforms [batch, window + 1] -> tokens that are known up to `end`, and the past
    def body(position, past, tokens):
        prev = tf.gather(tokens, [position], axis=1)  # [batch, 1]
        outputs = lm(prev, past)
        position += 1
        chosen = choose(
            outputs['logits'][:, -1],
            tf.gather(uniforms, position, axis=1),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        here = tf.range(tokens.shape[1]) == position
        return position, outputs['present'], tf.where(here, chosen[:, None], tokens)

    _, past, tokens = tf.while_loop(
        lambda position, *_: position < end, body, [position, past, tokens]
    )
    return tokens, past


def window_for(length, n_ctx):
    """The room in which `length` tokens are worked on: a power of two, so that few are compiled."""
    return min(n_ctx, max(SMALLEST_WINDOW, 1 << (length - 1).bit_length()))


def uniforms_for(seed, rows, length):
    """The random numbers of some samples, [rows, length]; None takes fresh ones.

    Those of a row follow from the seed and the row's number alone, and a longer sample begins with
    the numbers of a shorter one.
    """
    seeds = [None if seed is None else [*np.atleast_1d(seed), row] for row in rows]
    return np.stack([np.random.default_rng(s).random(length, np.float32) for s in seeds])


def sample_sequence(
    *,
    lm,
    length,
    start_token=None,
    batch_size=None,
    context=None,
    temperature=1,
    top_k=0,
    top_p=1,
    uniforms=None,
):
    """The context followed by `length` sampled tokens, as OpenAI's sample_sequence.

    Args:
        lm: the language model.
        length: how many tokens to add.
        start_token: one id, with `batch_size`; or else
        context: [batch, sequence] ids to continue.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: choose among the k likeliest tokens; 0 is all.
        top_p: then among the fewest that together reach the probability p; off at <= 0 and >= 1.
        uniforms: [batch, length] numbers in [0, 1) that decide; see uniforms_for.

    Returns an array [batch, sequence + length] of int32.

    Raises ValueError: the last token would stand beyond the model's n_ctx. The very last one is
    never read, so that sequence + length may be n_ctx + 1.
    """
    assert (start_token is None) != (context is None), 'Specify start_token or context.'
    if context is None:
        context = np.full([batch_size, 1], start_token)
    batch, sequence = np.shape(context)
    n_ctx = lm.hparams.n_ctx
    if sequence + length > n_ctx + 1:
        raise ValueError(
            f'{sequence} tokens of prompt and a length of {length} do not fit into the window of '
            f'{n_ctx}: the length can be at most {n_ctx + 1 - sequence}'
        )
    if uniforms is None:
        uniforms = uniforms_for(None, range(batch), length)
    tokens = np.concatenate([context, np.zeros([batch, length])], axis=1).astype(np.int32)
    uniforms = np.concatenate([np.zeros([batch, sequence]), uniforms], axis=1)
    settings = {
        'temperature': tf.constant(temperature, tf.float32) if temperature else None,
        'top_k': top_k,
        'top_p': tf.constant(top_p, tf.float32) if 0 < top_p < 1 else None,
    }

    position, end = sequence - 1, sequence + length - 1  # the next token to be read, and the last
    window = window_for(max(position, 1), n_ctx)
    past = lm.empty_cache(batch, window)
    if position:
        past = _read(lm, _fitted(tokens[:, :position], window), past)
        past = [layer._replace(length=tf.fill([batch], position)) for layer in past]
    while position < end:
        window = window_for(position + 1, n_ctx)
        past = [layer.widened(window) for layer in past]
        stop = min(end, window)
        known, past = _continue(
            lm,
            past,
            _fitted(tokens, window + 1),
            _fitted(uniforms, window + 1),
            tf.constant(position),
            tf.constant(stop),
            **settings,
        )
        tokens[:, position + 1 : stop + 1] = known[:, position + 1 : stop + 1]
        position = stop
    return tokens


def _fitted(rows, width):  # [batch, n] -> [batch, width]: cut, or filled with zeros
    rows = rows[:, :width]
    return tf.constant(np.pad(rows, [[0, 0], [0, width - rows.shape[1]]]))
