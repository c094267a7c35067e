"""Give a model to others: gpt2 serve --model_name M."""

import dataclasses
import errno
import logging
import math
import os
import signal
import socket
import sys
import threading

from ..command_line import flags, invocation
from ..model_files import model_directory
from ..sampling import backends, generation, litert, litert_slots

INSTALLATION = 'pip install ".[serve]"'
if invocation.PACKAGE == 'src':  # a checkout, which knows the versions
    INSTALLATION = 'pip install -r requirements-serve.txt'

PORT, KEY = 'PORT', 'GPT2_API_KEY'  # in the environment
LAST_PORT = 65535
ENOUGH = 10  # seconds for a step, which cannot be interrupted
LOOPBACK = ('127.0.0.1', 'localhost', '::1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeConfig(model_directory.ModelConfig):
    """Give a model to others: by OpenAI's API at /v1, gpt-2-cloud-run's at /, and a page."""

    adapters: str = flags.flag(
        '', metavar='FILE', help='A model-N.adapters.npz of train.py --lora_rank'
    )
    engine: str = flags.flag(
        'auto',
        choices=backends.ENGINES,
        help='What computes; both work on many texts at once',
    )
    dtype: str = flags.flag(None, choices=backends.DTYPES, help='Of the weights')
    host: str = flags.flag(
        '127.0.0.1', metavar='ADDRESS', help='Who may come: only this machine, or 0.0.0.0 for all'
    )
    port: int = flags.flag(
        None, least=0, help=f'0 takes any; without it, {PORT} of the environment, or 8080'
    )
    batch_size: int = flags.flag(
        8, least=1, help='Texts that are worked on at once; each keeps room for a whole window'
    )
    queue: int = flags.flag(64, least=1, help='Texts that may wait; then others are told to wait')
    max_tokens: int = flags.flag(
        None, least=1, help='The most that a request may ask for; without it, what the window holds'
    )
    max_body: int = flags.flag(2**22, least=1, help='Bytes of a request')
    timeout: float = flags.flag(600.0, least=1e-3, help='Seconds for a request')
    drain: float = flags.flag(
        30.0, least=0, help='Seconds for the texts that are not done when it is told to end'
    )
    api_key_file: str = flags.flag(
        '', metavar='FILE', help=f'Keys, one a line; without it, {KEY} of the environment'
    )
    allow_origin: str = flags.flag(
        '', metavar='ORIGIN', help='Sites whose pages may ask, with commas between them, or *'
    )

    def __post_init__(self):
        flags.check(self)
        if self.port is not None and self.port > LAST_PORT:
            raise ValueError(f'--port is {self.port}; it must be {LAST_PORT} or less')
        if math.isinf(self.drain):
            raise ValueError('--drain is inf; give a number of seconds')


def main():
    serve(flags.parse(ServeConfig))


def serve(config):
    """Serve a model until SIGTERM or Ctrl-C, and then what has been begun.

    Raises:
        ValueError: no such model, files that do not fit together, packages that are missing.
        OSError: a file cannot be read, or the address is taken.
    """
    try:
        import uvicorn
        from sse_starlette import sse

        from . import app, scheduler
    except ImportError as error:
        raise ValueError(f'{error.name} is missing, which serving needs: {INSTALLATION}') from None
    keys = keys_of(config)
    with listening(config) as listener:
        loaded = generation.load(
            config.model_name,
            config.models_dir,
            config.adapters or None,
            config.engine,
            config.dtype,
        )
        with backends.enough_memory():
            slots = slots_of(loaded.lm, config.batch_size)
        work = scheduler.Scheduler(
            slots,
            config.queue,
            on_failure=lambda: setattr(server, 'should_exit', True),
        )
        limits = app.Limits(
            max_tokens=config.max_tokens or loaded.lm.hparams.n_ctx,
            max_body=config.max_body,
            timeout=config.timeout,
            keys=keys,
            origins=tuple(filter(None, map(str.strip, config.allow_origin.split(',')))),
        )
        name = os.path.basename(os.path.normpath(config.model_name))
        served = app.made(app.Server(loaded, name, work, limits))
        # Addresses have prompts in them, so that there is no log of these.
        options = {'log_level': 'warning', 'access_log': False, 'server_header': False}
        longest = round(config.drain) + ENOUGH
        server = uvicorn.Server(
            uvicorn.Config(served, timeout_graceful_shutdown=longest, **options)
        )
        logging.getLogger('asyncio').setLevel(logging.ERROR)  # that somebody leaves is no news
        sse.AppStatus.disable_automatic_graceful_drain()  # streams are finished, not cut
        tell(config, listener, name, keys)
        drain(server, work, config.drain)
        try:
            server.run(sockets=[listener])
        finally:
            work.stop()
            work.end(ENOUGH)
        if work.failed:
            raise work.failed


def slots_of(lm, rows):
    """What a Scheduler works with, for a model."""
    if isinstance(lm, litert.LiteRT):
        return litert_slots.Slots(lm, rows)
    from . import slots

    return slots.Slots(lm, rows)


def listening(config):
    """A socket that accepts connections already; they wait until the model is loaded."""
    port = port_of(config)
    family = socket.AF_INET6 if ':' in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, port), family=family)
    except OSError as error:
        wrong = '--port' if error.errno in (errno.EADDRINUSE, errno.EACCES) else '--host'
        reason = error.strerror.partition(' (while')[0]  # create_server says the address again
        raise OSError(
            f'Nothing can listen at {config.host}:{port}: {reason}. Give another {wrong}'
        ) from None


def port_of(config):
    if config.port is not None:
        return config.port
    port = os.environ.get(PORT) or '8080'
    if not (port.isascii() and port.isdecimal() and int(port) <= LAST_PORT):
        raise ValueError(f'{PORT} in the environment is {port!r}; it must be 0 to {LAST_PORT}')
    return int(port)


def keys_of(config):
    """The keys that are accepted, a tuple; none lets everybody in."""
    if not config.api_key_file:
        return tuple(filter(None, [os.environ.get(KEY, '').strip()]))
    try:
        with open(config.api_key_file, encoding='utf-8-sig') as file:
            keys = tuple(filter(None, map(str.strip, file)))
    except UnicodeDecodeError:
        raise ValueError(f'{config.api_key_file} is not UTF-8; keys are a text') from None
    if not keys:
        raise ValueError(f'{config.api_key_file} has no key; it should have one a line')
    return keys


def tell(config, listener, name, keys):
    host = f'[{config.host}]' if ':' in config.host else config.host
    print(f'Serving {name} at http://{host}:{listener.getsockname()[1]}/', file=sys.stderr)
    if config.host not in LOOPBACK and not keys:
        print(
            f'Everybody who reaches this machine can use it: give keys, in --api_key_file or {KEY}',
            file=sys.stderr,
        )


def drain(server, work, seconds):
    """What a signal does to a uvicorn.Server: texts are finished for some seconds, then refused.

    A second signal refuses them at once, and a third is uvicorn's, which cuts the connections.
    """
    handle_exit = server.handle_exit

    def begin(number, frame):
        if server.should_exit and not work.stopped:
            work.stop()
            return
        again = server.should_exit
        handle_exit(number, frame)
        if again:
            return
        timer = threading.Timer(seconds, work.stop)
        timer.daemon = True
        timer.start()
        if texts := len(work.running) + work.waiting:
            print(
                f'Ending when {texts} texts are done, in {seconds:g} s at most. '
                'Ctrl-C ends at once',
                file=sys.stderr,
            )

    server.handle_exit = begin
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it anew when all is done
