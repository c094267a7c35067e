"""The index of a checkpoint may be anything, with right checksums or wrong ones: it is told."""

import os
import pathlib
import struct

import damage
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from src.model_files import bundle, checkpoint

CRC = [0] * 256
for number in range(256):
    crc = number
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    CRC[number] = crc


def checksum(data):
    """CRC-32C, rotated and moved as LevelDB stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def table(*entries, restarts=(0,), kind=0):
    """An index of these (key, value), in one block, where no key leaves out what it shares."""

    def block(entries, restarts):
        data = b''.join(
            b'\0' + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
        )
        data += struct.pack(f'<{len(restarts) + 1}I', *restarts, len(restarts)) + bytes([kind])
        return data + checksum(data)

    values = block(entries, restarts)
    index = block([(b'z', varint(0) + varint(len(values) - 5))], (0,))
    footer = varint(0) * 2 + varint(len(values)) + varint(len(index) - 5)
    return values + index + footer.ljust(40, b'\0') + bundle.MAGIC


def varint(number):
    data = b''
    while number > 127:
        data, number = data + bytes([number & 127 | 128]), number >> 7
    return data + bytes([number])


def with_right_checksums(data, places):
    """The same index, after something in one of its blocks was changed."""
    data = bytearray(data)
    for offset, size in places:
        end = offset + size + 1
        data[end : end + 4] = checksum(data[offset:end])
    return bytes(data)


HEADER = (b'', tensor_bundle_pb2.BundleHeaderProto(num_shards=1).SerializeToString())


def entry(shape, name=b'x', dtype=1, size=None, **fields):
    """(key, value) of a tensor, float32 and as large as it should be."""
    proto = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, **fields)
    for dim in shape:
        proto.shape.dim.add(size=dim)
    proto.size = 4 * int(np.prod(shape, dtype=object)) if size is None else size
    return name, proto.SerializeToString()


def blocks_of(index):
    """The places of the blocks that are read."""
    _, at = bundle._handle(index[-bundle.FOOTER :])
    names, _ = bundle._handle(index[-bundle.FOOTER :], at)
    entries = bundle._entries(bundle._block(index, names))
    return [names, *(bundle._handle(value)[0] for _, value in entries)]


TENSORS = {
    'model/h0/w': np.arange(6, dtype=np.float32).reshape(2, 3),
    'model/h1/w': np.array([1.5, -2], tf.bfloat16.as_numpy_dtype),
    'number': np.int64(7),
    'texts': np.array(['', 'numbers', 'x' * 20], object),
}


@pytest.fixture
def prefix(tmp_path):
    checkpoint._write(str(tmp_path / 'model-1'), TENSORS)
    return str(tmp_path / 'model-1')


def read(prefix):
    """All tensors, as {name: array}."""
    with checkpoint._opened(prefix) as reader:
        names = reader.get_variable_to_shape_map()
        return {name: checkpoint._tensor(reader, prefix, name) for name in names}


def lists(tensors):
    return {name: np.asarray(value).tolist() for name, value in tensors.items()}


@pytest.mark.parametrize('right', [False, True])
def test_any_bit_of_an_index_may_be_wrong(prefix, right):
    index = pathlib.Path(f'{prefix}.index')
    whole = index.read_bytes()
    expected = lists(read(prefix))
    versions = damage.flipped(whole, 11)
    if right:
        blocks = blocks_of(whole)
        assert with_right_checksums(whole, blocks) == whole
        versions = ((bit, with_right_checksums(data, blocks)) for bit, data in versions)
    found = damage.read_each(index, versions, lambda: read(prefix), 'model-1')
    assert found  # what nobody reads; with right checksums, other names and types
    for _, tensors in found if not right else ():
        assert lists(tensors) == expected


@pytest.mark.parametrize('file', ['index', 'data-00000-of-00001'])
def test_a_checkpoint_may_end_anywhere(prefix, file):
    path = pathlib.Path(f'{prefix}.{file}')
    versions = damage.cut(path.read_bytes(), 7)
    assert not damage.read_each(path, versions, lambda: read(prefix), 'model-1')


def test_any_bit_of_the_data_may_be_wrong(prefix):
    path = pathlib.Path(f'{prefix}.data-00000-of-00001')
    versions = damage.flipped(path.read_bytes(), 7)
    assert not damage.read_each(path, versions, lambda: read(prefix), 'model-1')


FAR = {'shape': [1], 'offset': 2**40}
MADE_UP = {
    'no header': (table(entry([1])), 'it has no header'),
    'no entries': (table(), 'a block of it has other entries than it says'),
    'no shards': (table((b'', b''), entry([1])), 'x has a size or a place that cannot be'),
    'no footer': (b'x' * 100, 'it has no footer'),
    'too large': (b'x' * (bundle.LARGEST + 1), 'it has more than 4,194,304 bytes'),
    'compressed': (table(HEADER, kind=1), 'it is compressed'),
    'order': (table(HEADER, entry([1]), entry([1], b'a')), 'its names are in no order'),
    'same': (table(HEADER, entry([1]), entry([1])), 'its names are in no order'),
    'restarts': (table(HEADER, restarts=(0, 2**32 - 1)), 'a block of it has other entries'),
    'long name': (table(HEADER, entry([1], b'x' * 2000)), 'an entry is longer than it can be'),
    'orders': (table(HEADER, entry([1], b'\x1b[2J')), 'a name in it is none'),
    'no proto': (table(HEADER, (b'x', b'\xff')), 'model-1.index is damaged: .'),
    'no name': (table(HEADER, entry([1], b'\xff')), 'model-1.index is damaged: .*utf-8'),
    'no type': (table(HEADER, entry([1], dtype=99)), 'model-1.index is damaged: .*99'),
    'a reference': (table(HEADER, entry([1], dtype=101)), 'x is float32_ref'),
    'a resource': (table(HEADER, entry([1], dtype=20)), 'x is resource'),
    'a variant': (table(HEADER, entry([1], dtype=21)), 'x is variant'),
    'below 0': (table(HEADER, entry([-1, -1])), 'x has a shape that cannot be'),
    'overflow': (table(HEADER, entry([2**40, 2**40, 0])), 'x has a shape that cannot be'),
    'ranks': (table(HEADER, entry([1] * 300)), 'x has a shape that cannot be'),
    'size': (table(HEADER, entry([2**40], size=4)), 'x has a size or a place that cannot be'),
    'texts': (table(HEADER, entry([2**40], dtype=7, size=9)), 'x has a size or a place that'),
    'before': (table(HEADER, entry([1], offset=-4)), 'x has a size or a place that cannot be'),
    'shard': (table(HEADER, entry([1], shard_id=1)), 'x has a size or a place that cannot be'),
    'far': (table(HEADER, entry(**FAR)), r'it has \d+ of 1,099,511,627,780 bytes'),
    'large': (table(HEADER, entry([2**40])), r'it has \d+ of 4,398,046,511,104 bytes'),
}  # fmt: skip


@pytest.mark.parametrize('index, message', MADE_UP.values(), ids=MADE_UP)
def test_what_cannot_be_is_told(prefix, index, message):
    pathlib.Path(f'{prefix}.index').write_bytes(index)
    with pytest.raises(ValueError, match=message) as error:
        read(prefix)
    assert 'model-1' in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize('length', [10**18, 10**3])
def test_texts_are_no_longer_than_their_tensor(prefix, length):
    pathlib.Path(f'{prefix}.index').write_bytes(table(HEADER, entry([1], dtype=7, size=100)))
    pathlib.Path(f'{prefix}.data-00000-of-00001').write_bytes(varint(length).ljust(100, b'x'))
    with pytest.raises(ValueError, match='is damaged at x: its texts are longer than it'):
        read(prefix)


def test_what_is_made_up_and_right_is_read(prefix):
    data = np.arange(6, dtype=np.float32).tobytes()
    index = table(HEADER, entry([2, 3], crc32c=struct.unpack('<I', checksum(data))[0]))
    pathlib.Path(f'{prefix}.index').write_bytes(index)
    pathlib.Path(f'{prefix}.data-00000-of-00001').write_bytes(data)
    assert read(prefix)['x'].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_several_files_of_data_are_read(tmp_path):
    parts = [str(tmp_path / 'a'), str(tmp_path / 'b')]
    checkpoint._write(parts[0], {'one': tf.constant(1.0)})
    checkpoint._write(parts[1], {'two': tf.constant(2.0)})
    whole = str(tmp_path / 'model-1')
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=whole)
    assert read(whole) == {'one': 1.0, 'two': 2.0}
    os.remove(f'{whole}.data-00001-of-00002')
    with pytest.raises(ValueError, match='is not whole: there is no .*data-00001-of-00002'):
        read(whole)
