"""The index of a checkpoint, looked at before TensorFlow reads it.

TensorFlow finds accidents by its checksums. Where these are right and the rest is not, as in a file
that somebody has made up, it ends the process or takes memory without end.

An index is a table as LevelDB has it (its doc/table_format.md): blocks of keys in their order, each
with a value, a block that names these blocks, and a footer that names that one. The keys are names
of tensors; the values are messages of TensorFlow's tensor_bundle.proto.
"""

import collections
import math
import os
import struct

import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import tensor_bundle_pb2

LARGEST = 2**22  # bytes of an index; that of 1558M has 26 kB
LONGEST = 2**10  # bytes of a name
FOOTER, MAGIC = 48, (0xDB4775248B80FB57).to_bytes(8, 'little')
REFERENCES = 100  # and numbers above it are types that are never saved


def require_sound(prefix):
    """Raise ValueError where the index of the checkpoint `prefix` is none, or has not its data.

    What lies in the data is not looked at: it has checksums.
    """
    path = f'{prefix}.index'
    with open(path, 'rb') as file:
        table = file.read(LARGEST + 1)
    try:
        (key, value), *entries = _sorted(_all_entries(table))
        if key:
            raise ValueError('it has no header')
        shards = tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards
        tensors = {}
        for key, value in entries:
            name, entry = key.decode(), tensor_bundle_pb2.BundleEntryProto.FromString(value)
            if not name.isprintable():  # it would give a terminal orders
                raise ValueError('a name in it is none')
            _require_tensor(name, entry, shards)
            tensors[name] = entry
    except (ValueError, TypeError, IndexError, struct.error, message.DecodeError) as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    _require_data(prefix, tensors, shards)


def _all_entries(table):
    """(key, value) of all entries in the blocks of a table, in their order."""
    if len(table) > LARGEST:
        raise ValueError(f'it has more than {LARGEST:,} bytes')
    if len(table) < FOOTER or not table.endswith(MAGIC):
        raise ValueError('it has no footer')
    _, at = _handle(table[-FOOTER:])  # of a block that nobody uses
    place, _ = _handle(table[-FOOTER:], at)
    for _, value in _entries(_block(table, place)):
        place, _ = _handle(value)
        yield from _entries(_block(table, place))


def _sorted(entries):
    """The same entries in a list. Raises ValueError where their keys do not rise."""
    found = []
    for key, value in entries:
        if found and key <= found[-1][0]:
            raise ValueError('its names are in no order')
        found.append((key, value))
    return found or [(b'none', b'')]


def _handle(data, at=0):
    """The place of a block, (offset, size), and where in the data it ends."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data, at):
    """A number of protobuf's kind, and where it ends."""
    number = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise ValueError('a number in it has no end')


def _block(table, place):
    offset, size = place
    end = offset + size
    if end + 5 > len(table) - FOOTER:  # a byte for the kind of compression, four of a checksum
        raise ValueError('a block lies outside of it')
    if table[end]:
        raise ValueError('it is compressed, which TensorFlow has not done since 1.1')
    return table[offset:end]


def _entries(block):
    """(key, value) of each entry of a block.

    A key has only what is new behind the first so many bytes of the key before it; at the end of a
    block are the places of keys that have all of it.
    """
    (number,) = struct.unpack('<I', block[-4:])
    end = len(block) - 4 * (number + 1)
    if not number or end < 0:
        raise ValueError('a block of it is cut off')
    at, key, whole = 0, b'', set()
    while at < end:
        begin = at
        shared, at = _varint(block, at)
        new, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + new + size > end or shared + new > LONGEST:
            raise ValueError('an entry is longer than it can be')
        if not shared:
            whole.add(begin)
        key, at = key[:shared] + block[at : at + new], at + new
        yield key, block[at : at + size]
        at += size
    if not whole.issuperset(struct.unpack(f'<{number}I', block[end:-4])):
        raise ValueError('a block of it has other entries than it says')


def _require_tensor(name, entry, shards):
    """Raise ValueError where a tensor can have no such type, shape or size."""
    dtype = tf.dtypes.as_dtype(entry.dtype)  # TypeError where it is none
    is_number = dtype.is_floating or dtype.is_integer or dtype.is_complex or dtype.is_quantized
    if entry.dtype > REFERENCES or not (is_number or dtype in (tf.bool, tf.string)):
        raise ValueError(f'{name} is {dtype.name}')
    if entry.slices:
        raise ValueError(f'{name} is in slices')
    dims = [dim.size for dim in entry.shape.dim]
    possible = not entry.shape.unknown_rank and len(dims) < 255 and min(dims, default=0) >= 0
    if not possible or math.prod(max(1, dim) for dim in dims) >= 2**63:
        raise ValueError(f'{name} has a shape that cannot be')
    elements, size = math.prod(dims), entry.size
    fits = elements <= size if dtype == tf.string else elements * dtype.size == size
    if not fits or entry.offset < 0 or not 0 <= entry.shard_id < shards:
        raise ValueError(f'{name} has a size or a place that cannot be')


def _require_data(prefix, tensors, shards):
    """Raise ValueError where the files beside the index do not have what it says."""
    ends = collections.Counter()  # of what should be in each file
    for entry in tensors.values():
        path = _shard(prefix, entry, shards)
        ends[path] = max(ends[path], entry.offset + entry.size)
    for path, end in ends.items():
        if not os.path.isfile(path):
            raise ValueError(f'The checkpoint {prefix} is not whole: there is no {path}')
        if (size := os.path.getsize(path)) < end:
            raise ValueError(f'{path} is cut off: it has {size:,} of {end:,} bytes')
    for name, entry in tensors.items():
        if entry.dtype == tf.string.as_datatype_enum:
            _require_lengths(_shard(prefix, entry, shards), name, entry)


def _shard(prefix, entry, shards):
    return f'{prefix}.data-{entry.shard_id:05d}-of-{shards:05d}'


def _require_lengths(path, name, entry):
    """Raise ValueError where texts would be longer than the tensor, whose lengths stand first."""
    elements, at, total = math.prod(dim.size for dim in entry.shape.dim), 0, 0
    with open(path, 'rb') as file:
        file.seek(entry.offset)
        data = file.read(min(entry.size, 10 * elements))  # bytes of a number
    try:
        for _ in range(elements):
            length, at = _varint(data, at)
            total += length
    except (ValueError, IndexError):
        total = math.inf
    if at + total > entry.size:
        raise ValueError(f'{path} is damaged at {name}: its texts are longer than it')
