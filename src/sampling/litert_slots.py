"""Several texts in LiteRT at once, each with a past of its own: they join and leave between tokens.

In a step each row is the next token of one text. All pasts lie in one window, in pages, and a row
sees those of its text alone. A text's pages lie in their order, with zeros between them in every
sum, and are as long as what is added side by side: what is summed for a text is what it is alone,
to the last bit. Prompts are read by a litert.LiteRT, one piece after the other.
"""

import hashlib

import numpy as np

from . import litert

PAGE = litert.WINDOW_STEP
AHEAD = 24  # tokens for which there is room when memory is planned, which takes two steps' time


def of(lm, rows):
    """The Slots of a litert.LiteRT, which keeps the last: to open a file takes a while."""
    if lm.slots is None or lm.slots.rows != rows:
        lm.slots = None  # before the next takes memory
        lm.slots = Slots(lm, rows)
    return lm.slots


class Slots:
    """Texts side by side.

    Attributes:
        rows: how many there are at most.
        length: of each, how many tokens were read.
    """

    piece, pieces = litert.CHUNK, 1  # tokens that are read at once, and of how many prompts

    def __init__(self, lm, rows):
        """lm: a litert.LiteRT, whose file is opened again for the steps."""
        self.lm, self.rows, self.hparams = lm, rows, lm.hparams
        self.length = [0] * rows
        self.widths = sorted({2**i for i in range(rows.bit_length()) if 2**i < rows} | {rows})
        self.graph = litert.Graph(lm.graph.path, lm.graph.threads)
        self._kept, self._room = {}, 0  # [heads, tokens of all slots, features]; tokens of a slot
        self._make_room(PAGE)
        self._reading = None  # the slot whose tokens `lm` has read
        self._planned = 0, 0  # width, pages
        self._pages = [[] for _ in range(rows)]  # of each slot, those of the window that it has
        self._there = [0] * rows  # of each slot, how many tokens are in the window

    @property
    def fingerprint(self):
        """Of what is computed with these weights on this machine, 64 digits."""
        return hashlib.sha256(self.lm.start([0]).tobytes()).hexdigest()

    def warm_up(self):
        """Nothing is to be compiled."""

    def clear(self, slot):
        """Forget what a slot has read."""
        self.length[slot], self._pages[slot], self._there[slot] = 0, [], 0
        if self._reading == slot:
            self._reading = None

    def copy(self, source, slots, length):
        """Let some slots that are free have read the first tokens that another has."""
        for slot in slots:
            there = self._past(slot)
            for name, kept in self._past(source).items():
                there[name][:, :length] = kept[:, :length]
            self.length[slot] = length

    def start(self, slot, tokens):  # [sequence], a list -> [vocab]
        """Forget what a slot has read, read at least one token, and give the logits of the next.

        As LiteRT.start: a prompt that was read last for another slot is not read again.
        """
        self.clear(slot)
        self._reading = None
        logits = self.lm.start(tokens)
        self._save(slot)
        return logits

    def read(self, some):
        """Read a piece of each of some prompts.

        Args:
            some: of each its slot; up to `piece` tokens; and behind how many of them, the last,
                logits are wanted.

        Returns of each [wanted, vocab].
        """
        return [self._read(*each) for each in some]

    def _read(self, slot, tokens, wanted):
        if self._reading != slot:
            self._reading = None  # if it is interrupted
            self.lm.load(self._past(slot), self.length[slot])
            self._reading = slot
        if wanted > 1:  # it gives the logits of the last token alone
            logits = [self.lm.step(token) for token in tokens]
        else:
            parts = [tokens[:-1], tokens[-1:]] if wanted else [tokens]
            logits = [self.lm.read(part) for part in parts if part]
        self._save(slot)
        return np.stack(logits)[len(logits) - wanted :]

    def step(self, slots, tokens):
        """Let each of some slots read one token more.

        Returns the logits behind them, [slots, vocab].
        """
        self._fit(next(width for width in self.widths if width >= len(slots)), slots)
        self._show(slots, tokens)
        self.graph.run()
        self._keep(slots)
        return self.graph.results['logits']()[: len(slots)].copy()

    def _show(self, slots, tokens):
        """Write what a step reads; memory may not be held while it runs."""
        memory, n = self.graph.memory, len(slots)
        for name, values in (('tokens', tokens), ('positions', [self.length[s] for s in slots])):
            memory[name]()[:] = 0
            memory[name]()[:n] = values
        mask = memory['mask_past']()  # [width, window]
        mask[:] = litert.MASKED
        for row, slot in enumerate(slots):
            for begin, end, place in self._parts(slot, 0, self.length[slot]):
                mask[row, place : place + end - begin] = 0

    def _keep(self, slots):
        """Add what a step gave to the past, in the window and for whatever is planned next."""
        self._make_room(max(self.length[slot] for slot in slots) + 1)
        places, kept = [], []
        for slot in slots:
            length = self.length[slot]
            places += [place for *_, place in self._parts(slot, length, length + 1)]
            kept.append(slot * self._room + length)
            self.length[slot] = self._there[slot] = length + 1
        for name in self.graph.past:
            new = self.graph.results[f'new_{name}']()[:, : len(slots)]  # [heads, n, features]
            self.graph.memory[name]()[:, places] = new
            self._kept[name][:, kept] = new

    def _save(self, slot):
        """Keep what `lm` has read for a slot."""
        self._make_room(self.lm.length)
        self.lm.save(self._past(slot), self.length[slot])
        self.length[slot] = self.lm.length

    def _past(self, slot):  # {name: [heads, tokens, features]}
        room = self._room
        return {name: kept[:, slot * room :][:, :room] for name, kept in self._kept.items()}

    def _make_room(self, length):
        """Have room for so many tokens of each slot: not for a whole window before it is needed."""
        if length <= self._room:
            return
        before, self._room = self._room, min(max(length, 2 * self._room), self.hparams.n_ctx)
        for name, (heads, features) in self.graph.past.items():
            new = np.empty([heads, self.rows, self._room, features], np.float32)
            if before:
                new[:, :, :before] = self._kept[name].reshape(heads, self.rows, before, features)
            self._kept[name] = new.reshape(heads, -1, features)

    def _parts(self, slot, begin, end):
        """(begin, end, where in the window) of the tokens `begin` to `end`, a page at a time."""
        while begin < end:
            page, place = divmod(begin, PAGE)
            until = min(end, (page + 1) * PAGE)
            yield begin, until, self._pages[slot][page] * PAGE + place
            begin = until

    def _fit(self, width, slots):
        """Have memory for a step of some slots, and their pasts in it."""
        if width != self._planned[0] or not self._find_pages(slots):
            self._plan(width, slots)
        for slot in slots:
            past = self._past(slot)
            for begin, end, place in self._parts(slot, self._there[slot], self.length[slot]):
                for name, kept in past.items():
                    self.graph.memory[name]()[:, place : place + end - begin] = kept[:, begin:end]
            self._there[slot] = self.length[slot]

    def _find_pages(self, slots):
        """Give each slot pages for one token more, each behind those that it has; or False."""
        taken = {page for pages in self._pages for page in pages}
        for slot in slots:
            pages = self._pages[slot]
            while len(pages) * PAGE <= self.length[slot]:
                behind = range(pages[-1] + 1 if pages else 0, self._planned[1])
                page = next((page for page in behind if page not in taken), None)
                if page is None:
                    return False
                pages.append(page)
                taken.add(page)
        return True

    def _plan(self, width, slots):
        """Plan memory with pages for some slots alone, which loses what is in it."""
        self._planned = 0, 0  # if it is interrupted
        self._there = [0] * self.rows
        self._pages = [[] for _ in range(self.rows)]
        total = 0
        for slot in slots:
            last = min(self.length[slot] + AHEAD, self.hparams.n_ctx - 1)
            number = last // PAGE + 1
            self._pages[slot] = list(range(total, total + number))
            total += number
        self.graph.plan(width, width, total * PAGE)
        self.graph.memory['last']()[:] = np.eye(width)
        self.graph.memory['mask_new']()[:] = np.where(np.eye(width), 0, litert.MASKED)
        self._planned = width, total
