"""Files of tokens: the .npz and .npy of encode.py, Shepperd's .npz, and the .bin of nanoGPT.

An .npz has an array for each chunk, compressed, and is read into memory. An .npy has the tokens of
all chunks in one array, and behind it a second one, the chunks' lengths. It is read where it lies,
and may be larger than the memory; an .npy without lengths is one chunk. So is a .bin, which has
nothing but ids of 16 bits; beside it, a meta.pkl has the ids of characters, where these are tokens.

Tokens come as pieces: (number of the chunk, some of its tokens, an array [tokens]), …
"""

import contextlib
import itertools
import os
import pickle
import shutil
import tempfile
import zipfile

import numpy as np

from .. import encoder
from ..command_line import escaping
from . import pickles, text_files, whole_files

KINDS = ('.npz', '.npy', '.bin')
META = 'meta.pkl'
BIN = np.dtype('<u2')
BLOCK = 2**20  # bytes copied, and tokens checked, at once


def chunks_of(pieces):
    """(number, piece), … -> (number, an iterator of its pieces), …, to be used up in turn."""
    for number, chunk in itertools.groupby(pieces, key=lambda piece: piece[0]):
        yield number, (piece for _, piece in chunk)


def read(path, enc, progress):
    """The chunks of a file, [tokens], without those that are empty.

    They are in the type of the encoder, or int32 where they have ids that are not to be learnt;
    those of an .npy and a .bin are in their own.

    Args:
        progress: its `update` is told how many bytes have been read.

    Raises ValueError: anything but ids of this vocabulary; the message names the file.
    """
    reads = {'.npz': _read_npz, '.npy': _read_npy, '.bin': _read_bin}
    return reads[path[-4:]](path, enc, progress)


@contextlib.contextmanager
def _reading(path, kind):
    """Let nothing but ValueError out: what is damaged may raise nearly anything in NumPy, zipfile
    and zlib, as SyntaxError, MemoryError or NotImplementedError.
    """
    try:
        yield
    except Exception as error:
        problem = text_files.shown(str(error) or type(error).__name__)
        name = text_files.shown(path)
        raise ValueError(f'{name} is not an {kind} file of tokens: {problem}') from None


def _read_npz(path, enc, progress):
    with open(path, 'rb') as file:
        with _reading(path, '.npz'):
            npz = np.load(file, allow_pickle=False)
            names = npz.files
            # zipfile does not see a list that has lost members, in the comment of another one.
            if len(set(names)) < len(names) or any(m.comment for m in npz.zip.infolist()):
                raise ValueError('its list of arrays is damaged')
        for name in names:
            with _reading(path, '.npz'):
                tokens = npz[name]
                if not isinstance(tokens, np.ndarray):  # np.load gives what is no array as bytes
                    raise ValueError(f'{name} is no array')
            _require_row_of_numbers(f'{path}: {name}', tokens)
            if tokens.size:
                _require_ids(f'{path}: {name}', tokens, enc)
                yield tokens.astype(np.int32 if tokens.min() < 0 else enc.dtype)
    progress.update(os.path.getsize(path))


def _read_npy(path, enc, progress):
    with open(path, 'rb') as file, _reading(path, '.npy'):
        tokens = np.load(path, mmap_mode='r', allow_pickle=False)
        if tokens.ndim != 1:  # told below
            lengths = np.array([tokens.size])
        else:
            file.seek(tokens.offset + tokens.nbytes)
            lengths = np.lib.format.read_array(file) if file.peek(1) else np.array([tokens.size])
    _require_row_of_numbers(path, tokens)
    _require_lengths(path, lengths, len(tokens))
    _require_all_ids(path, tokens, enc, progress)
    chunks = np.split(np.asarray(tokens), np.cumsum(lengths)[:-1])
    yield from (chunk for chunk in chunks if chunk.size)


def _read_bin(path, enc, progress):
    size, name = os.path.getsize(path), text_files.shown(path)
    if size % BIN.itemsize:
        raise ValueError(f'{name} is not a .bin of tokens: {size} bytes are no numbers of 16 bits')
    require_vocabulary(os.path.join(os.path.dirname(path), META), enc)
    if size:
        tokens = np.memmap(path, BIN, 'r')
        _require_all_ids(path, tokens, enc, progress)
        yield np.asarray(tokens)


def require_vocabulary(path, enc):
    """Raise ValueError where a meta.pkl gives characters other ids than an encoder does."""
    if not os.path.exists(path):
        return
    with open(path, 'rb') as file:
        meta = pickles.load(file, path)
    ids = meta.get('stoi') if isinstance(meta, dict) else None
    for character, number in ids.items() if isinstance(ids, dict) else ():
        text = encoder.without_surrogates(str(character))
        here = enc.encoder.get(encoder.spelled(text))
        if here != number:
            character, number = escaping.told(repr(character)), escaping.told(number)
            raise ValueError(
                f'{text_files.shown(path)} is of another vocabulary than the model: {character} is '
                f'{number} there, and {here} here. Take a model with that vocabulary, or the text'
            )


def _require_all_ids(path, tokens, enc, progress):
    """As _require_ids, of an array that lies in a file."""
    for begin in range(0, len(tokens), BLOCK):
        # Read, not mapped: what is mapped counts as memory of this process once it is looked at.
        offset = tokens.offset + begin * tokens.itemsize
        part = np.fromfile(path, tokens.dtype, min(BLOCK, len(tokens) - begin), offset=offset)
        _require_ids(path, part, enc)
        progress.update(part.nbytes)


def _require_lengths(path, lengths, total):
    """Raise ValueError where the lengths of chunks are none, or not those of so many tokens."""
    name = text_files.shown(path)
    if lengths.ndim != 1 or lengths.dtype.kind not in 'iu':
        raise ValueError(
            f'{name} has an array {lengths.shape} of {lengths.dtype} behind its tokens; lengths of '
            'chunks are whole numbers in a row'
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= total:
        raise ValueError(
            f'{name} has chunks of {lengths.min()} to {lengths.max()} tokens, and {total} in all'
        )
    if (chunks := sum(lengths.tolist())) != total:  # as Python's numbers, which have no end
        raise ValueError(f'{name} has {total} tokens, but its chunks have {chunks}')


def _require_row_of_numbers(name, tokens):
    if tokens.ndim != 1 or tokens.dtype.kind not in 'iu':
        raise ValueError(
            f'{text_files.shown(name)} is an array {tokens.shape} of {tokens.dtype}; tokens are '
            'whole numbers in a row'
        )


def _require_ids(name, tokens, enc):
    """Raise ValueError where a number is neither an id nor, for one that is not learnt, ~id."""
    first, last = min(enc.decoder), max(enc.decoder)
    ids = tokens if tokens.min() >= 0 else np.maximum(tokens, ~tokens)
    if ids.min() < first or ids.max() > last:
        raise ValueError(
            f'{text_files.shown(name)} has tokens from {tokens.min()} to {tokens.max()}, but the '
            f'vocabulary goes from {first} to {last}. Encode the text with this --model_name, or '
            'give the --special_tokens of encode.py'
        )


def write(path, pieces):
    """Write the tokens of `pieces`; returns their number and that of the chunks.

    The file has its name only when it is complete.

    Raises:
        OSError: it cannot be written; what had that name before is still there.
        ValueError: an .npy of tokens of several types, a .bin of tokens that are not learnt or
            beyond 16 bits, or another process is writing it.
    """
    writes = {'.npz': _write_npz, '.npy': _write_npy, '.bin': _write_bin}
    with whole_files.complete(path) as file:
        lengths = writes[path[-4:]](file, pieces)
    return sum(lengths), len(lengths)


def _write_npz(file, pieces):
    """Arrays arr_0, arr_1, …, compressed on their way, a chunk at a time from a temporary file."""
    with (
        tempfile.TemporaryFile(dir=os.path.dirname(file.name)) as spool,
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive,
    ):
        return [
            _write_array(archive, f'arr_{number}.npy', chunk, spool)
            for number, (_, chunk) in enumerate(chunks_of(pieces))
        ]


def _write_array(archive, name, chunk, spool):
    """One array whose pieces come in turn. The format wants its length in front, hence `spool`."""
    spool.seek(0)
    spool.truncate()
    for tokens in chunk:
        spool.write(tokens)
    length = spool.tell() // tokens.itemsize
    spool.seek(0)
    with archive.open(name, 'w', force_zip64=True) as member:
        _write_header(member, tokens.dtype, length)
        shutil.copyfileobj(spool, member, BLOCK)
    return length


def _write_npy(file, pieces):
    """The header is written a second time when the length is known; NumPy leaves room for it."""
    lengths, dtype = [], None
    for _, chunk in chunks_of(pieces):
        lengths.append(0)
        for tokens in chunk:
            if dtype is None:
                dtype = tokens.dtype
                _write_header(file, dtype, 0)
            if tokens.dtype != dtype:
                raise ValueError(
                    f'An .npy has tokens of one type, and these are of two, {dtype} and '
                    f'{tokens.dtype}. Write an .npz'
                )
            file.write(tokens)
            lengths[-1] += len(tokens)
    np.lib.format.write_array(file, np.array(lengths))
    file.seek(0)
    _write_header(file, dtype, sum(lengths))
    return lengths


def _write_bin(file, pieces):
    """The chunks one after the other, since nothing tells where one ends."""
    length = 0
    for _, tokens in pieces:
        if tokens.size and not 0 <= tokens.min() <= tokens.max() <= np.iinfo(BIN).max:
            raise ValueError(
                f'A .bin has ids of 16 bits, up to 65535, and these go from {tokens.min()} to '
                f'{tokens.max()}. Write an .npz or .npy'
            )
        file.write(tokens.astype(BIN))
        length += len(tokens)
    return [length]


def meta_of(enc):
    """The bytes of the meta.pkl that nanoGPT has for a vocabulary of characters."""
    ids = dict(sorted(enc.characters.items(), key=lambda item: item[1]))
    meta = {'vocab_size': len(ids), 'itos': {i: c for c, i in ids.items()}, 'stoi': ids}
    return pickle.dumps(meta, 4)


def _write_header(file, dtype, length):
    header = {'descr': dtype.str, 'fortran_order': False, 'shape': (length,)}
    np.lib.format.write_array_header_1_0(file, header)
