"""Many short texts in each window, none lost: what --pack trains on.

A text ends with its end token, or where its chunk ends. In each epoch all are put into windows in a
random order, every one whole in one window; only those longer than a window are cut. What is left
of a window is filled with end tokens that are not to be learnt, see masks.
"""

import itertools

import numpy as np

BLOCK = 2**20  # tokens in which ends are looked for at once
COUNTED = 8  # epochs whose windows are counted; their order decides how many there are
OPEN = 16  # windows that are being filled at a time


class PackedSampler:
    """Windows of whole texts, in the place of load_dataset.Sampler.

    Held are places of texts and of windows, about 40 bytes for each text, and none of the tokens.

    Args:
        chunks: arrays [tokens].
        end: the token that ends a text.
        seed: a whole number, from which the order of the texts follows.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, chunks, end, seed):
        self.chunks, self.end, self.seed = chunks, end, seed
        self.total_size = sum(map(len, chunks))
        self.longest = self.total_size  # that a window can hold, since texts are put together
        # Places count through all chunks, as if each of them ended with an end token.
        bounds = [_bounds(chunk, end) for chunk in chunks]
        self.chunk_starts = np.cumsum([0] + [bound[-1] for bound in bounds])
        shifted = map(np.add, bounds, self.chunk_starts)
        self.text_starts = np.unique(np.concatenate(list(shifted)))  # and the end of the last
        self.epoch, self.drawn = 0, 0  # how many epochs are over, and windows of this one
        self._windows = None

    def sample(self, length):
        """The next window, [length]; all have to be of the same length."""
        if self._windows is None:
            self._windows = self._all_windows(length)
        return next(self._windows)

    def windows_in(self, epochs, length):
        """How many windows have all texts that often; after COUNTED epochs, about as many."""
        _, sizes, _ = self._pieces(length)
        whole = int(epochs)
        counts = [self._count(epoch, sizes, length) for epoch in range(min(whole + 1, COUNTED))]
        while len(counts) <= whole:
            counts.append(sum(counts[:COUNTED]) / COUNTED)
        return sum(counts[:whole]) + (epochs - whole) * counts[whole]

    def _count(self, epoch, sizes, length):
        order = np.random.default_rng([self.seed, epoch]).permutation(len(sizes))
        return sum(1 for _ in packed(zip(order, sizes[order], strict=True), length))

    def state(self):
        """Where it is: what JSON can hold, for `restore`."""
        return {'seed': self.seed, 'epoch': self.epoch, 'drawn': self.drawn}

    def restore(self, state):
        self.seed, self.epoch, self.drawn = state['seed'], state['epoch'], state['drawn']
        self._windows = None

    def _all_windows(self, length):
        starts, sizes, begun = self._pieces(length)
        while True:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(starts))
            groups = packed(zip(order, sizes[order], strict=True), length)
            for group in itertools.islice(groups, self.drawn, None):
                self.drawn += 1
                yield self._window([(starts[i], sizes[i], begun[i]) for i in group], length)
            self.epoch, self.drawn = self.epoch + 1, 0

    def _pieces(self, length):
        """Of each text, or piece of one: its place, its size, and whether it goes on from another.

        It then begins with the last token of that one, so that every token but the first of a text
        is predicted once.
        """
        sizes = np.diff(self.text_starts)
        numbers = np.maximum(1, -(-(sizes - 1) // (length - 1)))  # of pieces
        text = np.repeat(np.arange(len(sizes)), numbers)
        offset = (np.arange(len(text)) - (np.cumsum(numbers) - numbers)[text]) * (length - 1)
        return (
            self.text_starts[text] + offset,
            np.minimum(sizes[text] - offset, length),
            offset > 0,
        )

    def _window(self, pieces, length):
        window = np.full(length, ~self.end, np.int32)
        at = 0
        for start, size, begun in pieces:
            chunk = np.searchsorted(self.chunk_starts, start, side='right') - 1
            start -= self.chunk_starts[chunk]
            tokens = self.chunks[chunk][start : start + size]
            window[at : at + len(tokens)] = tokens
            if begun:
                window[at] = min(window[at], ~window[at])
            at += size
        return window


def _bounds(chunk, end):  # -> [texts + 1]: where each begins and where the last ends, at its token
    bounds = [[0]]
    for start in range(0, len(chunk), BLOCK):
        block = chunk[start : start + BLOCK]
        bounds.append(start + 1 + np.flatnonzero((block == end) | (block == ~end)))
    bounds = np.concatenate(bounds)
    return bounds if bounds[-1] == len(chunk) else np.append(bounds, len(chunk) + 1)


def packed(pieces, length):
    """(index, size), … to lists of indices whose sizes are at most `length` together.

    Each goes where the least room is left behind it, among the windows that are being filled.
    """
    filled = []  # [room, indices]
    for index, size in pieces:
        fitting = [window for window in filled if window[0] >= size]
        if fitting:
            window = min(fitting)
        else:
            if len(filled) == OPEN:
                fullest = min(filled)
                filled.remove(fullest)
                yield fullest[1]
            window = [length, []]
            filled.append(window)
        window[0] -= size
        window[1].append(index)
    yield from (indices for _, indices in filled)
