"""What torch.save writes, without PyTorch and without running the pickle in it.

Since 1.6 a zip archive: `data.pkl` is the object that was saved, in which a tensor names a record
`data/KEY` with its numbers. Before, and in many an old pytorch_model.bin, five pickles in a row,
and the numbers behind them.
"""

import collections
import contextlib
import errno
import io
import math
import os
import pickle
import typing
import zipfile

import numpy as np

from ..data import pickles
from . import portable

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older kind
DTYPES = {
    'Double': '<f8', 'Float': '<f4', 'Half': '<f2', 'BFloat16': 'bfloat16', 'Long': '<i8',
    'Int': '<i4', 'Short': '<i2', 'Char': 'i1', 'Byte': 'u1', 'Bool': '?',
}  # fmt: skip

AXES = 8  # of a tensor, at most
FLOATS = ('<f8', '<f4', '<f2', 'bfloat16')


class Storage(typing.NamedTuple):
    """Numbers in a row, outside of the pickle."""

    key: str
    dtype: str
    size: int  # in numbers

    @property
    def item(self):  # bytes of a number
        return 2 if self.dtype == 'bfloat16' else np.dtype(self.dtype).itemsize


class Tensor(typing.NamedTuple):  # which a pickle cannot change after it was checked
    """A part of a storage, in the order of its strides."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple

    @property
    def span(self):
        """How many numbers lie between its first and its last."""
        steps = zip(self.shape, self.strides, strict=True)
        last = sum((size - 1) * stride for size, stride in steps)
        return last + 1 if math.prod(self.shape) else 0


def _rebuild(storage, offset, shape, strides, *_):
    """What stands for a tensor. Raises ValueError where it does not lie in its storage."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > AXES:
        raise ValueError('it has tensors of another kind')
    if any(not portable.is_size(number) for number in numbers):
        raise ValueError('sizes are whole numbers')
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if offset + tensor.span > storage.size or math.prod(shape) > tensor.span:
        raise ValueError(f'a tensor {shape} lies outside of its numbers')
    return tensor


KNOWN = {
    'collections.OrderedDict': collections.OrderedDict,
    'torch._utils._rebuild_tensor_v2': _rebuild,
    'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
    'torch.Size': tuple,
    **{f'torch.{name}Storage': dtype for name, dtype in DTYPES.items()},
}


def _storage(described):
    kind, dtype, key, _, size, *_ = described
    if kind != 'storage' or dtype not in DTYPES.values() or not portable.is_size(size):
        raise ValueError(f'it has a {kind} of {dtype} outside of its pickle')
    return Storage(str(key), dtype, size)


@contextlib.contextmanager
def opened(path):
    """(what was saved, with Tensors in it; what reads one of them as a float32 array).

    Raises ValueError: a file of another kind, a damaged one, or one that would run something.
    """
    with open(path, 'rb') as file:
        if file.read(4) == b'PK\3\4':
            with _archive(path, file) as archive:
                saved, numbers = _of_archive(path, archive)
                yield saved, lambda tensor: _read(path, tensor, numbers)
        else:
            file.seek(0)
            saved, numbers = _of_pickles(path, file)
            yield saved, lambda tensor: _read(path, tensor, numbers)


def state_of(path, saved, read):
    """{name: (shape, what reads it)} of a state_dict, as `opened` gave it."""
    if not isinstance(saved, dict) or not all(isinstance(t, Tensor) for t in saved.values()):
        raise ValueError(f'{path} is not a state_dict, which has names and tensors')
    return {
        str(name): (tensor.shape, lambda tensor=tensor: read(tensor))
        for name, tensor in saved.items()
    }


def _archive(path, file):
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # a damaged one may raise nearly anything
        raise ValueError(f'{path} is cut off, or damaged: {error}') from None


def _of_archive(path, archive):
    """(what was saved, a function: storage, first byte, number of bytes -> bytes)."""
    members = {member.filename: member for member in archive.infolist()}
    pickled = next((name for name in members if name.endswith('/data.pkl')), None)
    if not pickled:
        raise ValueError(f'{path} is not what torch.save writes: there is no data.pkl in it')
    root = pickled.removesuffix('data.pkl')
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise ValueError(f'{path} is not what torch.save writes: it is compressed')

    def record(name, begin=0, size=-1):
        try:
            with archive.open(f'{root}{name}') as opened:
                opened.seek(begin)
                return opened.read(size)
        except Exception as error:  # what is damaged may raise nearly anything
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise ValueError(f'{path} is damaged: {error}') from None

    if f'{root}byteorder' in members and record('byteorder', size=9) != b'little':
        raise ValueError(f'{path} was written on a big-endian machine; only little-endian is read')
    pickled = io.BytesIO(record('data.pkl', size=pickles.LARGEST))
    saved = pickles.load(pickled, path, KNOWN, _storage)
    return saved, lambda storage, *part: record(f'data/{storage.key}', *part)


def _of_pickles(path, file):
    """As _of_archive."""
    storages = {}

    def remembered(described):
        storage = _storage(described)
        return storages.setdefault(storage.key, storage)

    if pickles.load(file, path) != MAGIC:
        raise ValueError(f'{path} is a pickle, and not what torch.save writes')
    _version, _machine = pickles.load(file, path), pickles.load(file, path)
    saved = pickles.load(file, path, KNOWN, remembered)
    places, place = {}, 0
    keys = pickles.load(file, path)
    place, end = file.tell(), os.fstat(file.fileno()).st_size
    if not isinstance(keys, list) or not storages.keys() <= {*map(str, keys)}:
        raise ValueError(f'{path} is damaged: it should list where its numbers are')
    for key in map(str, keys):
        places[key] = place + 8  # behind the size
        place += 8 + storages[key].size * storages[key].item if key in storages else end
    if place > end:
        raise ValueError(f'{path} is cut off: it should have {place:,} bytes, and has {end:,}')

    def numbers(storage, begin, size):
        file.seek(places[storage.key] + begin)
        return file.read(size)

    return saved, numbers


def _read(path, tensor, numbers):
    """A tensor as a float32 array; no more is read than lies between its first and last number."""
    storage, span = tensor.storage, tensor.span * tensor.storage.item
    if storage.dtype not in FLOATS:
        raise ValueError(
            f'{path} has weights of the type {storage.dtype}; those of GPT-2 are floats'
        )
    read = numbers(storage, tensor.offset * storage.item, span)
    if len(read) < span:
        raise ValueError(f'{path} is cut off, or damaged')
    array = portable.widened(np.frombuffer(read, np.uint8), storage.dtype)
    strides = [stride * array.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(array, tensor.shape, strides)


class Saved(typing.NamedTuple):
    """What stands for a tensor in an object to be written."""

    number: int  # of its array
    shape: list


def write(file, saved, arrays):
    """Write what torch.load reads: an archive with a pickle, and the numbers of each tensor.

    Args:
        file: open for bytes.
        saved: of dicts, lists, tuples, text, numbers and Saved.
        arrays: float32, in the order of their numbers, each taken when its turn has come.
    """
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\2' + _pickled(saved) + b'.')
        archive.writestr('archive/byteorder', 'little')
        archive.writestr('archive/version', '3\n')
        for number, array in enumerate(arrays):
            size = array.nbytes
            with archive.open(f'archive/data/{number}', 'w', force_zip64=size >= 2**31) as record:
                record.write(np.ascontiguousarray(array, '<f4').data)


def _pickled(saved):
    """An object in the words of a pickle; pickle itself would have to find PyTorch."""
    if isinstance(saved, Saved):
        return _pickled_tensor(saved)
    if isinstance(saved, dict):
        return b'}(' + b''.join(_pickled(part) for item in saved.items() for part in item) + b'u'
    if isinstance(saved, (list, tuple)):
        begin, end = (b'](', b'e') if isinstance(saved, list) else (b'(', b't')
        return begin + b''.join(map(_pickled, saved)) + end
    if isinstance(saved, str):
        text = saved.encode()
        return b'X' + len(text).to_bytes(4, 'little') + text
    return pickle.dumps(saved, 2)[2:-1]  # a number, True, False or None


def _pickled_tensor(saved):
    """_rebuild_tensor_v2((storage), offset, shape, strides, requires_grad, hooks)."""
    strides = [math.prod(saved.shape[axis + 1 :]) for axis in range(len(saved.shape))]
    key, size = str(saved.number), math.prod(saved.shape)
    storage = _pickled('storage') + b'ctorch\nFloatStorage\n' + _pickled(key) + _pickled('cpu')
    layout = _pickled(0) + _pickled(tuple(saved.shape)) + _pickled(tuple(strides)) + _pickled(False)
    place = b'(' + storage + _pickled(size) + b'tQ' + layout + b'ccollections\nOrderedDict\n)R'
    return b'ctorch._utils\n_rebuild_tensor_v2\n(' + place + b'tR'
