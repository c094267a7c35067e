"""Files with some bits wrong, each in turn, or cut off at some places, and what comes of them.

Strides are prime numbers, so that every bit of a byte gets its turn.
"""

import pathlib


def flipped(whole, every=1):
    """(bit, the bytes in which that bit is wrong) for every so many bits."""
    for bit in range(0, 8 * len(whole), every):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(data)


def cut(whole, every=1):
    """(size, only the first so many bytes) for every so many bytes."""
    return ((size, whole[:size]) for size in range(0, len(whole), every))


def read_each(path, versions, read, named=None):
    """[(where, what `read()` gives)] of the versions of a file that can be read all the same.

    Of the others it may only raise ValueError or OSError, in one line that gives a terminal no
    orders and has `named` in it, the file's name where that is None. The file is as before then.
    """
    path, found = pathlib.Path(path), []
    whole = path.read_bytes()
    for where, data in versions:
        path.write_bytes(data)
        try:
            found.append((where, read()))
        except (ValueError, OSError) as error:
            assert (named or path.name) in str(error), f'{where}: {error}'
            assert str(error).isprintable(), f'{where}: {error!r}'
    path.write_bytes(whole)
    return found
