"""OpenAI's files to a model directory.

A file is written as `<file>.part` and gets its name when it is whole: as long as the server said,
and with the sums that are known. What was cut off goes on where it ended; what is whole is left
alone.
"""

import base64
import dataclasses
import hashlib
import os
import re
import sys
import time

import requests
import tqdm

from ..command_line import flags
from . import model_directory

DATA = 'model.ckpt.data-00000-of-00001'
FILES = [
    'checkpoint',
    'encoder.json',
    'hparams.json',
    DATA,
    'model.ckpt.index',
    'model.ckpt.meta',
    'vocab.bpe',
]

# What is known of OpenAI's files. The vocabulary is in tests/vocabulary; `checkpoint` names
# model.ckpt twice; the data are the parameters as float32, in bytes.
SHA256 = {
    'checkpoint': 'dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb',
    'encoder.json': '196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783',
    'vocab.bpe': '1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5',
}
DATA_SIZES = {
    '124M': 4 * 124_439_808,
    '355M': 4 * 354_823_168,
    '774M': 4 * 774_030_080,
    '1558M': 4 * 1_557_611_200,
}
ERROR_PAGES = (b'<?xml', b'<!doc', b'<html', b'<erro')  # the beginnings of

BASE_URL = 'https://openaipublic.blob.core.windows.net/gpt-2/'
LARGEST = 2**28  # bytes of a file of an unknown model: 256 MiB, and
LARGEST_DATA = 2**35  # 32 GiB of weights
CHUNK = 2**16  # bytes: as much may be lost when a connection is cut
SIZES = ', '.join(model_directory.SIZES)
WAITS = (1, 2, 4, 8)  # seconds between attempts of which none got any further
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces


@dataclasses.dataclass(frozen=True)
class DownloadConfig:
    """Download OpenAI's models: 124M, 355M, 774M, 1558M."""

    names: list = flags.positional(metavar='NAME', nargs='*', type=str, help='A model, or several')
    models_dir: str = flags.flag('models', metavar='DIR', help='The folder of the models')
    base_url: str = flags.flag(
        BASE_URL,
        metavar='URL',
        help='Where they are: URL/models/NAME/<file>',
    )

    def __post_init__(self):
        for name in self.names:
            if name in ('', '.', '..') or name != os.path.basename(name):
                raise ValueError(f'{name!r} is not the name of a model')


class Absent(OSError):
    """The server does not have the file."""


class CutOff(OSError):
    """The connection or the server failed; another attempt may do better."""


def main():
    config = flags.parse(DownloadConfig)
    if not config.names:
        program = os.path.basename(sys.argv[0])
        print(f'You must enter the model name as a parameter, e.g.: {program} 124M')
        sys.exit(1)
    failed = False
    for name in config.names:
        try:
            download(name, config.models_dir, config.base_url)
        except OSError as error:
            print(error, file=sys.stderr)
            failed = True
    sys.exit(failed)


def download(name, models_dir, base_url):
    """Fetch the files of a model into models_dir/name; where it is unknown, under its other name.

    Raises OSError: one of them is not to be had, or cannot be written.
    """
    directory = os.path.join(models_dir, name)
    os.makedirs(directory, exist_ok=True)
    base = f'{base_url.rstrip("/")}/models'
    try:
        fetch_all(f'{base}/{name}', directory, name)
    except Absent:
        if name not in model_directory.ALIASES:
            raise
        other = model_directory.ALIASES[name]
        print(f'There is no {base}/{name}; trying its other name, {other}', file=sys.stderr)
        fetch_all(f'{base}/{other}', directory, name)
    finally:
        if not os.listdir(directory):
            os.rmdir(directory)


def fetch_all(url, directory, name):
    known_size = DATA_SIZES.get(name) or DATA_SIZES.get(model_directory.ALIASES.get(name))
    for file in FILES:
        sha256 = SHA256.get(file) if known_size else None
        size = known_size if file == DATA else None
        fetch(f'{url}/{file}', os.path.join(directory, file), sha256, size)


def fetch(url, path, sha256=None, size=None):
    """Get `url` into the file `path`, in as many attempts as get any further.

    Raises OSError: Absent where the server does not have it.
    """
    if sha256 and os.path.exists(path) and digest(path, 'sha256').hex() == sha256:
        return
    part = f'{path}.part'
    waits = iter(WAITS)
    while True:
        before = size_of(part)
        try:
            return attempt(url, path, part, sha256, size)
        except CutOff as error:
            if size_of(part) > before:
                waits = iter(WAITS)
            if (wait := next(waits, None)) is None:
                raise OSError(f'{error}. Later, the same command goes on from here') from None
            print(f'{error}; trying again in {wait} s', file=sys.stderr)
            time.sleep(wait)
        except KeyboardInterrupt:
            print(f'\n{part} is kept; the same command goes on from there', file=sys.stderr)
            raise


def attempt(url, path, part, sha256, size):
    start, headers = resumption(part)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            check_status(url, response)
            start = start if response.status_code == 206 else 0
            total, most = total_of(url, response, start), largest(path)
            if total and total > most:
                raise OSError(f'{url} would have {total} bytes; it should have {most} at most')
            if is_whole(path, total, response):
                return
            receive(response, part, start, total, most)
    except requests.exceptions.SSLError as error:
        reason = f'the certificate of the server is refused: {reason_of(error)}'
        raise OSError(f'{url}: {reason}') from None
    except requests.exceptions.ProxyError as error:
        reason = f'the proxy that https_proxy or http_proxy names fails: {reason_of(error)}'
        raise OSError(f'{url}: {reason}') from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise CutOff(f'{url} cannot be reached, or was cut off') from None
    except requests.RequestException as error:
        raise OSError(f'{url}: {error}') from None
    if total is not None and size_of(part) < total:
        raise CutOff(f'{url} was cut off after {size_of(part)} of {total} bytes')
    if problem := problem_with(part, response, sha256, size):
        forget(part)
        raise OSError(f'{url} sends {problem}; nothing of it was kept')
    os.replace(part, path)
    forget(part)


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
        raise Absent(f'There is no {url} (404); the models are {SIZES}')
    if code in (408, 429) or code >= 500:
        raise CutOff(f'{url} fails with {code} {response.reason}')
    if code not in (200, 206):
        raise OSError(f'{url} is refused: {code} {response.reason}')
    if code == 206:
        asked = re.escape(response.request.headers.get('Range', '').replace('=', ' '))
        if not re.match(asked + r'\d', response.headers.get('Content-Range', '')):
            raise OSError(f'{url} sends another part of the file than it was asked for')


def total_of(url, response, start):
    """The bytes of the whole file, or None where the server does not say."""
    length = response.headers.get('Content-Length')
    if length and not re.fullmatch('[0-9]+', length):
        raise OSError(f'{url} tells a Content-Length of {length!r}')
    return start + int(length) if length and 'Content-Encoding' not in response.headers else None


def is_whole(path, total, response):
    """Whether `path` is what the server has, as far as can be told."""
    return os.path.exists(path) and size_of(path) == total and md5_agrees(path, response)


def largest(path):
    """How many bytes a file of an unknown model may have."""
    return LARGEST_DATA if os.path.basename(path) == DATA else LARGEST


def reason_of(error):
    """The last of the errors that one was made of, in a line."""
    reason = error.args[0] if error.args else error
    return str(getattr(reason, 'reason', reason)).partition('\n')[0]


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
    with bar, open(part, 'r+b' if start else 'wb') as file:
        file.seek(start)
        for chunk in response.iter_content(CHUNK):
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise OSError(f'{part} cannot be written: {error.strerror}') from None
            bar.update(len(chunk))
            if file.tell() > most:
                break
    if size_of(part) > most:
        forget(part)
        raise OSError(f'{response.url} has more than {most} bytes; nothing of it was kept')


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
