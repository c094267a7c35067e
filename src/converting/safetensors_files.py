"""safetensors: the length of a header, the header, which is JSON, and the numbers.

Written here and not by the package of that name, which holds all tensors of a file in memory to
write it, and has no bfloat16 for NumPy. The format: github.com/huggingface/safetensors.
"""

import json
import math
import os
import struct
import typing

import numpy as np

from ..command_line import escaping
from . import portable

DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': 'bfloat16'}
LONGEST_HEADER = 2**25  # bytes; in the package 100,000,000, of which Python makes gigabytes
AXES = 8  # of a tensor, at most


class Tensor(typing.NamedTuple):
    """One of a file."""

    path: str
    dtype: str  # as the file calls it
    shape: list
    begin: int  # its first byte in the file
    end: int  # behind its last

    def read(self):  # -> float32 of that shape
        if self.dtype not in DTYPES:
            raise ValueError(
                f'{self.path} has weights of the type {escaping.told(self.dtype)}; those of GPT-2 '
                f'are {", ".join(DTYPES)}'
            )
        with open(self.path, 'rb') as file:  # and not mapped: that would count as our memory
            numbers = np.fromfile(file, np.uint8, self.end - self.begin, offset=self.begin)
        if numbers.size < self.end - self.begin:
            raise ValueError(f'{self.path} is cut off')
        return portable.widened(numbers, DTYPES[self.dtype]).reshape(self.shape)


def tensors_of(path):
    """{name: Tensor} of a file. Raises ValueError where it is damaged or cut off."""
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        start = file.read(8)
        if start == b'version ':
            raise ValueError(f'{path} is a pointer of Git LFS, and no model yet: git lfs pull')
        length = struct.unpack('<Q', start)[0] if len(start) == 8 else 0
        if not 2 <= length <= LONGEST_HEADER:
            raise ValueError(f'{path} is not a safetensors file, or is damaged')
        if 8 + length > size:
            raise ValueError(f'{path} is cut off: of its header')
        header = file.read(length)
    try:
        described = json.loads(header)
        described.pop('__metadata__', None)
        tensors = {name: _tensor(path, 8 + length, each) for name, each in described.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{path} is damaged: {error!r:.200}') from None
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if end > size:
        raise ValueError(f'{path} is cut off: it should have {end:,} bytes, and has {size:,}')
    return tensors


def _tensor(path, start, described):
    dtype, shape, (begin, end) = (described[key] for key in ('dtype', 'shape', 'data_offsets'))
    if len(shape) > AXES or not all(map(portable.is_size, (*shape, begin, end))):
        raise ValueError('sizes are whole numbers')
    if dtype in DTYPES:  # of others nothing is read
        item = 2 if dtype == 'BF16' else np.dtype(DTYPES[dtype]).itemsize
        if end - begin != item * math.prod(shape):
            raise ValueError(f'{dtype} of {shape} does not have {end - begin} bytes')
    return Tensor(path, dtype, shape, start + begin, start + end)


def write(file, shapes, tensors):
    """Write a file of float32.

    Args:
        file: open for bytes.
        shapes: {name: shape}.
        tensors: the arrays in that order, each taken when its turn has come.
    """
    header, place = {'__metadata__': {'format': 'pt'}}, 0
    for name, shape in shapes.items():
        end = place + portable.size_of([shape])
        header[name] = {'dtype': 'F32', 'shape': list(shape), 'data_offsets': [place, end]}
        place = end
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # so that the numbers lie where processors like them
    file.write(struct.pack('<Q', len(text)) + text)
    for array in tensors:
        file.write(np.ascontiguousarray(array, '<f4').data)
