"""Logits to the next token, and the loop around it.

The language model is given: `lm(tokens, past)` as model.model, with `lm.empty_cache` and
`lm.hparams.n_ctx`. All randomness is given as well, one number in [0, 1) for each token, so that
what is sampled depends on these numbers alone and not on batches, shapes or devices.
"""

import functools

import numpy as np
import tensorflow as tf

NO_NUMBERS = 'The logits are NaN, no numbers: the weights are damaged, or their training diverged'
SMALL_GROUP, LARGE_GROUP = 32, 256  # tokens that are looked at together, to look at few of them
SMALLEST_WINDOW = 64  # each window is compiled, which takes longer than a short sample
COLDEST = 1e-20  # a temperature below it would make logits infinite
ON_ALL_CORES = 520  # in place of 512: XLA leaves a row's product with 512 x 64 numbers to one core


def top_k_logits(logits, k):  # [batch, vocab] -> the same
    """The logits of the k likeliest tokens, and of those that equal the last of them; 0 is all."""
    if k == 0:
        return logits
    k = min(k, logits.shape[-1])
    candidates = _candidates(logits, k)
    return _from(_lowest(candidates, lambda kept: _count(kept) >= k), logits)


def _candidates(logits, k):  # [batch, vocab] -> [batch, fewer]
    """The k likeliest and some others: of groups of tokens the k whose likeliest are likeliest."""
    groups = _in_groups(logits, SMALL_GROUP, logits.dtype.min)
    if k > groups.shape[1] // 4:
        return logits
    _, best = tf.math.top_k(tf.reduce_max(groups, axis=-1), k, sorted=False)
    return tf.reshape(tf.gather(groups, best, batch_dims=1), [-1, k * SMALL_GROUP])


def _in_groups(values, size, filler):  # [batch, n] -> [batch, groups, size]
    more = -values.shape[-1] % size
    values = tf.pad(values, [[0, 0], [0, more]], constant_values=filler)
    return tf.reshape(values, [-1, values.shape[-1] // size, size])


def top_p_logits(logits, p):  # [batch, vocab], 0 < p < 1 -> [batch, vocab]
    """The logits of the fewest tokens whose probabilities reach p (Holtzman et al. 2019, 3.1).

    The token that crosses p is one of them; OpenAI's own top_p_logits leaves it out.
    """
    probs = tf.nn.softmax(logits)
    p = tf.maximum(p, np.finfo(np.float32).tiny)  # 0 would be reached without any token

    def enough(kept):
        return tf.reduce_sum(tf.where(kept, probs, 0.0), axis=-1) >= p

    return _from(_lowest(logits, enough), logits)


def _lowest(logits, enough):  # [batch, n], function from which are kept to [batch] -> [batch]
    """The highest key at which `enough` are kept, or the lowest of all, if it never is.

    Found bit by bit, since XLA sorts 50,257 logits in 8 ms, a third of what the model takes.
    """
    keys = _keys(logits)

    def body(bit, lowest):
        higher = lowest + tf.bitwise.left_shift(1, bit)  # of the highest bit, from -2**31 to 0
        return bit - 1, tf.where(enough(keys >= higher[:, None]), higher, lowest)

    lowest = tf.fill(tf.shape(logits)[:1], tf.int32.min)
    return tf.while_loop(lambda bit, _: bit >= 0, body, [31, lowest])[1]


def _from(lowest, logits):  # [batch], [batch, vocab] -> [batch, vocab]
    return tf.where(_keys(logits) < lowest[:, None], logits.dtype.min, logits)


def _keys(logits):  # -> integers in the same order
    bits = tf.bitcast(logits, tf.int32)
    return tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, 0x7FFFFFFF), bits)


def choose(logits, uniforms, *, temperature, top_k, top_p):
    # [batch, vocab], [batch] in [0, 1) -> [batch] int32
    """One token for each row: the likeliest where temperature is None, else drawn.

    Drawn by inverting the cumulative distribution, in double precision, because its last terms
    vanish in a float32 sum.
    """
    if temperature is None:
        return tf.argmax(logits, axis=-1, output_type=tf.int32)
    logits = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    return draw(tf.nn.softmax(tf.cast(logits, tf.float64)), uniforms)


def filtered(logits, *, temperature, top_k, top_p):  # [batch, vocab] -> the same
    """The logits that are drawn from: those not to be chosen at the least float32."""
    logits = top_k_logits(logits / tf.maximum(COLDEST, temperature), top_k)
    return logits if top_p is None else top_p_logits(logits, top_p)


def draw(weights, uniforms):  # [batch, vocab] float64, [batch] in [0, 1) -> [batch] int32
    """Where the cumulative distribution passes a number: in which group of tokens, and there."""
    groups = _in_groups(weights, LARGE_GROUP, 0)
    cumulative = tf.cumsum(tf.reduce_sum(groups, axis=-1), axis=-1)
    number = uniforms[:, None] * cumulative[:, -1:]
    group = _passing(cumulative, number)
    before = tf.gather(tf.pad(cumulative, [[0, 0], [1, 0]]), group, batch_dims=1)
    inside = tf.cumsum(tf.gather(groups, group, batch_dims=1), axis=-1)
    return group * LARGE_GROUP + _passing(before[:, None] + inside, number)


def _passing(cumulative, number):  # [batch, n], [batch, 1] -> [batch]
    """The first place above a number, or the last with a weight, where rounding hides that."""
    return _count((cumulative <= number) & (cumulative < cumulative[:, -1:]))


def _count(true):  # [batch, n] -> [batch]
    return tf.reduce_sum(tf.cast(true, tf.int32), axis=-1)


def compiled(function):
    """A function of a model and tensors, compiled for each model.

    What is compiled belongs to the model, and is no more when that is not. A tf.function of many
    models would keep all of them, and their weights.
    """

    @functools.wraps(function)
    def of_model(lm, *arguments, **options):
        functions = vars(lm).setdefault('_compiled', {})
        if function not in functions:
            one = functools.partial(function, lm)
            functions[function] = tf.function(one, jit_compile=True, autograph=False)
        return functions[function](*arguments, **options)

    return of_model


@compiled
def read(lm, tokens, past):  # [batch, sequence] -> the past with the tokens
    return lm(tokens, past)['present']


@compiled
def _continue(lm, past, tokens, uniforms, position, end, controls, **choice):
    # tokens and uniforms [batch, window + 1], position and end [batch] -> tokens that are known up
    # to `end`, -1 where logits are NaN, and the past. A row that has reached its end stands still.
    def body(position, past, tokens):
        past = [layer._replace(length=position) for layer in past]
        outputs = lm(tf.gather(tokens, position[:, None], batch_dims=1), past)
        grows = position < end
        position += tf.cast(grows, tf.int32)
        at = position[:, None]
        logits = outputs['logits'][:, -1]
        if controls is not None:
            logits = controls.applied(logits, tokens, position)
        chosen = choose(logits, tf.gather(uniforms, at, batch_dims=1)[:, 0], **choice)
        chosen = tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), -1, chosen)
        here = tf.logical_and(tf.range(tokens.shape[1]) == at, grows[:, None])
        return position, outputs['present'], tf.where(here, chosen[:, None], tokens)

    _, past, tokens = tf.while_loop(
        lambda position, *_: tf.reduce_any(position < end), body, [position, past, tokens]
    )
    return tokens, past


def window_for(length, n_ctx, smallest=SMALLEST_WINDOW):
    """The room in which `length` tokens are worked on: a power of two, so that few are compiled."""
    window = max(smallest, 1 << int(length - 1).bit_length())
    return min(n_ctx, ON_ALL_CORES if window == 512 else window)


class Rows:
    """Texts that grow together, each behind a prompt of its own and with random numbers of its own.

    The model sees the last n_ctx tokens at most. Where a row has filled that window, it goes on
    with the second half of it.
    """

    def __init__(
        self, lm, contexts, length, uniforms, *, temperature=1, top_k=0, top_p=1, controls=None
    ):
        """Lists of ids; how many to add, one number or each row's; the rest as sample_sequence's.

        controls: what changes logits before each choice; see controls.Controls.applied.
        """
        self.lm = lm
        self.settings = {
            'temperature': tf.constant(temperature, tf.float32) if temperature else None,
            'top_k': top_k,
            'top_p': tf.constant(top_p, tf.float32) if 0 < top_p < 1 else None,
            'controls': controls,
        }
        batch, self.known = len(contexts), np.array([len(ids) for ids in contexts])  # tokens
        self.end = self.known + length  # may be lowered, to end a row
        self.begin = np.zeros(batch, int)  # of the window of each row
        self.past = None
        self.tokens = np.zeros([batch, self.end.max()], np.int32)
        self.uniforms = np.zeros(self.tokens.shape)  # each chooses the token that stands there
        for row, ids in enumerate(contexts):
            self.tokens[row, : len(ids)] = ids
            self.uniforms[row, len(ids) : self.end[row]] = uniforms[row][: self.end[row] - len(ids)]

    def grow(self, number):
        """Add `number` tokens to each row that has not reached its end; False if none is left.

        Raises ValueError: the model's logits are NaN.
        """
        stop = np.minimum(self.end, self.known + number)
        while any(self.known < stop):
            self._grow_in_window(stop)
        return any(self.known < self.end)

    def _grow_in_window(self, stop):
        n_ctx = self.lm.hparams.n_ctx
        full = (self.known - self.begin > n_ctx) & (self.known < stop)
        if self.past is None or any(full):
            self.begin = np.where(full, self.known - max(n_ctx // 2, 1), self.begin)
            self._read()
        position = np.minimum(self.known - 1 - self.begin, n_ctx - 1)  # the next to be read
        window = max(window_for(position.max() + 1, n_ctx), self.past[0].k.shape[-2])
        past = [layer.widened(window) for layer in self.past]
        end = np.where(self.known < stop, np.minimum(stop - 1 - self.begin, window), position)
        tokens, self.past = _continue(
            self.lm,
            past,
            self._in_window(self.tokens, window + 1),
            self._in_window(self.uniforms, window + 1),
            tf.constant(position, tf.int32),
            tf.constant(end, tf.int32),
            **self.settings,
        )
        tokens = tokens.numpy()
        if tokens.min() < 0:
            raise ValueError(NO_NUMBERS)
        for row in np.flatnonzero(end > position):
            first, behind = self.known[row], self.begin[row] + end[row] + 1
            self.tokens[row, first:behind] = tokens[row, position[row] + 1 : end[row] + 1]
            self.known[row] = behind

    def _read(self):
        """Fill caches with all that is known but the last token of each row.

        What is the same in all rows, as the prompt of several samples, is read once.
        """
        batch, width = len(self.tokens), (self.known - 1 - self.begin).max()
        window = window_for(max(width, 1), self.lm.hparams.n_ctx)
        known = self._in_window(self.tokens, width).numpy()
        rows = 1 if (known == known[0]).all() else batch
        past = self.lm.empty_cache(rows, window)
        if width:  # many short texts are worth a program of their own, one is not
            read_at_once = window_for(width, window, SMALLEST_WINDOW // rows)
            past = read(self.lm, self._in_window(self.tokens, read_at_once)[:rows], past)
        row = np.arange(batch) % rows
        self.past = tf.nest.map_structure(lambda x: tf.gather(x, row), past)

    def _in_window(self, values, width):  # [batch, n] -> [batch, width]
        values = np.pad(values, [[0, 0], [0, width]])
        return tf.constant(
            values[np.arange(len(values))[:, None], self.begin[:, None] + np.arange(width)]
        )


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
        uniforms: [batch, length] numbers in [0, 1) that decide; None takes fresh ones.

    Returns an array [batch, sequence + length] of int32. See Rows for what is longer than n_ctx.
    """
    assert (start_token is None) != (context is None), 'Specify start_token or context.'
    if context is None:
        context = np.full([batch_size, 1], start_token)
    if uniforms is None:
        uniforms = np.random.default_rng().random([len(context), length], np.float32)
    rows = Rows(lm, context, length, uniforms, temperature=temperature, top_k=top_k, top_p=top_p)
    rows.grow(length)
    return rows.tokens
