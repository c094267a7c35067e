"""Files to text: which files, which encoding, and what is told of those that cannot be read."""

import codecs
import gzip
import io
import os
import zipfile

import pytest
import tqdm

from src.data import text_files


def read(path, encoding='utf-8'):
    """{name: text} of all texts in a file."""
    with tqdm.tqdm(disable=True) as progress:
        texts = text_files.texts_of(str(path), encoding, progress)
        return {os.path.basename(name): ''.join(blocks) for name, blocks in texts}


def test_files_are_found_in_the_order_of_their_names(tmp_path):
    for name in ('b.txt', 'a/z.txt', 'a/c/d', '.hidden/x.txt', 'a/.hidden', 'B.txt'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('x')
    files = text_files.files_of(str(tmp_path))
    assert [os.path.relpath(f, tmp_path) for f in files] == ['B.txt', 'a/c/d', 'a/z.txt', 'b.txt']
    assert text_files.files_of(str(tmp_path / '*.txt')) == [
        str(tmp_path / 'B.txt'),
        str(tmp_path / 'b.txt'),
    ]
    assert text_files.files_of(str(tmp_path / '**' / 'd')) == [str(tmp_path / 'a' / 'c' / 'd')]
    assert text_files.files_of(str(tmp_path / 'a' / '.hidden')) == [str(tmp_path / 'a/.hidden')]


@pytest.mark.parametrize(
    'encoding, text, suggested',
    [
        ('utf-16', 'Zwölf Boxkämpfer jagen Viktor.\n' * 9, 'utf_16'),
        ('gb18030', '床前明月光，疑是地上霜。举头望明月，低头思故乡。\n' * 9, 'gb18030'),
        ('cp1251', 'Съешь же ещё этих мягких французских булок, да выпей чаю.\n' * 9, 'cp1251'),
    ],
)
def test_another_encoding_is_noticed_and_named(tmp_path, encoding, text, suggested):
    path = tmp_path / 'text'
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=f'text: byte .* may be --encoding {suggested}'):
        read(path)
    assert read(path, encoding) == {'text': text}


@pytest.mark.parametrize('at', [0, 100, 2**20 - 1, 2**20, 3 * 2**20])
def test_the_offset_of_a_wrong_byte_is_told(tmp_path, at):
    path = tmp_path / 'text'
    path.write_bytes('ö'.encode() * (at // 2) + b'x' * (at % 2) + b'\xff more')
    with pytest.raises(ValueError, match=f'byte 0xff at {at} is not utf-8'):
        read(path)


def test_a_file_that_ends_inside_a_character_is_told(tmp_path):
    (tmp_path / 'text').write_bytes(b'abc' + '中'.encode()[:2])
    with pytest.raises(ValueError, match='byte 0xe4 at 3 is not utf-8'):
        read(tmp_path / 'text')


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / 'picture').write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(range(256)) * 30)
    with pytest.raises(ValueError, match='byte 0x89 at 0 is not utf-8'):
        read(tmp_path / 'picture')


@pytest.mark.parametrize('encoding', ['utf-8', 'UTF8', 'utf-8-sig'])
def test_a_byte_order_mark_at_the_beginning_is_no_text(tmp_path, encoding):
    (tmp_path / 'text').write_bytes(codecs.BOM_UTF8 + 'one\ufefftwo'.encode())
    assert read(tmp_path / 'text', encoding) == {'text': 'one\ufefftwo'}


def test_the_offset_of_a_wrong_byte_counts_the_mark(tmp_path):
    (tmp_path / 'text').write_bytes(codecs.BOM_UTF8 + b'abc\xff')
    with pytest.raises(ValueError, match='byte 0xff at 6 is not utf-8'):
        read(tmp_path / 'text')


POEM = '床前明月光\r\n疑是地上霜 👩‍👩‍👧‍👦\n'
READ = POEM.replace('\r', '')


def test_what_gzip_packed_is_read(tmp_path):
    (tmp_path / 'poem.txt.gz').write_bytes(gzip.compress(codecs.BOM_UTF8 + POEM.encode()))
    assert read(tmp_path / 'poem.txt.gz') == {'poem.txt': READ}
    (tmp_path / 'POEM.GZ').write_bytes(gzip.compress(POEM.encode('gb18030')))
    assert read(tmp_path / 'POEM.GZ', 'gb18030') == {'POEM': READ}


def test_a_zip_is_read_as_a_folder_is(tmp_path):
    with zipfile.ZipFile(tmp_path / 'poems.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir('folder')
        archive.writestr('b.txt', codecs.BOM_UTF8 + POEM.encode())
        for hidden in ('.hidden', '__MACOSX/._b.txt', '.folder/a.txt'):
            archive.writestr(hidden, b'\xff')
        archive.writestr('folder/a.csv', 'two')
        archive.writestr('B.txt', '')
    with tqdm.tqdm(disable=True) as progress:
        texts = text_files.texts_of(str(tmp_path / 'poems.zip'), 'utf-8', progress)
        texts = [(os.path.relpath(name, tmp_path), ''.join(blocks)) for name, blocks in texts]
    assert texts == [
        ('poems.zip/B.txt', ''), ('poems.zip/b.txt', READ), ('poems.zip/folder/a.csv', 'two')
    ]  # fmt: skip


def test_a_member_that_is_no_text_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        archive.writestr('folder/picture.png', b'\x89PNG\r\n\x1a\n')
    with pytest.raises(ValueError, match='x.zip/folder/picture.png: byte 0x89 at 0 is not utf-8'):
        read(tmp_path / 'x.zip')


def packed(kind):
    noise = ''.join(map(chr, range(0x4E00, 0x9F00))).encode()
    if kind == 'gz':
        return gzip.compress(noise)
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('a.txt', noise)
        return file.getvalue()


def changed(data, at):
    data = bytearray(data)
    data[at] ^= 255
    return bytes(data)


@pytest.mark.parametrize('kind', ['gz', 'zip'])
@pytest.mark.parametrize(
    'damage',
    [
        lambda data: b'no archive',
        lambda data: data[: len(data) // 2],
        lambda data: changed(data, len(data) // 2),
        lambda data: changed(data, data.rfind(b'PK\x01\x02') + 16 if b'PK' in data else -8),
    ],
    ids=['another', 'cut off', 'a byte inside', 'the checksum'],
)
def test_a_damaged_archive_is_told(tmp_path, kind, damage):
    assert len(read_bytes(tmp_path, kind, packed(kind))) == 1
    with pytest.raises(ValueError, match=rf'x\.{kind}.* (cannot be unpacked|is not utf-8)'):
        read_bytes(tmp_path, kind, damage(packed(kind)))


def read_bytes(directory, kind, data):
    (directory / f'x.{kind}').write_bytes(data)
    return read(directory / f'x.{kind}')


def test_an_archive_with_a_password_is_told(tmp_path):
    data = bytearray(packed('zip'))
    data[6] |= 1  # the flag that says so, in front of the member and in the list of members
    data[data.rindex(b'PK\x01\x02') + 8] |= 1
    with pytest.raises(ValueError, match='x.zip/a.txt cannot be unpacked: .*password'):
        read_bytes(tmp_path, 'zip', bytes(data))


def test_progress_is_in_bytes_of_the_file(tmp_path):
    data = packed('gz')
    (tmp_path / 'x.gz').write_bytes(data)
    with tqdm.tqdm(total=len(data)) as progress:
        for _, blocks in text_files.texts_of(str(tmp_path / 'x.gz'), 'utf-8', progress):
            assert ''.join(blocks)
        assert progress.n == len(data)
