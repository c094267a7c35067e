"""What a request is answered where it cannot be done: OpenAI's errors, with their statuses."""

INVALID, SERVER = 'invalid_request_error', 'server_error'


class Refused(Exception):
    """Carries the error object of OpenAI's API.

    Args:
        message: what is, and what is allowed.
        param: the name in the request that it is about, or None.
        code: OpenAI's name of the mistake, or None.
        kind: what the API calls `type`.
        headers: of the answer.
    """

    def __init__(self, message, param=None, code=None, *, status=400, kind=INVALID, headers=None):
        super().__init__(message)
        self.param, self.code, self.status, self.kind = param, code, status, kind
        self.headers = headers or {}

    def json(self):
        """The body of the answer."""
        told = {'message': str(self), 'type': self.kind, 'param': self.param, 'code': self.code}
        return {'error': told}


def too_many(seconds):
    """The queue is full; Retry-After is a guess of when it will have room, in whole seconds."""
    return Refused(
        f'Too many texts are waiting; try again in {seconds} s',
        code='rate_limit_exceeded',
        status=429,
        kind='rate_limit_error',
        headers={'Retry-After': str(seconds)},
    )


def too_late(seconds):
    return Refused(
        f'The answer was not ready in {seconds:g} s, the longest that this server works on a '
        'request; ask for fewer tokens',
        code='timeout',
        status=504,
        kind=SERVER,
    )


def ending():
    return Refused(
        'The server is about to end; ask again',
        code='server_shutting_down',
        status=503,
        kind=SERVER,
        headers={'Retry-After': '1'},
    )


def broken():
    return Refused('The server made a mistake, which its log explains', status=500, kind=SERVER)
