"""Texts side by side in TensorFlow, each with a past of its own that stays where it is.

A step adds a token to some of them. It is compiled for a few numbers of rows, and what a row gets
depends neither on that number nor on the other rows, to the last bit: attention is computed for
each row by itself, over its own past, in blocks of one size, one after the other; prompts are read
one at a time, in pieces of one size; and of the numbers of rows those alone are used that were seen
to add in the same order as the largest (`warm_up`).
"""

import hashlib
import sys
import typing

import numpy as np
import tensorflow as tf

from .. import model

BLOCK = 64  # tokens of the past that are looked at together
PIECES = 16, 32  # tokens of a prompt that are read at once, the last at most; divisors of BLOCK
FEWEST_ROWS = 2  # a product with a single row adds in another order
LOGIT_ROWS = 8  # whose logits are computed together, likewise
TOGETHER = 2  # layers that are one program, where they can be: more would compile longer
SMALL = 2**18  # weights of a matrix that a core can work on alone
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


def logits_of(h, params):  # [rows, features] -> [rows, vocab]
    """model.logits_of in a form that is twice as fast for a few rows."""
    wte, (rows, nx) = params['wte'], h.shape
    parts = model.parts_of(wte.shape[0])
    w = tf.reshape(wte, [parts, -1, nx])

    def of(h):  # [up to LOGIT_ROWS, features]
        h = tf.broadcast_to(tf.cast(tf.transpose(h), w.dtype), [parts, nx, h.shape[0]])
        return tf.transpose(tf.reshape(tf.matmul(w, h), [-1, h.shape[-1]]))

    logits = [of(h[first : first + LOGIT_ROWS]) for first in range(0, rows, LOGIT_ROWS)]
    return tf.cast(tf.concat(logits, axis=0), tf.float32)


def linear(x, params):  # [rows, sequence, nx] -> [rows, sequence, nf]
    """model.conv1d; a small matrix is one product, for XLA adds small parts in varying orders."""
    _, nx, nf = params['w'].shape
    if nx * nf > SMALL:
        return model.conv1d(x, params)
    w = tf.reshape(params['w'], [nx, nf])
    c = tf.matmul(tf.cast(tf.reshape(x, [-1, nx]), w.dtype), w)
    c = tf.nn.bias_add(tf.cast(c, x.dtype), params['b'])
    return tf.reshape(c, [*x.shape[:-1], nf])


def layer(x, params, k, v, length, new, old):  # [rows, sequence, features] -> the same
    """model.block; k and v are the variables of its Past, which it extends where they are."""
    past = Past(tf.convert_to_tensor(k), tf.convert_to_tensor(v), length, new, old)
    c = linear(model.norm(x, params['ln_1']), params['attn']['c_attn'])
    q, *new = (model.split_heads(part, k.shape[1]) for part in tf.split(c, 3, axis=2))
    past = past.extended(*new)
    k.assign(past.k)
    v.assign(past.v)
    x += linear(model.merge_heads(attend(q, past)), params['attn']['c_proj'])
    h = model.gelu(linear(model.norm(x, params['ln_2']), params['mlp']['c_fc']))
    return x + linear(h, params['mlp']['c_proj'])


def layers(x, params, pasts, *places):  # [rows, sequence, features] -> the same
    """One layer after the other; lists of their parameters and of their [k, v]."""
    for each, (k, v) in zip(params, pasts, strict=True):
        x = layer(x, each, k, v, *places)
    return x


class Slots:
    """What a Scheduler works with.

    Attributes:
        rows: how many texts can have a slot.
        piece: how many tokens of a prompt are read at once.
        length: how many tokens each slot has read, a list.
        widths: the numbers of rows with which a step may work.
        fingerprint: differs between models, and where it shall be told that logits may differ.
    """

    piece = PIECES[-1]

    def __init__(self, lm, rows):
        """lm: a model.GPT2."""
        self.lm, self.rows, hparams = lm, rows, lm.hparams
        self.length = [0] * max(rows, FEWEST_ROWS)
        powers = {1 << i for i in range(1, len(self.length).bit_length())}
        self.widths = sorted({*powers, len(self.length)})
        weights = [lm.params['wpe'], *lm.params['ln_f'].values()]
        weights = [tf.convert_to_tensor(each).numpy().tobytes() for each in weights]
        self.fingerprint = hashlib.sha256(b''.join(weights)).hexdigest()
        self.pages = -(-hparams.n_ctx // BLOCK)  # of each slot
        pages = len(self.length) * self.pages
        shape = model.past_shape(hparams=hparams, batch_size=pages, sequence=BLOCK)
        empty = tf.zeros([shape[0], *shape[3:]])
        self.past = [[tf.Variable(empty) for _ in 'kv'] for _ in range(hparams.n_layer)]
        self.together = model.parts_of(hparams.n_layer, TOGETHER)
        # Compiled once for all layers.
        self._layers = tf.function(layers, jit_compile=True, autograph=False)
        self._embed = tf.function(self._embed, jit_compile=True, autograph=False)
        self._logits = tf.function(self._logits, jit_compile=True, autograph=False)
        self._features = tf.function(self._features, autograph=False)

    def _embed(self, tokens, length):
        return model.embed(self.lm.params, tokens, length[:, None])

    def _logits(self, h):  # [rows, features] -> [rows, vocab]
        return logits_of(model.norm(h, self.lm.params['ln_f']), self.lm.params)

    def _features(self, tokens, length, new, old):  # [rows, sequence] -> [rows, sequence, features]
        h = self._embed(tokens, length)
        params = [self.lm.params[f'h{i}'] for i in range(len(self.past))]
        for i in range(0, len(params), self.together):
            some = slice(i, i + self.together)
            h = self._layers(h, params[some], self.past[some], length, new, old)
        return h

    def _read(self, tokens, slots, looked_at):
        """The features of some rows of tokens, each behind what its slot has read.

        Args:
            tokens: [rows, sequence].
            looked_at: of each row, how many pages.
        """
        first = np.array(slots) * self.pages
        length = np.array([self.length[slot] for slot in slots])
        new = length[:, None] + np.arange(len(tokens[0]))  # [rows, sequence]
        new = np.stack([first[:, None] + new // BLOCK, new % BLOCK], axis=-1)
        old = np.full([len(slots) * self.pages, 3], -1)
        todo = [(r, first[r] + i, i) for r, number in enumerate(looked_at) for i in range(number)]
        old[: len(todo)] = todo
        return self._features(*(tf.constant(x, tf.int32) for x in (tokens, length, new, old)))

    def clear(self, slot):
        """Forget what a slot has read; to be called as soon as its text is done."""
        self.length[slot] = 0

    def read(self, slot, tokens, wanted):
        """Read up to `piece` tokens of a prompt, all of which but the last part fill a piece.

        Returns the logits behind each of the last `wanted` of them, [wanted, vocab].
        """
        size = next(size for size in PIECES if size >= len(tokens))
        padded = np.pad(tokens, [0, size - len(tokens)])
        h = self._read([padded], [slot], [(self.length[slot] + size - 1) // BLOCK + 1])[0]
        self.length[slot] += len(tokens)
        h = h[len(tokens) - wanted : len(tokens)]
        if not wanted:
            return None
        more = (FEWEST_ROWS if wanted == 1 else self.piece) - wanted  # two numbers to compile
        return self._logits(tf.pad(h, [[0, more], [0, 0]])).numpy()[:wanted]

    def step(self, slots, tokens):
        """Let each of some slots read one token more.

        Returns the logits behind them, [slots, vocab].
        """
        width = next(width for width in self.widths if width >= len(slots))
        others = [slot for slot in range(len(self.length)) if slot not in slots]
        others = others[: width - len(slots)]  # what they are given is soon written over
        pages = [self.length[slot] // BLOCK + 1 for slot in slots] + [1] * len(others)
        h = self._read(np.pad(tokens, [0, len(others)])[:, None], [*slots, *others], pages)
        for slot in slots:
            self.length[slot] += 1
        return self._logits(h[:, 0]).numpy()[: len(slots)]

    def warm_up(self):
        """Compile everything, and leave out of `widths` what does not give what the widest does."""
        hparams, slots = self.lm.hparams, len(self.length)
        random = np.random.default_rng(0)
        tokens = random.integers(0, hparams.n_vocab, [min(4, hparams.n_ctx), slots])
        every, self.widths = self.widths, []
        logits = {width: self._tried(width, tokens) for width in every}
        widest = logits[every[-1]]
        self.widths = [width for width in every if np.array_equal(logits[width], widest)]
        if self.widths != every:
            print(
                'Here a step of few texts adds in another order than one of many. So that no text '
                f'depends on others, each step has {" or ".join(map(str, self.widths))} rows',
                file=sys.stderr,
            )
        for size, wanted in zip(PIECES, (1, 2), strict=True):
            self.clear(0)
            self.read(0, [0] * min(size, hparams.n_ctx), wanted)
        self.length = [0] * slots

    def _tried(self, width, tokens):  # [n, slots] -> [n, slots, vocab]
        """The logits behind some tokens for each slot, whose row changes from step to step."""
        self.widths, slots = [width], np.arange(len(self.length))
        self.length = [0] * len(slots)
        logits = np.zeros([*tokens.shape, self.lm.hparams.n_vocab], np.float32)
        for i, row in enumerate(tokens):
            order = np.roll(slots, i)
            for some in np.split(order, range(width, len(slots), width)):
                logits[i, some] = self.step(some.tolist(), row[some])
        return logits
