"""Texts in turns with LiteRT, which reads one at a time: each token may be another text's.

What a text has read is kept beside it, and put back when its turn comes, if another was there
meanwhile. Prompts are read as LiteRT.start reads them, so that all logits, to the last bit, are
those of `gpt2 sample`.
"""

import hashlib

import numpy as np

from ..sampling import litert


class TextsInTurn:
    """What a Scheduler works with; see slots.Slots, whose names these are."""

    piece = litert.CHUNK

    def __init__(self, lm, rows):
        """lm: a litert.LiteRT."""
        self.lm, self.rows = lm, rows
        self.length = [0] * rows
        self._pasts = [None] * rows
        self._current = None  # the slot whose tokens `lm` has read
        self.fingerprint = hashlib.sha256(lm.start([0]).tobytes()).hexdigest()

    def warm_up(self):
        """Nothing is to be compiled."""

    def clear(self, slot):
        self.length[slot], self._pasts[slot] = 0, None
        if self._current == slot:
            self._current = None

    def read(self, slot, tokens, wanted):
        self._enter(slot)
        if wanted > 1:  # it gives the logits of the last token alone
            logits = [self.lm.step(token) for token in tokens]
        else:
            parts = [tokens[:-1], tokens[-1:]] if wanted else [tokens]
            logits = [self.lm.read(part) for part in parts if part]
        self._leave(slot)
        return np.stack(logits)[-wanted:] if wanted else None

    def step(self, slots, tokens):
        logits = []
        for slot, token in zip(slots, tokens, strict=True):
            self._enter(slot)
            logits.append(self.lm.step(token))
            self._leave(slot)
        return np.stack(logits)

    def _enter(self, slot):
        if self._current == slot:
            return
        self._current = None  # if it is interrupted
        if self._pasts[slot] is None:
            self._pasts[slot] = self.lm.empty_past()
        self.lm.load(self._pasts[slot], self.length[slot])
        self._current = slot

    def _leave(self, slot):
        self.lm.save(self._pasts[slot], self.length[slot])
        self.length[slot] = self.lm.length
