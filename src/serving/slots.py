"""Texts side by side in TensorFlow, each with a past of its own that stays where it is.

A step adds a token to some of them, a reading a piece of a prompt to a few. Both are compiled for
some numbers of rows, and what a row gets depends neither on that number nor on the other rows, to
the last bit: attention is computed for each row by itself, over its own past, in blocks of one
size, one after the other; prompts are read in pieces of one size, each with products of its own;
norms say in which order they add; and of the numbers of rows those alone are used that were seen to
add in the same order as the largest (`warm_up`).
"""

import hashlib
import itertools
import math
import sys
import typing

import numpy as np
import tensorflow as tf

from .. import model

BLOCK = 64  # tokens of the past that are looked at together
PIECE = 32  # tokens of a prompt that are read at once; a divisor of BLOCK
PIECES = 4  # of so many prompts: of more, those that grow would wait too long
FEWEST_ROWS = 2  # a product with a single row adds in another order
MOST_ROWS = 8  # of a product of a step, likewise
TOGETHER_AT_MOST, TOGETHER = 12, 2  # layers of one program: of a step of all texts, of all else
MASKED = -1e10  # as in model.multihead_attn


class Past(typing.NamedTuple):
    """The pasts of one layer in pages, which hold BLOCK tokens each, and where rows find theirs.

    All indices are looked up by tf.gather: XLA would compile a slice for each value anew.
    """

    k: tf.Tensor  # [pages, heads, BLOCK, features]
    v: tf.Tensor  # the same
    length: tf.Tensor  # [rows], tokens that each row has read before
    new: tf.Tensor  # [rows, sequence, 2], where the new ones go: page, place in it
    old: tf.Tensor  # [n, 3], where to look: row, page, how many pages are before it; -1 for nothing

    def extended(self, k, v):  # [rows, heads, sequence, features]
        """The past with some more keys and values; the length is as before."""
        heads = tf.range(k.shape[1])[:, None]
        page, place = (self.new[:, None, :, i] + 0 * heads for i in range(2))
        at = tf.stack([page, heads + 0 * page, place], axis=-1)  # [rows, heads, sequence, 3]
        k, v = (
            tf.tensor_scatter_nd_update(pages, at, x) for pages, x in ((self.k, k), (self.v, v))
        )
        return self._replace(k=k, v=v)


def attend(q, past):  # [rows, heads, dst, features] -> the same
    """model.multihead_attn of each row to its slot, with one softmax over blocks that come in turn.

    What is summed so far is scaled down where a larger score comes (Milakov and Gimelshein 2018,
    arXiv:1805.02867).
    """
    rows, heads, dst, features = q.shape
    q = q * np.float32(features**-0.5)

    def body(task, largest, total, summed):
        row, page, number = tf.unstack(tf.gather(past.old, task))
        q_, before, total_, summed_ = (tf.gather(x, row) for x in (q, largest, total, summed))
        w = tf.matmul(q_, tf.gather(past.k, page), transpose_b=True)  # [heads, dst, src]
        src = number * BLOCK + tf.range(BLOCK)
        dst = tf.gather(past.length, row) + tf.range(w.shape[1])
        w = tf.where(src <= dst[:, None], w, MASKED)
        now = tf.maximum(before, tf.reduce_max(w, axis=-1))  # [heads, dst]
        e, shrunk = tf.exp(w - now[..., None]), tf.exp(before - now)
        return (
            task + 1,
            _put(largest, row, now),
            _put(total, row, total_ * shrunk + tf.reduce_sum(e, axis=-1)),
            _put(summed, row, summed_ * shrunk[..., None] + tf.matmul(e, tf.gather(past.v, page))),
        )

    begun = [tf.fill([rows, heads, dst], MASKED), tf.zeros([rows, heads, dst]), tf.zeros_like(q)]
    count = tf.reduce_sum(tf.cast(past.old[:, 0] >= 0, tf.int32))
    _, _, total, summed = tf.while_loop(lambda task, *_: task < count, body, [0, *begun])
    return summed / total[..., None]


def _put(x, row, value):
    return tf.tensor_scatter_nd_update(x, [[row]], value[None])


def of_rows(function, x, params):  # [rows, nx] or [rows, 1, nx]: of a step; else of pieces
    """A function of x and parameters: of MOST_ROWS at a time in a step, of each piece alone."""
    most = 1 if x.shape[1:-1].num_elements() > 1 else MOST_ROWS
    some = [x[i : i + most] for i in range(0, x.shape[0], most)]
    return tf.concat([function(each, params) for each in some], axis=0)


def linear(x, params):  # [rows, sequence, nx] -> [rows, sequence, nf]
    return of_rows(model.conv1d, x, params)


def norm(x, params, *, epsilon=1e-5):  # [..., features] -> the same
    """model.norm, which XLA adds up in one order for many rows and in another for few."""
    x -= mean(x)
    return x * tf.math.rsqrt(mean(tf.square(x)) + epsilon) * params['g'] + params['b']


def mean(x):  # [..., features] -> [..., 1]
    """The sum of 32 columns, or of fewer, which are then added in pairs."""
    *start, features = x.shape
    columns = math.gcd(features, 32)
    total = tf.reduce_sum(tf.reshape(x, [*start, -1, columns]), axis=-2)
    while columns > 2:
        columns //= 2
        total = total[..., :columns] + total[..., columns:]
    # The last pair is no +, or all would be computed again wherever the mean is needed.
    return tf.reduce_sum(total, axis=-1, keepdims=True) / features


def layer(x, params, k, v, length, new, old):  # [rows, sequence, features] -> the same
    """model.block; k and v are the variables of its Past, which it extends where they are."""
    past = Past(tf.convert_to_tensor(k), tf.convert_to_tensor(v), length, new, old)
    c = linear(norm(x, params['ln_1']), params['attn']['c_attn'])
    q, *new = (model.split_heads(part, k.shape[1]) for part in tf.split(c, 3, axis=2))
    past = past.extended(*new)
    k.assign(past.k)
    v.assign(past.v)
    x += linear(model.merge_heads(attend(q, past)), params['attn']['c_proj'])
    h = model.gelu(linear(norm(x, params['ln_2']), params['mlp']['c_fc']))
    return x + linear(h, params['mlp']['c_proj'])


def layers(x, params, pasts, *places):  # [rows, sequence, features] -> the same
    """One layer after the other, traced once; lists of their parameters and of their [k, v]."""
    once = tf.function(layer, autograph=False)
    for each, (k, v) in zip(params, pasts, strict=True):
        x = once(x, each, k, v, *places)
    return x


class Slots:
    """What a Scheduler works with.

    Attributes:
        rows: how many texts can have a slot.
        piece, pieces: how many tokens of a prompt are read at once, and of how many prompts.
        length: how many tokens each slot has read, a list.
        widths, reading_widths: the numbers of rows with which a step, and a reading, may work.
    """

    piece = PIECE

    def __init__(self, lm, rows):
        """lm: a model.GPT2."""
        self.lm, self.rows, hparams = lm, rows, lm.hparams
        self.length, self.pieces = [0] * rows, min(rows, PIECES)
        self.widths = powers_up_to(max(rows, FEWEST_ROWS))[1:]
        self.reading_widths = powers_up_to(self.pieces)
        self.pages = -(-hparams.n_ctx // BLOCK)  # of each slot; one more is nobody's
        shape = model.past_shape(hparams=hparams, batch_size=rows * self.pages + 1, sequence=BLOCK)
        empty = tf.zeros([shape[0], *shape[3:]])
        self.past = [[tf.Variable(empty) for _ in 'kv'] for _ in range(hparams.n_layer)]
        # Compiled once for all layers.
        self._layers = tf.function(layers, jit_compile=True, autograph=False)
        self._embed = tf.function(self._embed, jit_compile=True, autograph=False)
        self._logits = tf.function(self._logits, jit_compile=True, autograph=False)
        self._features = tf.function(self._features, autograph=False)

    @property
    def fingerprint(self):
        """Of what is computed with these weights on this machine, 64 digits."""
        logits = self.lm(tf.zeros([1, 1], tf.int32))['logits']
        return hashlib.sha256(logits.numpy().tobytes()).hexdigest()

    def _embed(self, tokens, length):
        return model.embed(self.lm.params, tokens, length[:, None])

    def _logits(self, h):  # [rows, features] -> [rows, vocab]
        h = norm(h, self.lm.params['ln_f'])
        return of_rows(model.logits_of, h, self.lm.params)

    def _features(self, tokens, length, new, old):  # [rows, sequence] -> [rows, sequence, features]
        h = self._embed(tokens, length)
        params = [self.lm.params[f'h{i}'] for i in range(len(self.past))]
        full = tokens.shape == [max(self.rows, FEWEST_ROWS), 1]
        most = min(len(params), TOGETHER_AT_MOST if full else TOGETHER)
        together = max(n for n in range(1, most + 1) if len(params) % n == 0)
        for i in range(0, len(params), together):
            some = slice(i, i + together)
            h = self._layers(h, params[some], self.past[some], length, new, old)
        return h

    def _read(self, tokens, slots, widths):  # [n, sequence], [n] -> [n, sequence, features]
        """The features of some rows of tokens, each behind what its slot has read.

        They are filled up to a number of rows out of `widths` with rows that are nobody's.
        """
        width, sequence = next(width for width in widths if width >= len(slots)), len(tokens[0])
        tokens = np.pad(tokens, [[0, width - len(slots)], [0, 0]])
        slots = np.pad(slots, [0, width - len(slots)], constant_values=self.rows)
        first, length = slots * self.pages, np.array([*self.length, 0])[slots]
        new = length[:, None] + np.arange(sequence)  # [rows, sequence]
        new = np.stack([first[:, None] + new // BLOCK, new % BLOCK], axis=-1)
        old = np.full([width * self.pages, 3], -1)
        looked_at = (length + sequence - 1) // BLOCK + 1  # pages of each row
        todo = [(r, first[r] + i, i) for r, number in enumerate(looked_at) for i in range(number)]
        old[: len(todo)] = todo
        return self._features(*(tf.constant(x, tf.int32) for x in (tokens, length, new, old)))

    def _behind(self, h):  # [n, features] -> [n, vocab]
        """The logits of any number of rows, with as many at a time as in a step."""
        logits, most = [np.zeros([0, self.lm.hparams.n_vocab], np.float32)], self.widths[-1]
        for some in (h[i : i + most] for i in range(0, len(h), most)):
            width = next(width for width in self.widths if width >= len(some))
            padded = np.pad(some, [[0, width - len(some)], [0, 0]])
            logits.append(self._logits(tf.constant(padded)).numpy()[: len(some)])
        return np.concatenate(logits)

    def clear(self, slot):
        """Forget what a slot has read; to be called as soon as its text is done."""
        self.length[slot] = 0

    def copy(self, source, slots, length):
        """Let some slots that are free have read the first tokens that another has."""
        pages = np.arange(-(-length // BLOCK))
        places = np.add.outer(np.array(slots) * self.pages, pages).ravel()
        pages = np.tile(source * self.pages + pages, len(slots))
        for each in itertools.chain.from_iterable(self.past):
            each.scatter_update(tf.IndexedSlices(tf.gather(each, pages), places))
        for slot in slots:
            self.length[slot] = length

    def read(self, some):
        """Read a piece of each of up to `pieces` prompts.

        Args:
            some: of each its slot; up to `piece` tokens, which all but a prompt's last fill; and
                behind how many of them, the last, logits are wanted.

        Returns of each [wanted, vocab].
        """
        slots, tokens, wanted = zip(*some, strict=True)
        padded = np.array([np.pad(each, [0, self.piece - len(each)]) for each in tokens])
        h = self._read(padded, slots, self.reading_widths).numpy()
        for slot, each in zip(slots, tokens, strict=True):
            self.length[slot] += len(each)
        ends = map(len, tokens)
        h = [row[end - n : end] for row, end, n in zip(h, ends, wanted, strict=False)]
        return np.split(self._behind(np.concatenate(h)), np.cumsum(wanted)[:-1])

    def step(self, slots, tokens):
        """Let each of some slots read one token more.

        Returns the logits behind them, [slots, vocab].
        """
        h = self._read(np.array(tokens)[:, None], slots, self.widths)
        for slot in slots:
            self.length[slot] += 1
        return np.asarray(self._logits(tf.squeeze(h, 1)))[: len(slots)]

    def warm_up(self):
        """Compile everything, and leave out the widths that do not give what the widest does."""
        vocab, n_ctx = self.lm.hparams.n_vocab, self.lm.hparams.n_ctx
        tokens = np.random.default_rng(0).integers(0, vocab, [self.rows, min(self.piece, n_ctx)])
        every, self.widths = self.widths, self._agreeing('widths', self._stepped, tokens)
        self.reading_widths = self._agreeing('reading_widths', self._as_read, tokens)
        self.length = [0] * self.rows
        if self.widths != every:
            print(
                'Here a step of few texts adds in another order than one of many. So that no text '
                f'depends on others, each step has {" or ".join(map(str, self.widths))} rows',
                file=sys.stderr,
            )

    def _agreeing(self, name, tried, tokens):
        """Those of the widths `name` with which `tried` gives what it gives with the widest."""
        every, logits = getattr(self, name), {}
        for width in every:
            setattr(self, name, [width])
            self.length = [0] * self.rows
            logits[width] = tried(width, tokens)
        return [width for width in every if np.array_equal(logits[width], logits[every[-1]])]

    def _stepped(self, width, tokens):  # [rows, n] -> [n, rows, vocab]
        """The logits behind some tokens for each slot, whose row changes from step to step."""
        slots, tokens = np.arange(self.rows), tokens[:, :4].T
        logits = np.zeros([*tokens.shape, self.lm.hparams.n_vocab], np.float32)
        for i, row in enumerate(tokens):
            for some in np.split(np.roll(slots, i), range(width, self.rows, width)):
                logits[i, some] = self.step(some, row[some])
        return logits

    def _as_read(self, width, tokens):  # [rows, n] -> [rows][1, vocab]
        """The logits behind a prompt for each slot."""
        prompts = [(slot, row, 1) for slot, row in enumerate(tokens)]
        groups = [prompts[i : i + width] for i in range(0, self.rows, width)]
        return [logits for group in groups for logits in self.read(group)]


def powers_up_to(most):
    """The powers of two below `most`, and that."""
    return sorted({1 << i for i in range(most.bit_length())} | {most})
