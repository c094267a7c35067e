"""Files, folders and patterns to text, block by block: a file may be larger than the memory."""

import codecs
import contextlib
import glob
import gzip
import io
import os
import zipfile
import zlib

import charset_normalizer
import tqdm.utils

BLOCK = 2**20  # bytes read at once
NEAR = BLOCK // 32  # bytes on each side of one that is wrong, from which its encoding is guessed


def files_of(path):
    """The paths of the files that `path` means, sorted.

    Of a folder, files and folders whose names begin with a dot are left out.

    Raises ValueError: there are none.
    """
    if os.path.isdir(path):
        paths = []
        for directory, directories, names in os.walk(path):
            directories[:] = [name for name in directories if not name.startswith('.')]
            paths += [os.path.join(directory, name) for name in names if name[0] != '.']
    elif os.path.exists(path):
        paths = [path]
    else:
        paths = [p for match in glob.glob(path, recursive=True) for p in files_of(match)]
    if not paths:
        raise ValueError(f'There is no text at {path}: no such file or pattern, or no files in it')
    return sorted(set(paths))


def require_encoding(encoding):
    """Raise ValueError where Python does not know this encoding of text."""
    try:
        'text'.encode(encoding)
    except (LookupError, UnicodeError):
        raise ValueError(
            f'There is no encoding {encoding!r} for text; utf-8, utf-16, gb18030, shift_jis and '
            'latin-1 are some that Python knows'
        ) from None


def texts_of(path, encoding, progress):
    """(name, its text in blocks) for each text in a file, to be used up in turn.

    Most files are one text. A .gz has the name of what is in it; a .zip is read as a folder is, and
    the name of a member begins with the path of the .zip. Line ends become '\\n', and a byte order
    mark at the beginning is no text.

    Args:
        progress: its `update` is told how many bytes of the file have been read.

    Raises ValueError: not text in that encoding, or a damaged archive; the message names the file.
    """
    with open(path, 'rb') as file:
        file = tqdm.utils.CallbackIOWrapper(progress.update, file, 'read')
        if path.lower().endswith('.zip'):
            for name, member in _members(path, file):
                yield name, read_text(name, member, encoding)
        elif path.lower().endswith('.gz'):
            yield path[:-3], read_text(path, gzip.GzipFile(fileobj=file), encoding)
        else:
            yield path, read_text(path, file, encoding)


def _members(path, file):
    """(name, an open file) for each file in a .zip that is not hidden, in the order of names."""
    with _unpacking(path):
        archive = zipfile.ZipFile(file)
    for member in sorted(archive.infolist(), key=lambda member: member.filename):
        hidden = any(part.startswith('.') for part in member.filename.split('/'))
        if not member.is_dir() and not hidden:
            name = f'{path}/{member.filename}'
            with _unpacking(name):
                opened = archive.open(member)
            with opened:
                yield name, opened


@contextlib.contextmanager
def _unpacking(name):
    """Tell in one line what keeps an archive from being unpacked."""
    try:
        yield
    except (  # NotImplementedError and RuntimeError: how it was packed, or a password
        EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError
    ) as error:  # fmt: skip
        raise ValueError(f'{name} cannot be unpacked: {error}') from None


def read_text(name, file, encoding):
    """The text of an open file in blocks, with its line ends as '\\n'; errors call it `name`."""
    if codecs.lookup(encoding).name == 'utf-8':
        codec = codecs.getincrementaldecoder('utf-8-sig')
    else:
        codec = codecs.getincrementaldecoder(encoding)
    decoder = io.IncrementalNewlineDecoder(codec(), translate=True)
    read = 0
    while True:
        with _unpacking(name):
            block = file.read(BLOCK)
        read += len(block)
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise ValueError(_not_in(encoding, name, error, read)) from None
        if not block:
            return


def _not_in(encoding, name, error, read):
    """What to say when the last of the `read` bytes of a file could not be decoded."""
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 without a byte order mark, for one
        return f'{name} is not {encoding}: {error}'
    offset = read - len(error.object) + error.start
    problem = f'{name}: byte 0x{error.object[error.start]:02x} at {offset} is not {encoding}'
    around = error.object[max(0, error.start - NEAR) : error.start + NEAR]
    if error.start > NEAR:  # the first line may begin inside a character
        around = around.partition(b'\n')[2] or around
    best = charset_normalizer.from_bytes(around).best()
    if best is None or best.encoding == encoding.replace('-', '_'):
        return f'{problem}. If it is text, name its encoding: --encoding'
    return f'{problem}. It may be --encoding {best.encoding}'
