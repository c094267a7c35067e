"""A file over HTTP, in as many attempts as get any further.

It is written as `<file>.part` and gets its name when it is whole: as long as the server said, and
with the sums that are known. What was cut off goes on where it ended; what is whole is left alone.
"""

import base64
import contextlib
import hashlib
import os
import re
import ssl
import sys
import time

import requests
import tqdm

ERROR_PAGES = (b'<?xml', b'<!doc', b'<html', b'<erro')  # the beginnings of
CHUNK = 2**16  # bytes: as much may be lost when a connection is cut
WAITS = (1, 2, 4, 8)  # seconds between attempts of which none got any further
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces


class ServerError(OSError):
    """It is the server's fault, or that of the way to it; another one may have the file."""


class Absent(ServerError):
    """The server does not have the file."""


class Refused(ServerError):
    """The server has it for others: 401 or 403."""


class CutOff(ServerError):
    """The connection or the server failed; another attempt may do better."""


def fetch(url, path, most, sha256=None, size=None, token=None):
    """Get `url` into the file `path`, in as many attempts as get any further.

    Args:
        most: bytes; of a longer file nothing is kept.
        sha256, size: of the file, where they are known.
        token: who asks, for servers that want to know it.

    Raises OSError: ServerError where another server may have it, or it cannot be written.
    """
    if sha256 and os.path.exists(path) and digest(path, 'sha256').hex() == sha256:
        return
    part = f'{path}.part'
    waits = iter(WAITS)
    while True:
        before = size_of(part)
        try:
            return attempt(url, path, part, most, sha256, size, token)
        except CutOff as error:
            if size_of(part) > before:
                waits = iter(WAITS)
            if (wait := next(waits, None)) is None:
                raise CutOff(f'{error}. Later, the same command goes on from here') from None
            print(f'{error}; trying again in {wait} s', file=sys.stderr)
            time.sleep(wait)
        except KeyboardInterrupt:
            print(f'\n{part} is kept; the same command goes on from there', file=sys.stderr)
            raise


def attempt(url, path, part, most, sha256, size, token):
    start, headers = resumption(part)
    if token:  # requests sends it to this server alone, wherever that one sends us
        headers['Authorization'] = f'Bearer {token}'
    with connected(url, headers) as response:
        check_status(url, response)
        start = start if response.status_code == 206 else 0
        total = total_of(url, response, start)
        if total and total > most:
            raise ServerError(f'{url} would have {total} bytes; it should have {most} at most')
        if not sha256 and is_whole(path, total, response):
            return
        receive(response, part, start, total, most)
    if total is not None and size_of(part) < total:
        raise CutOff(f'{url} was cut off after {size_of(part)} of {total} bytes')
    if problem := problem_with(part, response, sha256, size):
        forget(part)
        raise ServerError(f'{url} sends {problem}; nothing of it was kept')
    os.replace(part, path)
    forget(part)


@contextlib.contextmanager
def connected(url, headers):
    """A response whose content is still to come; what fails until it is closed is told.

    Raises OSError: CutOff where another attempt may do better.
    """
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            yield response
    except requests.exceptions.SSLError as error:
        raise of_tls(url, cause_of(error)) from None
    except requests.exceptions.ProxyError as error:
        raise of_proxy(url, cause_of(error)) from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise CutOff(f'{url} cannot be reached, or was cut off') from None
    except requests.RequestException as error:
        raise ServerError(f'{url}: {error}') from None


def cause_of(error):
    """The innermost of the errors that requests and urllib3 put around one another."""
    inside = [getattr(error, name, None) for name in ('original_error', 'reason')]
    for inner in (*inside, *error.args):
        if isinstance(inner, Exception):
            return cause_of(inner)
    return error


def of_tls(url, cause):
    """The error of a connection that should have been encrypted."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ServerError(
            f'{url}: the certificate of the server is refused: {cause.verify_message}. Where a '
            'proxy puts its own in the place of it, name the file of that: REQUESTS_CA_BUNDLE'
        )
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return CutOff(f'{url} cannot be reached, or was cut off')
    reason = getattr(cause, 'reason', None) or cause
    return CutOff(f'{url}: no encrypted connection to the server: {first_line(reason)}')


def of_proxy(url, cause):
    reason = first_line(cause)
    advice = '; its address has room for both: http://USER:PASSWORD@HOST' if '407' in reason else ''
    return OSError(f'{url}: the proxy that https_proxy or http_proxy names fails: {reason}{advice}')


def first_line(error):
    return str(error).partition('\n')[0]


def resumption(part):
    """From which byte to go on, and the headers that ask for it.

    The last byte that is there is asked for again, because a range that begins behind the end of a
    file is an error. If-Range makes the server begin anew where the file has changed since.
    """
    headers = {'Accept-Encoding': 'identity'}
    if not size_of(part) or not os.path.exists(f'{part}.etag'):
        return 0, headers
    start = size_of(part) - 1
    with open(f'{part}.etag', encoding='latin-1') as file:
        return start, {**headers, 'Range': f'bytes={start}-', 'If-Range': file.read()}


def check_status(url, response):
    code = response.status_code
    if code == 404:
        raise Absent(f'There is no {url} (404)')
    if code == 407:
        raise of_proxy(url, f'{code} {response.reason}')
    if code in (408, 429) or code >= 500:
        raise CutOff(f'{url} fails with {code} {response.reason}')
    if code not in (200, 206):
        kind = Refused if code in (401, 403) else ServerError
        raise kind(f'{url} is refused: {code} {response.reason}')
    if code == 206:
        asked = re.escape(response.request.headers.get('Range', '').replace('=', ' '))
        if not re.match(asked + r'\d', response.headers.get('Content-Range', '')):
            raise ServerError(f'{url} sends another part of the file than it was asked for')


def total_of(url, response, start):
    """The bytes of the whole file, or None where the server does not say."""
    length = response.headers.get('Content-Length')
    if length and not re.fullmatch('[0-9]+', length):
        raise ServerError(f'{url} tells a Content-Length of {length!r}')
    return start + int(length) if length and 'Content-Encoding' not in response.headers else None


def is_whole(path, total, response):
    """Whether `path` is what the server has, as far as can be told."""
    return os.path.exists(path) and size_of(path) == total and md5_agrees(path, response)


def receive(response, part, start, total, most):
    """Write what comes behind the first `start` bytes of `part`, up to `most`."""
    if not start:
        forget(part)
    etag = response.headers.get('ETag', '')
    if etag and not etag.startswith('W/'):  # a weak one does not promise the same bytes
        with open(f'{part}.etag', 'w', encoding='latin-1') as file:
            file.write(etag)
    name = os.path.basename(part).removesuffix('.part')
    options = {'ncols': 100, 'unit': 'B', 'unit_scale': True}
    bar = tqdm.tqdm(desc=f'Fetching {name}', total=total, initial=start, **options)
    try:
        with bar, open(part, 'r+b' if start else 'wb') as file:
            file.seek(start)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
                if file.tell() > most:
                    break
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise OSError(f'{part} cannot be written: {error.strerror}') from None
    if size_of(part) > most:
        forget(part)
        raise ServerError(f'{response.url} has more than {most} bytes; nothing of it was kept')


def problem_with(part, response, sha256, size):
    """What is wrong with a file that has arrived; None where nothing is."""
    with open(part, 'rb') as file:
        if file.read(5).lower() in ERROR_PAGES:
            return 'an error page instead of the file'
    if size and size_of(part) != size:
        return f'{size_of(part)} bytes instead of {size}'
    if sha256 and digest(part, 'sha256').hex() != sha256:
        return f'a file whose sha256 is not {sha256}'
    if not md5_agrees(part, response):
        return 'a file whose MD5 is not the one that it told'
    return None


def md5_agrees(path, response):
    """Whether the file has the sum that Azure tells of the whole file, where it tells one."""
    told = response.headers.get('x-ms-blob-content-md5')
    if response.status_code == 200:  # where a range is sent, this is the sum of the range
        told = told or response.headers.get('Content-MD5')
    return told is None or base64.b64encode(digest(path, 'md5')).decode() == told


def digest(path, algorithm):
    sum_ = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            sum_.update(block)
    return sum_.digest()


def size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def forget(part):
    for path in (part, f'{part}.etag'):
        if os.path.exists(path):
            os.remove(path)
