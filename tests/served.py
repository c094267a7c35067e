"""What the tests of the server share: slots without a model, and texts that are asked for."""

import asyncio
import contextlib
import json
import threading
import time
import types

import httpx
import numpy as np

from src import model
from src.serving import app, completions, refused, scheduler, texts

WAIT = 60  # seconds, the end of every wait
LIMITS = {'max_tokens': 100, 'max_body': 10_000, 'timeout': WAIT}


class Alphabet:
    """Slots in which each token is followed by the next of the vocabulary: a by b.

    It counts what it is asked for, and where `permits` is set, waits for one at each step.
    """

    piece, pieces = 4, 1
    fingerprint = '0123456789abcdef'

    def __init__(self, rows=2, n_vocab=97, n_ctx=32):
        self.hparams = model.HParams(n_vocab=n_vocab, n_ctx=n_ctx)
        self.rows, self.length, self.tokens = rows, [0] * rows, [None] * rows
        self.log, self.permits, self.wrong = [], None, None

    def warm_up(self):
        if self.wrong:
            raise self.wrong

    def clear(self, slot):
        self.length[slot] = 0

    def copy(self, source, slots, length):
        assert length <= self.length[source]
        for slot in slots:
            assert not self.length[slot]
            self.log.append(('copy', source, slot))
            self.length[slot] = length

    def read(self, some):
        assert len(some) <= self.pieces
        return [self._read(*each) for each in some]

    def _read(self, slot, tokens, wanted):
        assert 0 < len(tokens) <= self.piece
        self.log.append(('read', slot, len(tokens)))
        self.length[slot] += len(tokens)
        return np.stack([self.behind(token) for token in tokens])[len(tokens) - wanted :]

    def step(self, slots, tokens):
        if self.permits:
            assert self.permits.acquire(timeout=WAIT)
        if self.wrong:
            wrong, self.wrong = self.wrong, None
            raise wrong
        self.log.append(('step', *slots))
        for slot in slots:
            self.length[slot] += 1
            assert self.length[slot] <= self.hparams.n_ctx
        return np.stack([self.behind(token) for token in tokens])

    def behind(self, token):  # -> [vocab]
        if token == self.tokens[0]:
            return np.full(self.hparams.n_vocab, np.nan, np.float32)
        logits = np.zeros(self.hparams.n_vocab, np.float32)
        logits[(token + 1) % self.hparams.n_vocab] = 50
        return logits


class Asked:
    """Texts of one request, and what they told."""

    def __init__(self, letters, prompts, n_ctx=32, timeout=WAIT, **options):
        given = {'model': 'm', 'prompt': prompts, **options}
        hparams = model.HParams(n_vocab=97, n_ctx=n_ctx)
        self.request = completions.parse(
            given, enc=letters, hparams=hparams, model_name='m', max_tokens=10**6
        )
        self.changed, self.pieces, self.ends, self.errors = threading.Condition(), {}, {}, {}
        self.texts = []
        request = self.request
        for number in range(len(request.prompts) * request.best_of):
            index, each = divmod(number, request.best_of)
            text = texts.Text(
                request, index, each, letters, n_ctx,
                lambda event, number=number: self.told(number, event), seed=request.seed,
            )  # fmt: skip
            text.deadline = text.begun + timeout
            self.texts.append(text)

    def told(self, number, event):
        with self.changed:
            if isinstance(event, texts.End):
                self.ends[number] = event
            elif isinstance(event, refused.Refused):
                self.errors[number] = event
            else:
                self.pieces.setdefault(number, []).append(event)
            self.changed.notify_all()

    def wait(self, what):
        """Until `what(self)` is true."""
        with self.changed:
            assert self.changed.wait_for(lambda: what(self), WAIT), (self.pieces, self.errors)
        return self

    def done(self):
        return self.wait(lambda asked: len(asked.ends) + len(asked.errors) == len(self.texts))

    @property
    def text(self):
        return [''.join(p.text for p in self.pieces.get(i, [])) for i in range(len(self.texts))]

    @property
    def entries(self):
        return [
            [e for p in self.pieces.get(i, []) for e in p.entries] for i in range(len(self.texts))
        ]


@contextlib.contextmanager
def started(some, queue=8):
    """A Scheduler of some slots, which ends in the end."""
    begun = scheduler.Scheduler(some, queue)
    begun.start()
    try:
        yield begun
    finally:
        some.permits = None
        begun.end(WAIT)


def until(what):
    """Wait until `what()` is true."""
    for _ in range(WAIT * 100):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError(what)


@contextlib.asynccontextmanager
async def client_of(letters, slots=None, queue=8, **limits):
    """A client of a server that is started in this process; `server` is an attribute of it."""
    slots = slots or Alphabet()
    work = scheduler.Scheduler(slots, queue)
    loaded = types.SimpleNamespace(encoder=letters, lm=slots)
    server = app.Server(loaded, 'alphabet', work, app.Limits(**{**LIMITS, **limits}))
    application = app.made(server)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url='http://test', timeout=WAIT) as client,
    ):
        client.server = server
        try:
            yield client
        finally:
            slots.permits = None


def asked(letters, *requests, slots=None, **limits):
    """The answers to requests, one after the other: (method, address, what httpx is given)."""

    async def ask():
        async with client_of(letters, slots, **limits) as client:
            return [await client.request(*each, **more) for *each, more in requests]

    return asyncio.run(ask())


def completed(letters, *bodies, slots=None, **limits):
    bodies = [{'model': 'alphabet', 'prompt': 'A', **body} for body in bodies]
    requests = [('POST', '/v1/completions', {'json': body}) for body in bodies]
    return asked(letters, *requests, slots=slots, **limits)


def told(response):
    """The events of a stream."""
    assert response.headers['content-type'].startswith('text/event-stream')
    *data, done = [line[6:] for line in response.text.splitlines() if line.startswith('data: ')]
    return [json.loads(each) for each in data] + [json.loads(done) if done != '[DONE]' else done]
