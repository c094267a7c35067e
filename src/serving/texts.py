"""A text that is asked for: what it is made from, how far it is, and who is told of it.

It is told of by `deliver(event)`, in the thread that makes it: Pieces' Piece as it grows, and at
last an End, or a Refused.
"""

import time
import typing

import numpy as np

from ..sampling import sample_numpy
from . import drawing, pieces


class End(typing.NamedTuple):
    """How a text ended."""

    reason: str  # 'stop', or 'length' where its tokens or the window were full
    tokens: int  # that were drawn
    logprob: float  # the mean of what the model thought of them; 0 where nobody asked


class Text:
    """One text; its state is what has been drawn so far.

    Attributes:
        cancelled: set to True, from any thread, to be rid of it.
        begun, joined, first, ended: when it was asked for, when it was no longer waiting, when its
            first token was drawn, and when its last, by time.monotonic.
    """

    def __init__(self, request, prompt, number, enc, n_ctx, deliver, *, seed, ranked=False):
        """
        Args:
            request: a completions.Request.
            prompt, number: which of its prompts, and which of the texts behind that.
            seed: from 0; with `number` it decides what is drawn.
            ranked: whether its logprob is wanted.
        """
        self.prompt, self.settings = request.prompts[prompt], request.settings
        self.enc, self.deliver, self.ranked = enc, deliver, ranked
        self.cancelled, self.deadline = False, np.inf
        self.begun, self.joined, self.first, self.ended = time.monotonic(), None, None, None
        length = min(self.settings.length, n_ctx + 1 - len(self.prompt))
        self.uniforms = sample_numpy.uniforms_for(seed, [number], length)[0]
        self.tokens = np.concatenate([self.prompt, np.zeros(length)]).astype(np.int32)
        self.known, self.logprob = len(self.prompt), 0.0
        self.text = request.texts[prompt]
        logprobs = self.settings.logprobs is not None
        self.wants_prompt = bool(request.echo and self.text and logprobs)
        self.pieces = pieces.Pieces(enc, self.settings.stops, len(self.text))
        self.costs = pieces.Pieces(enc) if self.wants_prompt else None
        self._untold = []  # what `grow` has to say
        self.last = None  # the logs that predict the next token of the prompt
        if request.echo and self.text and not self.wants_prompt:
            deliver(pieces.Piece(self.text, []))

    @property
    def drawn(self):
        """How many tokens."""
        return self.known - len(self.prompt)

    @property
    def wanted(self):
        """Whether the model has to read the prompt."""
        return bool(len(self.uniforms) or self.wants_prompt)

    def read(self, begin, logits):
        """Tell what the model thought of its own prompt, a part of which it has read.

        Args:
            begin: where that part begins.
            logits: [tokens of the part, vocab], of the tokens behind each of them.
        """
        number = self.settings.logprobs
        for i, logs in enumerate(drawing.log_softmax(logits), begin):
            last = i + 1 == len(self.prompt)
            self.deliver(self.costs.add(self.prompt[i], self.last, number, last))
            self.last = logs

    def grow(self, logits):  # [vocab]
        """Draw a token, and say whether it was the last; `tell` tells of it.

        Raises ValueError: the logits are NaN.
        """
        begin, settings, drawn = len(self.prompt), self.settings, self.drawn
        if drawn == len(self.uniforms):  # of a prompt alone
            return self.end('length')
        before = self.tokens[: self.known]
        token = drawing.draw(logits, before, begin, self.uniforms[drawn], settings)
        self.tokens[self.known] = token
        self.known += 1
        self.first = self.first or time.monotonic()
        logs = None
        if self.ranked or settings.logprobs is not None:
            logs = drawing.log_softmax(logits)
            self.logprob += max(float(logs[token]), drawing.LOWEST)
        if token == settings.end:
            return self.end('stop', self.pieces.rest(token, logs, settings.logprobs))
        full = self.drawn == len(self.uniforms)
        piece = self.pieces.add(token, logs, settings.logprobs, full)
        if self.pieces.stopped or full:
            return self.end('stop' if self.pieces.stopped else 'length', piece)
        self._untold.append(piece)
        return False

    def end(self, reason, piece=None):
        self.ended = time.monotonic()
        end = End(reason, self.drawn, self.logprob / max(1, self.drawn))
        self._untold += [piece, end] if piece else [end]
        return True

    def tell(self):
        """Deliver what there is to say: when all have drawn, for who listens takes a core, too."""
        for event in self._untold:
            self.deliver(event)
        self._untold.clear()
