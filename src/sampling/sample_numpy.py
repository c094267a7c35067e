"""sample.py again in NumPy, where TensorFlow is not loaded: the same tokens from the same numbers.

The language model is given here too, one that reads a text at a time, such as litert.LiteRT:
`lm.start(tokens)` and `lm.step(token)` give the logits of the next token, [vocab]. sample.py and
controls.py say what the functions mean.
"""

import numpy as np

from .sample_config import ANY

NO_NUMBERS = 'The logits are NaN, no numbers: the weights are damaged, or their training diverged'
LOWEST = np.finfo(np.float32).min
COLDEST = 1e-20  # as in sample.py
COLUMN = 32  # tokens that are looked at together, to look at few of them


def uniforms_for(seed, rows, length):
    """The random numbers of some samples, [rows, length]; None takes fresh ones.

    Those of a row follow from the seed and the row's number alone, and a longer sample begins with
    the numbers of a shorter one.
    """
    seeds = [None if seed is None else [*np.atleast_1d(seed), row] for row in rows]
    return np.stack([np.random.default_rng(s).random(length, np.float32) for s in seeds])


class Rows:
    """sample.Rows for such a model: one text grows after the other; or all together, in `slots`."""

    def __init__(
        self, lm, contexts, length, uniforms, *, slots=None, temperature=1, top_k=0, top_p=1,
        controls=None,
    ):  # fmt: skip
        """
        Args:
            slots: as litert_slots.Slots, with one for each text.
        """
        self.lm, self.slots, self.controls = lm, slots, controls
        self.choice = {
            'temperature': temperature or None,
            'top_k': top_k,
            'top_p': top_p if 0 < top_p < 1 else None,
        }
        batch, self.known = len(contexts), np.array([len(ids) for ids in contexts])  # tokens
        self.end = self.known + length  # may be lowered, to end a row
        self.first = self.known.copy()
        self.begin = np.zeros(batch, int)  # of the window of each row
        self.tokens = np.zeros([batch, self.end.max()], np.int32)
        for row, ids in enumerate(contexts):
            self.tokens[row, : len(ids)] = ids
        self.uniforms = uniforms  # [batch][length]
        self.read = set()  # the rows whose tokens the model has read

    def grow(self, number):
        """Add up to `number` tokens to the rows that have not reached their ends, or to the first.

        False if none is left.
        """
        for _ in range(number):
            rows = np.flatnonzero(self.known < self.end)[: None if self.slots else 1].tolist()
            for row, logits in self._logits(rows):
                self._add(row, logits)
        return any(self.known < self.end)

    def _add(self, row, logits):  # [vocab]
        if np.isnan(logits).any():
            raise ValueError(NO_NUMBERS)
        known = self.known[row]
        if self.controls is not None:
            seen = self.tokens[row, self.begin[row] : known]
            logits = controlled(logits, seen, self.controls)
        uniform = self.uniforms[row][known - self.first[row]]
        self.tokens[row, known] = choose(logits, uniform, **self.choice)
        self.known[row] += 1

    def _logits(self, rows):  # -> pairs of a row and [vocab]
        n_ctx, there, logits = self.lm.hparams.n_ctx, [], []
        for row in rows:
            full = self.known[row] - self.begin[row] > n_ctx
            if row in self.read and not full:
                there.append(row)
                continue
            if full:
                self.begin[row] = self.known[row] - max(n_ctx // 2, 1)
            logits.append((row, self._start(row)))
        if there:
            last = [int(self.tokens[row, self.known[row] - 1]) for row in there]
            if self.slots:
                logits += zip(there, self.slots.step(there, last), strict=True)
            else:
                logits += [(there[0], self.lm.step(last[0]))]
        return logits

    def _start(self, row):
        tokens = self.tokens[row, self.begin[row] : self.known[row]].tolist()
        self.read.discard(row)  # while it reads, it may be interrupted
        if self.slots:
            logits = self.slots.start(row, tokens)
        else:
            self.read.clear()
            logits = self.lm.start(tokens)
        self.read.add(row)
        return logits


def controlled(logits, tokens, controls):  # [vocab], [n] -> [vocab]
    """controls.Controls.applied, for a text of which the model sees these tokens."""
    logits = logits.copy()
    if controls.repetition_penalty is not None:
        there, penalty = np.unique(tokens), controls.repetition_penalty
        smaller = np.where(logits > 0, logits / penalty, logits * penalty)
        logits[there] = smaller[there]
    if controls.bias is not None:
        logits += controls.bias
    n = controls.no_repeat_ngram
    if n and len(tokens) >= n:
        ngrams = np.lib.stride_tricks.sliding_window_view(tokens, n)
        same = np.all(ngrams[:, :-1] == tokens[len(tokens) - n + 1 :], axis=1)
        logits[ngrams[same, -1]] = LOWEST
    if controls.banned is not None:
        begun = controls.banned[:, :-1]  # [number, longest - 1]
        last = np.pad(tokens, [begun.shape[1], 0], constant_values=-2)[len(tokens) :]
        said = np.all((begun == ANY) | (begun == last), axis=1)
        logits[controls.banned[said, -1]] = LOWEST
    return logits


def top_k_tokens(logits, k):  # [vocab] -> [kept], ids in their order
    """The k likeliest tokens, and those that equal the last of them; 0 is all."""
    if k == 0 or k >= len(logits):
        return np.arange(len(logits))
    some = np.flatnonzero(logits >= _kth(_best_of_columns(logits, k), k))
    return some[logits[some] >= _kth(logits[some], k)]


def _best_of_columns(logits, k):  # [vocab] -> [fewer], at least k
    """The k-th largest of these is no more than that of all, and few tokens reach it."""
    rows = min(COLUMN, len(logits) // k)
    columns = len(logits) // rows
    return logits[: rows * columns].reshape(rows, columns).max(axis=0)


def _kth(values, k):  # the k-th largest
    return np.partition(values, -k)[-k]


def top_p_smallest(logits, p):  # [kept], 0 < p < 1 -> []
    """The smallest logit among the fewest that together reach p."""
    sorted_logits = np.sort(logits)[::-1]
    cumulative_probs = np.cumsum(_softmax(sorted_logits))
    last = np.sum(cumulative_probs < p)
    return sorted_logits[min(last, len(logits) - 1)]  # the sum of all may round to less than p


def choose(logits, uniform, *, temperature, top_k, top_p):  # [vocab], [] in [0, 1) -> int
    """One token: the likeliest where temperature is None, else drawn.

    Args:
        logits: float32.
        uniform: the number that decides, by inverting the cumulative distribution.
        temperature, top_k, top_p: as in sample.choose; None turns the first and the last off.
    """
    if temperature is None:
        return int(np.argmax(logits))
    with np.errstate(over='ignore'):  # of those that are LOWEST
        logits = logits / np.float32(max(temperature, COLDEST))
    tokens = top_k_tokens(logits, top_k)
    if top_p is not None:
        tokens = tokens[logits[tokens] >= top_p_smallest(logits[tokens], np.float32(top_p))]
    cumulative = np.cumsum(_softmax(logits[tokens].astype(np.float64)))
    return int(tokens[np.searchsorted(cumulative, uniform * cumulative[-1], side='right')])


def _softmax(x):  # [n] -> the same
    e = np.exp(x - np.max(x))
    return e / np.sum(e)
