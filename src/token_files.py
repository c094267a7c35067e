"""Files of tokens: the .npz of encode.py, Shepperd's too.

Tokens go in as pieces: (number of the chunk, some of its tokens, an array [tokens]), …
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import zipfile

import numpy as np

BLOCK = 2**20  # bytes copied at once


def chunks_of(pieces):
    """(number, piece), … -> (number, an iterator of its pieces), …, to be used up in turn."""
    for number, chunk in itertools.groupby(pieces, key=lambda piece: piece[0]):
        yield number, (piece for _, piece in chunk)


def read_npz(path, enc):
    """The arrays of an .npz file, [tokens], without those that are empty.

    They are in the type of the encoder, or int32 where they have ids that are not to be learnt.

    Raises ValueError: anything but ids of this vocabulary; the message names the file.
    """
    try:
        with open(path, 'rb') as file, np.load(file, allow_pickle=False) as npz:
            arrays = dict(npz)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is not an .npz file of tokens: {error}') from None
    for name, tokens in arrays.items():
        _require_row_of_numbers(f'{path}: {name}', tokens)
        if tokens.size:
            _require_ids(f'{path}: {name}', tokens, enc)
            yield tokens.astype(np.int32 if tokens.min() < 0 else enc.dtype)


def _require_row_of_numbers(name, tokens):
    if tokens.ndim != 1 or tokens.dtype.kind not in 'iu':
        raise ValueError(
            f'{name} is an array {tokens.shape} of {tokens.dtype}; tokens are whole numbers in a '
            'row'
        )


def _require_ids(name, tokens, enc):
    """Raise ValueError where a number is neither an id nor, for one that is not learnt, ~id."""
    first, last = min(enc.decoder), max(enc.decoder)
    ids = tokens if tokens.min() >= 0 else np.maximum(tokens, ~tokens)
    if ids.min() < first or ids.max() > last:
        raise ValueError(
            f'{name} has tokens from {tokens.min()} to {tokens.max()}, but the vocabulary goes '
            f'from {first} to {last}. Encode the text with the vocabulary of this model: encode.py '
            '--model_name'
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
