"""The addresses of the server, and what stands behind each; docs/serving.md lists them."""

import contextlib
import dataclasses
import functools
import os
import time

from sse_starlette import sse
from starlette import concurrency
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from . import answers, cloud_run, completions, exchange, guard, metrics, refused, texts

PAGE = os.path.join(os.path.dirname(__file__), 'page')
LEFT = 499  # nginx's status for whoever did not wait for the answer
STALLED = 60  # seconds without room for the next piece of a stream, then its reader is given up
NO_CHAT = (
    'GPT-2 has no chat format: it continues texts, and was never taught whose turn it is. '
    'Use POST /v1/completions'
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What may be asked for."""

    max_tokens: int
    max_body: int  # bytes
    timeout: float  # seconds, of a request
    keys: tuple = ()  # without any, everybody may ask
    origins: tuple = ()  # of pages that may ask, for CORS


class Server:
    """A model and what is told of it."""

    def __init__(self, loaded, model_name, scheduler, limits):
        self.enc, self.hparams = loaded.encoder, loaded.lm.hparams
        self.model_name, self.scheduler, self.limits = model_name, scheduler, limits
        self.created, self.fingerprint = int(time.time()), f'fp_{scheduler.slots.fingerprint[:10]}'
        self.metrics = metrics.Metrics()
        self.metrics.watch(scheduler)

    @property
    def options(self):
        """What requests are parsed with."""
        limits = {'max_tokens': self.limits.max_tokens}
        return {'enc': self.enc, 'hparams': self.hparams, **limits}

    @property
    def told(self):
        """What answers.model tells."""
        n_ctx = self.hparams.n_ctx
        return self.model_name, self.created, n_ctx, min(self.limits.max_tokens, n_ctx)

    def admit(self, request):
        """Raise Refused where a request may not be made at all."""
        guard.require_key(request, self.limits.keys)
        guard.require_same_site(request, self.limits.origins)

    async def body(self, request):
        return await guard.json_of(request, self.limits.max_body, self.limits.timeout)

    async def begun(self, parse, *arguments, **options):
        """(what `parse` makes of a request, the Exchange that works on it)."""
        parse = functools.partial(parse, *arguments, **self.options, **options)
        wanted = await concurrency.run_in_threadpool(parse)  # a long prompt takes a while
        work = exchange.Exchange(
            wanted, self.enc, self.hparams.n_ctx, self.metrics, self.limits.timeout
        )
        self.scheduler.submit(work.texts)
        self.metrics.prompt_tokens.inc(sum(map(len, wanted.prompts)))
        return wanted, work

    async def completions(self, request):
        self.admit(request)
        guard.require_json(request)
        body = await self.body(request)
        wanted, work = await self.begun(completions.parse, body, model_name=self.model_name)
        answer = answers.Answer(wanted, self.model_name, self.fingerprint)
        if wanted.stream:
            return Stream(work, events(answer, work))
        if (pieces := await work.collected(request.receive)) is None:
            return Response(status_code=LEFT)
        return as_json(answer.whole(pieces, work.ends))

    async def front(self, request):
        """The page for browsers, and for others what gpt-2-cloud-run answers."""
        if request.method == 'HEAD':
            return as_json({'text': ''})
        page = os.path.join(PAGE, 'index.html')
        if request.method == 'GET' and 'text/html' in request.headers.get('accept', ''):
            return FileResponse(page, headers={'Vary': 'Accept', 'Cache-Control': 'no-cache'})
        self.admit(request)
        is_post = request.method == 'POST'
        parameters = await self.body(request) if is_post else dict(request.query_params)
        _, work = await self.begun(cloud_run.parse, parameters)
        if (pieces := await work.collected(request.receive)) is None:
            return Response(status_code=LEFT)
        return as_json({'text': ''.join(piece.text for piece in pieces[0])}, {'Vary': 'Accept'})

    async def models(self, request):
        self.admit(request)
        return as_json(answers.models(*self.told))

    async def model(self, request):
        self.admit(request)
        name = request.path_params['name']
        if name != self.model_name:
            raise completions.no_model(name, self.model_name)
        return as_json(answers.model(*self.told))

    async def chat(self, request):
        raise refused.Refused(NO_CHAT, 'messages', 'unsupported_endpoint', status=404)

    async def health(self, request):
        return as_json({'status': 'ok'})

    async def ready(self, request):
        if not self.scheduler.ready.is_set():
            return as_json({'status': 'compiling'}, {'Retry-After': '5'}, 503)
        return as_json({'status': 'ready'})

    async def numbers(self, request):
        guard.require_key(request, self.limits.keys)
        told, kind = self.metrics.text()
        return Response(told, media_type=kind)


class Stream(sse.EventSourceResponse):
    """Events, after which an Exchange is closed, even if they were never asked for."""

    def __init__(self, work, content):
        super().__init__(content, sep='\n', send_timeout=STALLED)
        self._work = work

    async def __call__(self, scope, receive, send):
        try:
            with contextlib.suppress(sse.SendTimeoutError):
                await super().__call__(scope, receive, send)
        finally:
            self._work.close()


async def events(answer, work):
    """The events of a stream, as OpenAI's API has them."""
    try:
        async for index, event in work.told():
            if isinstance(event, texts.End):
                yield sse_of(answer.chunk(index, reason=event.reason))
            elif event.text or event.entries:
                yield sse_of(answer.chunk(index, event))
    except refused.Refused as error:  # too late for another status
        yield sse_of(error.json())
        return
    if answer.request.include_usage:
        yield sse_of(answer.last_chunk(work.ends))
    yield {'data': '[DONE]'}


def sse_of(value):
    return {'data': answers.text(value)}


def as_json(value, headers=None, status=200):
    return Response(answers.text(value), status, headers, 'application/json')


def made(server):
    """The application of a Server, which starts and ends its scheduler."""
    routes = [
        Route('/v1/completions', server.completions, methods=['POST']),
        Route('/v1/chat/completions', server.chat, methods=['POST']),
        Route('/v1/models', server.models),
        Route('/v1/models/{name:path}', server.model),
        Route('/', server.front, methods=['GET', 'POST']),
        Route('/healthz', server.health),
        Route('/readyz', server.ready),
        Route('/metrics', server.numbers),
        Mount('/page', StaticFiles(directory=PAGE)),
    ]
    paths = {route.path for route in routes if isinstance(route, Route)}
    middleware = [Middleware(guard.Guard, metrics=server.metrics, paths=paths)]
    if server.limits.origins:
        options = {'allow_origins': server.limits.origins, 'allow_headers': ['*']}
        middleware.append(Middleware(CORSMiddleware, allow_methods=['GET', 'POST'], **options))
    middleware.append(Middleware(guard.Mistakes))  # inside, so that both see what it answers

    @contextlib.asynccontextmanager
    async def lifespan(app):
        server.scheduler.start()
        yield
        await concurrency.run_in_threadpool(server.scheduler.end)

    handlers = {
        refused.Refused: lambda request, error: guard.answer(error),
        HTTPException: guard.on_http_exception,
        ClientDisconnect: lambda request, error: Response(status_code=LEFT),
    }
    return Starlette(
        routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan
    )
