"""Files, folders and patterns to text, block by block: a file may be larger than the memory."""

import codecs
import contextlib
import glob
import gzip
import io
import os
import sys
import zipfile

import tqdm.utils

from ..command_line import escaping
from . import foreign_bytes

BLOCK = 2**20  # bytes read at once
FEW = 3  # of what is left out, named


def files_of(path):
    """The paths of the files that `path` means, sorted; what is left out is named on stderr.

    Raises:
        ValueError: there are none.
        OSError: a folder cannot be read.
    """
    paths, links = found(path)
    if links:
        few = ', '.join(map(shown, links[:FEW])) + ' …' * (len(links) > FEW)
        print(f'Links to folders are left out: {few}. To read one, name it itself', file=sys.stderr)
    if not paths:
        raise ValueError(
            f'There is no text at {shown(path)}: no such file or pattern, or no files in it'
        )
    return paths


def found(path):
    """The paths of the files that `path` means, and those of links to folders in it, sorted.

    What is there is taken as it is, and only else as a pattern. Of a folder, files and folders
    whose names begin with a dot are left out.
    """
    paths, links = [], []
    if os.path.isdir(path):
        for directory, directories, names in os.walk(path, onerror=_raise):
            directories[:] = [name for name in directories if not name.startswith('.')]
            inside = [os.path.join(directory, name) for name in directories]
            links += filter(os.path.islink, inside)
            paths += [os.path.join(directory, name) for name in names if name[0] != '.']
    elif os.path.lexists(path):
        paths = [path]
    else:
        for match in glob.glob(_with_folders_as_they_are(path), recursive=True):
            some, others = found(match)
            paths, links = paths + some, links + others
    return sorted(set(paths)), sorted(set(links))


def _raise(error):
    raise error


def _with_folders_as_they_are(pattern):
    """'a [b]/[cd]*' -> 'a [[]b]/[cd]*', where there is a folder `a [b]`."""
    folder, rest = pattern, None
    while folder and not os.path.lexists(folder):
        folder, name = os.path.split(folder)
        rest = name if rest is None else os.path.join(name, rest)
    return os.path.join(glob.escape(folder), rest) if folder else pattern


def shown(name):
    """A name in one line, in which nothing gives a terminal orders."""
    return escaping.printable(name).replace('\n', '\\n')


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
    the name of a member begins with the path of the .zip. Names are as they can be shown. Line ends
    become '\\n', and a byte order mark at the beginning is no text.

    Args:
        progress: its `update` is told how many bytes of the file have been read.

    Raises:
        ValueError: not text in that encoding, or a damaged archive; the message names the file.
        OSError: it cannot be read.
    """
    with open(path, 'rb') as file:
        file = tqdm.utils.CallbackIOWrapper(progress.update, file, 'read')
        whole = shown(path)
        if path.lower().endswith('.zip'):
            for name, member in _members(whole, file):
                yield name, read_text(name, member, encoding)
        elif path.lower().endswith('.gz'):
            yield whole[:-3], read_text(whole, gzip.GzipFile(fileobj=file), encoding)
        else:
            yield whole, read_text(whole, file, encoding)


def _members(path, file):
    """(name, an open file) for each file in a .zip that is not hidden, in the order of names."""
    with _reading(path):
        archive = zipfile.ZipFile(file)
    for member in sorted(archive.infolist(), key=lambda member: member.filename):
        hidden = any(part.startswith('.') for part in member.filename.split('/'))
        if not member.is_dir() and not hidden:
            name = f'{path}/{shown(member.filename)}'
            with _reading(name):
                opened = archive.open(member)
            with opened:
                yield name, opened


@contextlib.contextmanager
def _reading(name):
    """Tell in one line, with the name, what keeps a file from being read, or unpacked.

    A damaged archive may raise nearly anything, in zipfile and in what it calls.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, error.filename or name) from None
        raise ValueError(f'{name} cannot be unpacked: {shown(str(error))}') from None


def read_text(name, file, encoding):
    """The text of an open file in blocks, with its line ends as '\\n'; errors call it `name`.

    A single NUL character is read, as the originals did; more of them are no text.
    """
    codec = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder('utf-8-sig' if codec == 'utf-8' else encoding)()
    decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
    begun = codec in ('utf-8', 'utf-8-sig', 'utf-16', 'utf-32')  # which know the mark themselves
    head, read, lines, nuls = b'', 0, 0, 0
    while True:
        with _reading(name):
            block = file.read(BLOCK)
        head += block[: foreign_bytes.HEAD - len(head)]
        read += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise ValueError(_not_in(encoding, name, error, read, head)) from None
        if '\0' in text:
            nuls += text.count('\0')
            kind = foreign_bytes.kind_of(head)
            if kind or nuls > 1:
                line = lines + text[: text.index('\0')].count('\n') + 1
                kind = kind or 'damaged, or no text'
                raise ValueError(f'{name} has NUL characters, in line {line}. It is {kind}')
        lines += text.count('\n')
        yield text if begun else text.removeprefix('\ufeff')
        begun = begun or bool(text)
        if not block:
            break
    if nuls:
        tqdm.tqdm.write(f'{name} has a NUL character, which is read as text', file=sys.stderr)


def _not_in(encoding, name, error, read, head):
    """What to say when the last of the `read` bytes of a file could not be decoded."""
    kind = foreign_bytes.kind_of(head)
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 without a byte order mark, for one
        return f'{name} is not {encoding}: {error}' + (f'. It is {kind}' if kind else '')
    offset = read - len(error.object) + error.start
    problem = f'{name}: byte 0x{error.object[error.start]:02x} at {offset} is not {encoding}'
    if kind:
        return f'{problem}. It is {kind}'
    return f'{problem}. {foreign_bytes.advice(encoding, error.object, error.start)}'
