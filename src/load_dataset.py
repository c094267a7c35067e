"""Files to chunks of tokens, and chunks to windows, as in Shepperd's load_dataset.py.

Text is read, decoded and encoded block by block, so that a file may be larger than the memory: what
is held is a few blocks, and the tokens in their narrowest type.
"""

import codecs
import contextlib
import glob
import io
import itertools
import os
import shutil
import tempfile
import zipfile

import charset_normalizer
import numpy as np
import regex
import tqdm

SEPARATOR = '<|endoftext|>'
BLOCK = 2**20  # bytes read at once

# Behind the last of these a text can be cut without changing a token, because no word of the
# encoder's pattern goes on there. A `|` behind a letter may belong to a separator.
CUT = regex.compile(r'(?r)\S(?=\s)|\p{L}(?=[^\p{L}\s|])|\p{N}(?=[^\p{N}\s])')


def load_dataset(enc, path, combine, encoding='utf-8', literal_endoftext=False):
    """The tokens of a file, of all files in a directory, or of those that match a glob pattern.

    Args:
        enc: what encodes, see encoder.Encoder.
        path: text, or .npz files of encode.py or Shepperd's. Of a directory, files and folders
            whose names begin with a dot are left out. Files are taken in the order of their names,
            .npz before text.
        combine: texts of fewer characters than this are joined, with `<|endoftext|>` behind each.
        encoding: of the text; line ends become '\\n'.
        literal_endoftext: encode `<|endoftext|>` as ordinary text, as Shepperd's did.

    Returns a list of arrays, [tokens], of the narrowest unsigned type that holds all ids.

    Raises:
        ValueError: nothing there, not text in that encoding, or an .npz with anything but ids of
            this vocabulary; the message names the file.
        OSError: a file cannot be read.
    """
    pieces = encoded(enc, path, combine, encoding, literal_endoftext)
    return [np.concatenate(list(chunk)) for _, chunk in chunks_of(pieces)]


def chunks_of(pieces):
    """(number, piece), … -> (number, an iterator of its pieces), …, to be used up in turn."""
    for number, chunk in itertools.groupby(pieces, key=lambda piece: piece[0]):
        yield number, (piece for _, piece in chunk)


def encoded(enc, path, combine, encoding='utf-8', literal_endoftext=False):
    """What load_dataset returns, piece by piece: (number of the chunk, some of its tokens)."""
    require_text_encoding(encoding)
    paths = files_of(path)
    arrays = [p for p in paths if p.endswith('.npz')]
    texts = [p for p in paths if not p.endswith('.npz')]
    size = sum(os.path.getsize(p) for p in paths)
    number, found, separator = 0, False, _separator(enc)
    with tqdm.tqdm(total=size, unit='B', unit_scale=True, unit_divisor=1024) as progress:
        for npz_path in arrays:
            for tokens in read_npz(npz_path, enc):
                found = True
                yield number, tokens
                number += 1
            progress.update(os.path.getsize(npz_path))
        for chunk, pieces in chunks_of(joined(texts, combine, encoding, progress, separator)):
            for text in blocks(pieces, enc.special):
                found = found or bool(text.replace(SEPARATOR, ''))
                if text:
                    yield number + chunk, enc.encode_to_numpy(text, literal_endoftext)
    if not found:
        raise ValueError(f'There is no text in {path}')


def require_text_encoding(encoding):
    """Raise ValueError where Python does not know this encoding of text."""
    try:
        'text'.encode(encoding)
    except (LookupError, UnicodeError):
        raise ValueError(
            f'There is no encoding {encoding!r} for text; utf-8, utf-16, gb18030, shift_jis and '
            'latin-1 are some that Python knows'
        ) from None


def files_of(path):
    """The paths of the files that `path` means, sorted."""
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


def read_npz(path, enc):
    """The arrays of an .npz file, in the type of the encoder, without those that are empty."""
    try:
        with open(path, 'rb') as file, np.load(file, allow_pickle=False) as npz:
            arrays = dict(npz)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is not an .npz file of tokens: {error}') from None
    for name, tokens in arrays.items():
        if tokens.ndim != 1 or tokens.dtype.kind not in 'iu':
            raise ValueError(
                f'{path}: {name} is an array {tokens.shape} of {tokens.dtype}; tokens are whole '
                'numbers in a row'
            )
        allowed = f'the vocabulary goes from {min(enc.decoder)} to {max(enc.decoder)}'
        if tokens.size and not min(enc.decoder) <= tokens.min() <= tokens.max() <= max(enc.decoder):
            raise ValueError(
                f'{path}: {name} has tokens from {tokens.min()} to {tokens.max()}, but {allowed}. '
                'Encode the text with this --model_name, or give the --special_tokens of encode.py'
            )
        if tokens.size:
            yield tokens.astype(enc.dtype)


def _separator(enc):
    """What is between texts: nothing, where a vocabulary of some characters cannot write it."""
    with contextlib.suppress(ValueError):
        enc.encode_to_numpy(SEPARATOR)
        return SEPARATOR
    return ''


def joined(paths, combine, encoding, progress, separator=SEPARATOR):
    """(number of the chunk, some of its text), in turn.

    Files are joined, with a separator behind each, until a chunk has `combine` characters; the file
    that fills it has no separator behind it.
    """
    number = characters = 0
    for path in paths:
        for text in read_text(path, encoding, progress):
            characters += len(text)
            yield number, text
        if characters >= combine:
            number, characters = number + 1, 0
        else:
            characters += len(separator)
            yield number, separator


def read_text(path, encoding, progress):
    """The text of a file in blocks, with its line ends as '\\n'."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    read = 0
    with open(path, 'rb') as file:
        while True:
            block = file.read(BLOCK)
            read += len(block)
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise ValueError(_not_in(encoding, path, error, read)) from None
            if not block:
                return
            progress.update(len(block))


def _not_in(encoding, path, error, read):
    """What to say when the last of the `read` bytes of a file could not be decoded."""
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 without a byte order mark, for one
        return f'{path} is not {encoding}: {error}'
    offset = read - len(error.object) + error.start
    problem = f'{path}: byte 0x{error.object[error.start]:02x} at {offset} is not {encoding}'
    if not os.path.isfile(path):  # a pipe, which cannot be read again
        return f'{problem}. Name the encoding of the text: --encoding'
    with open(path, 'rb') as file:
        file.seek(max(0, offset - BLOCK // 32))
        around = file.read(BLOCK // 16)
    if offset > BLOCK // 32:  # the first line may begin inside a character
        around = around.partition(b'\n')[2] or around
    best = charset_normalizer.from_bytes(around).best()
    if best is None or best.encoding == encoding.replace('-', '_'):
        return f'{problem}. If it is text, name its encoding: --encoding'
    return f'{problem}. It may be --encoding {best.encoding}'


def blocks(texts, special=()):
    """The same text in blocks that give the same tokens when encoded, `special` ones among them."""
    reach = max(map(len, special), default=1)
    held, last = [], ''  # `last` are the characters before `text`
    for text in texts:
        both = last + text
        places = (found.end() for found in CUT.finditer(both, max(0, len(last) - 1)))
        if place := next((at for at in places if not _inside(both, at, special)), None):
            cut = place - len(last)
            yield ''.join([*held, text[:cut]])
            held, text = [], text[cut:]
        held.append(text)
        last = both[-reach:]
    yield ''.join(held)


def _inside(text, place, special):
    """Whether one of `special` goes on behind a place, or may do so behind the end of the text."""
    return any(
        text.endswith(mark[:size], 0, place)
        and mark[size:].startswith(text[place : place + len(mark) - size])
        for mark in special
        for size in range(1, len(mark))
    )


def write_npz(path, pieces):
    """Write the tokens of `encoded` as arrays arr_0, arr_1, … into the .npz file `path`.

    They are compressed on their way, a chunk at a time from a temporary file, and the file has its
    name only when it is complete. Returns the numbers of tokens and of chunks.

    Raises OSError: it cannot be written; what had that name before is still there.
    """
    directory, name = os.path.split(os.path.abspath(path))
    part = os.path.join(directory, f'.{name}.{os.getpid()}.part')  # hidden from files_of
    total = 0
    try:
        with (
            open(part, 'wb') as file,
            tempfile.TemporaryFile(dir=directory) as spool,
            zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive,
        ):
            for number, (_, chunk) in enumerate(chunks_of(pieces)):
                total += _write_array(archive, f'arr_{number}.npy', chunk, spool)
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)
    return total, number + 1


def _write_array(archive, name, chunk, spool):
    """One array whose pieces come in turn. The format wants its length in front, hence `spool`."""
    spool.seek(0)
    spool.truncate()
    for tokens in chunk:
        spool.write(tokens)
    length = spool.tell() // tokens.itemsize
    spool.seek(0)
    with archive.open(name, 'w', force_zip64=True) as member:
        header = {'descr': tokens.dtype.str, 'fortran_order': False, 'shape': (length,)}
        np.lib.format.write_array_header_1_0(member, header)
        shutil.copyfileobj(spool, member, BLOCK)
    return length


class Sampler:
    """Windows of tokens, each as likely as any other that lies inside a chunk.

    That is the distribution of Shepperd's Sampler, with the last windows of a chunk, which his
    leaves out.

    Args:
        chunks: arrays [tokens].
        seed: what numpy.random.default_rng takes; None is different each time.
    """

    def __init__(self, chunks, seed=None):
        self.chunks = chunks
        self.sizes = np.array([len(chunk) for chunk in chunks])
        self.total_size = int(self.sizes.sum())
        self.longest = int(self.sizes.max())
        self._random = np.random.default_rng(seed)

    def sample(self, length):
        """A window, [length]. Raises ValueError: no chunk is that long."""
        windows = np.maximum(self.sizes - length + 1, 0).cumsum()  # in the chunks so far
        if not windows[-1]:
            raise ValueError(
                f'No text is as long as a window of {length} tokens; the longest has {self.longest}'
            )
        index = self._random.integers(windows[-1])
        i = np.searchsorted(windows, index, side='right')
        end = self.sizes[i] - (windows[i] - index) + 1
        return self.chunks[i][end - length : end]

    def state(self):
        """Where the random numbers are: what JSON can hold, for `restore`."""
        return self._random.bit_generator.state

    def restore(self, state):
        self._random.bit_generator.state = state
