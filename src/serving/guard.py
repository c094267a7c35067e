"""What holds for every answer: headers, keys, the size of a body, and errors in JSON."""

import hmac
import json
import traceback

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .refused import Refused, broken

PATIENCE = 20  # seconds for a body; while one comes, the server does not end
HEADERS = {
    'Content-Security-Policy': (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}


class Guard:
    """ASGI middleware: the headers, and a count of answers."""

    def __init__(self, app, metrics, paths):
        """paths: those that are counted by their name."""
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope, receive, send):
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return

        async def guarded(message):
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(raw=message['headers'])
                for name, value in {**HEADERS, 'Cache-Control': 'no-store'}.items():
                    headers.setdefault(name, value)
                path = scope['path'] if scope['path'] in self.paths else 'other'
                self.metrics.requests.labels(path, message['status']).inc()
            await send(message)

        await self.app(scope, receive, guarded)


class Mistakes:
    """ASGI middleware: what nobody expected is answered with 500, and told in the log."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        begun = False

        async def noted(message):
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            if begun or scope['type'] != 'http':
                raise
            traceback.print_exc()
            await answer(broken())(scope, receive, send)


def require_key(request, keys):
    """Raise Refused unless a request has one of the keys, or there are none."""
    if not keys:
        return
    scheme, _, given = request.headers.get('authorization', '').partition(' ')
    given = given.encode('latin-1')  # the bytes that were sent
    right = [hmac.compare_digest(given, key.encode()) for key in keys]  # all, always
    if scheme.lower() != 'bearer' or not given:
        raise Refused(
            'This server wants a key; send it in the header "Authorization: Bearer KEY"',
            code='invalid_api_key',
            status=401,
            headers={'WWW-Authenticate': 'Bearer'},
        )
    if not any(right):
        raise Refused(
            'Incorrect API key provided',
            code='invalid_api_key',
            status=401,
            headers={'WWW-Authenticate': 'Bearer'},
        )


def require_same_site(request, origins):
    """Raise Refused where a browser asks for a page of another site, but for those `origins`."""
    cross_site = request.headers.get('sec-fetch-site') == 'cross-site'
    if cross_site and not {'*', request.headers.get('origin')}.intersection(origins):
        raise Refused('Pages of other sites may not ask this server', status=403)


def require_json(request):
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind != 'application/json':
        raise Refused(
            'The body must be JSON, with the header "Content-Type: application/json"', status=415
        )


async def json_of(request, limit, seconds):
    """What the JSON in a body is.

    Raises Refused: it is no JSON, has more than `limit` bytes, or did not come in time.
    """
    seconds = min(seconds, PATIENCE)
    try:
        with anyio.fail_after(seconds):
            body = await _body(request, limit)
    except TimeoutError:
        raise Refused(f'The body did not come in {seconds:g} s', status=408) from None

    def no_number(name):
        raise ValueError(f'{name} is not a number of JSON')

    try:
        return json.loads(body, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f'The body is not JSON: {error}') from None


async def _body(request, limit):
    large = Refused(
        f'The body is too large; {limit} bytes are allowed',
        status=413,
        headers={'Connection': 'close'},
    )
    declared = request.headers.get('content-length', '0')
    if declared.isdecimal() and int(declared) > limit:
        raise large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise large
    return bytes(body)


def answer(error):
    """The response for a Refused."""
    content = json.dumps(error.json())  # in ASCII: what was sent may have halves of characters
    return Response(content, error.status, error.headers, 'application/json')


def on_http_exception(request, error):
    """The same for what Starlette has no route for."""
    address = f'{request.method} {request.url.path}'
    told = {
        404: f'Invalid URL ({address})',
        405: f'Not allowed: {address}; allowed is {(error.headers or {}).get("Allow", "GET")}',
    }
    assert isinstance(error, HTTPException)
    message = told.get(error.status_code, error.detail)
    return answer(Refused(message, status=error.status_code, headers=error.headers))
