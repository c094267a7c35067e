"""The one thread that works with the model: texts join and leave between two tokens.

It is given `slots`, as slots.Slots or litert_slots.Slots: so many texts have a past of their own
there, and whatever else they hold, a text's logits are the same. Each turn reads one piece of a
prompt, or of as many as `slots` reads together, and then lets all texts that have been read grow by
one token. Everything else talks to it by a list of texts that wait.
"""

import collections
import itertools
import sys
import threading
import time
import traceback

from ..sampling import backends
from . import refused

LONGEST_PATIENCE = 60  # seconds; what Retry-After says at most


class Scheduler:
    """Texts that wait, and texts that are worked on.

    Attributes:
        ready: set when everything is compiled.
        failed: what ended it before that, or None.
        stopped: whether `stop` was called.
    """

    def __init__(self, slots, queue, on_failure=lambda: None):
        """
        Args:
            queue: how many texts may wait.
            on_failure: called where nothing can be compiled, and so nothing served.
        """
        self.slots, self.queue, self.on_failure = slots, queue, on_failure
        self.ready, self.failed = threading.Event(), None
        self.free = list(range(slots.rows))  # which slots
        self.running = {}  # {slot: Text}
        self._reading = collections.deque()  # slots whose prompts are not read
        self._behind = {}  # {slot: logits behind its prompt}, of those that are
        self._waiting = collections.deque()  # of deques of Texts, one for each request
        self._changed = threading.Condition()  # the lock of what waits, and of `_ending`
        self._ending = self.stopped = False
        self._seconds = 1.0  # that a text took of late
        self._thread = threading.Thread(target=self._run, name='scheduler', daemon=True)

    def start(self):
        self._thread.start()

    @property
    def waiting(self):
        """How many texts wait."""
        with self._changed:
            return sum(map(len, self._waiting))

    def submit(self, texts):
        """Let the texts of one request be worked on.

        Raises Refused: too many wait already, or it is ending.
        """
        with self._changed:
            if self._ending:
                raise refused.ending()
            waiting = sum(map(len, self._waiting))
            if waiting >= self.queue:
                seconds = self._seconds * waiting / self.slots.rows
                raise refused.too_many(max(1, min(LONGEST_PATIENCE, round(seconds))))
            self._waiting.append(collections.deque(texts))
            self._changed.notify()

    def stop(self):
        """Refuse new texts, and those that are there before their next token."""
        self.stopped = True
        with self._changed:
            self._ending = True
            for texts in self._waiting:  # here: the thread may be compiling for a long time
                self._drop_waiting(texts)
            self._changed.notify()

    def end(self, timeout=None):
        """Refuse new texts, and wait for those that are there, `timeout` seconds at most."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self):
        try:
            with backends.enough_memory():
                self.slots.warm_up()
        except Exception as error:
            self.failed = error
            self._refuse_waiting()
            self.on_failure()
        self.ready.set()
        while self._work_is_there():
            self._drop()
            for work in (self._read, self._grow):
                try:
                    with backends.enough_memory():
                        work()
                except Exception:  # a mistake of ours ends what it met, and not the server
                    traceback.print_exc()
                    self._refuse_all()

    def _work_is_there(self):
        """Wait for texts, and let them join where there is room; False at the end."""
        with self._changed:
            while not (self._waiting or self.running):
                if self._ending:
                    return False
                self._changed.wait()
            for texts in self._waiting:
                self._drop_waiting(texts)
            while self.free and any(self._waiting):
                texts = self._waiting.popleft()  # of each request one, in turns
                if texts:
                    self._join(texts.popleft())
                    self._waiting.append(texts)
            self._waiting = collections.deque(filter(None, self._waiting))
        return True

    def _join(self, text):
        if not text.wanted:
            text.end('length')
            text.tell()
            return
        text.joined = time.monotonic()
        slot = self.free.pop()
        self.running[slot] = text
        self._reading.append(slot)

    def _drop_waiting(self, texts):
        for text in [text for text in texts if self._is_over(text)]:
            texts.remove(text)

    def _drop(self):
        for slot, text in list(self.running.items()):
            if self._is_over(text):
                self._leave(slot)

    def _is_over(self, text):
        if time.monotonic() > text.deadline and not text.cancelled:
            text.cancelled = True
            text.deliver(refused.too_late(text.deadline - text.begun))
        elif self.stopped and not text.cancelled:
            text.cancelled = True
            text.deliver(refused.ending())
        return text.cancelled

    def _leave(self, slot):
        text = self.running.pop(slot)
        self.slots.clear(slot)
        self._behind.pop(slot, None)
        if slot in self._reading:
            self._reading.remove(slot)
        self.free.append(slot)
        if text.ended:
            self._seconds += 0.1 * (text.ended - text.joined - self._seconds)

    def _read(self):
        """One piece of each of the next prompts; at its end the first token is drawn."""
        some = [slot for slot in self._reading if self._same(slot) is None][: self.slots.pieces]
        pieces, ended = [], []
        for slot in some:
            self._reading.remove(slot)
            text, begin = self.running[slot], self.slots.length[slot]
            piece = text.prompt[begin : begin + self.slots.piece]
            whole = begin + len(piece) == len(text.prompt)
            pieces.append((slot, piece, len(piece) if text.wants_prompt else int(whole)))
            (ended if whole else self._reading).append(slot)
        logits = self.slots.read(pieces) if pieces else []
        for (slot, piece, _), of_piece in zip(pieces, logits, strict=True):
            text = self.running[slot]
            if text.wants_prompt:
                text.read(self.slots.length[slot] - len(piece), of_piece)
            if slot in ended:
                self._behind[slot] = of_piece[-1].copy()  # not a view, which keeps all
        ended += self._copy()
        if ended:
            self._add(ended, [self._behind[slot] for slot in ended])

    def _copy(self):
        """The slots whose whole prompts others have read, and now they."""
        copied = collections.defaultdict(list)
        for slot in self._reading:
            if (same := self._same(slot)) in self._behind:
                copied[same].append(slot)
        for same, some in copied.items():
            self.slots.copy(same, some, len(self.running[same].prompt))
            for slot in some:
                self._behind[slot] = self._behind[same]
                self._reading.remove(slot)
        return list(itertools.chain.from_iterable(copied.values()))

    def _same(self, slot):
        """Which slot has the same prompt and came first, so that this one need not read it."""
        text = self.running[slot]
        if not text.wants_prompt and not self.slots.length[slot]:
            for other, its in self.running.items():
                if other == slot:
                    break
                if its.prompt == text.prompt and not its.wants_prompt:
                    return other
        return None

    def _grow(self):
        """A token for each text whose prompt is read."""
        slots = [slot for slot in self.running if slot not in self._reading]
        if not slots:
            return
        tokens = [int(text.tokens[text.known - 1]) for text in map(self.running.get, slots)]
        self._add(slots, self.slots.step(slots, tokens))

    def _add(self, slots, logits):
        """A token for each of some slots, drawn from its logits."""
        some = [self.running[slot] for slot in slots]
        ended = [_grown(text, each) for text, each in zip(some, logits, strict=True)]
        for slot, text, over in zip(slots, some, ended, strict=True):
            text.tell()
            if over:
                self._leave(slot)

    def _refuse_waiting(self):
        with self._changed:
            self._ending = True
            for text in (text for texts in self._waiting for text in texts):
                text.deliver(refused.broken())
            self._waiting.clear()

    def _refuse_all(self):
        for slot, text in list(self.running.items()):
            text.deliver(refused.broken())
            self._leave(slot)


def _grown(text, logits):
    """Whether a text has ended with the token that was drawn."""
    try:
        return text.grow(logits)
    except ValueError as error:  # the logits are no numbers
        print(error, file=sys.stderr)
    except Exception:  # a mistake of ours ends this text, and no other
        traceback.print_exc()
    text.deliver(refused.broken())
    return True
