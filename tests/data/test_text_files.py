"""Files to text: which files, which encoding, and what is told of those that cannot be read."""

import codecs
import gzip
import io
import os
import tarfile
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


def tar_of(**texts):
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode='w') as archive:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
        return file.getvalue()


@pytest.mark.parametrize(
    'name, data, kind',
    [
        ('x.tar', tar_of(a=b'one\n'), 'x.tar has NUL characters, in line 1. It is a .tar; unpack'),
        ('x.tar.gz', gzip.compress(tar_of(a=b'one\n'), mtime=0), 'It is a .tar; unpack it'),
        (
            'x.txt',
            gzip.compress(tar_of(a=b'one\n'), mtime=0),
            'byte 0x8b at 1 .* It is packed by gzip',
        ),
        ('x.txt', 'Hello, world\n'.encode('utf-16-le'), '--encoding utf-16-le'),
        ('x.txt', 'Hello, world\n'.encode('utf-16-be'), '--encoding utf-16-be'),
        ('x.txt', b'one\ntwo\0\n\0', 'NUL characters, in line 2. It is damaged, or no text'),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path, monkeypatch, name, data, kind):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=kind) as error:
        read(tmp_path / name)
    assert '\n' not in str(error.value)
    monkeypatch.setattr(text_files, 'BLOCK', 512)
    with pytest.raises(ValueError, match=kind):
        read(tmp_path / name)


def test_bytes_of_a_member_that_are_no_text_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        archive.writestr('a\x1b[2J\n.bin', bytes(300))
    with pytest.raises(ValueError, match=r'x.zip/a\\x1b\[2J\\n.bin has NUL characters'):
        read(tmp_path / 'x.zip')


def test_a_single_nul_is_read_and_told(tmp_path, capsys):
    (tmp_path / 'x.txt').write_bytes(b'one\0two')
    assert read(tmp_path / 'x.txt') == {'x.txt': 'one\0two'}
    assert 'x.txt has a NUL character, which is read as text' in capsys.readouterr().err


@pytest.mark.parametrize('encoding', ['utf-16-le', 'utf-16-be', 'gb18030', 'utf-7'])
def test_a_mark_in_any_encoding_is_no_text(tmp_path, encoding):
    (tmp_path / 'text').write_bytes('\ufeffone\ufefftwo'.encode(encoding))
    assert read(tmp_path / 'text', encoding) == {'text': 'one\ufefftwo'}


def test_the_field_case_of_a_damaged_byte(tmp_path):
    text = 'Le vieux château se dressait, entouré d’une forêt épaisse.\n' * 30
    data = text.encode()
    (tmp_path / 'text').write_bytes(data[:900] + b'caf\xe9 ' + data[900:])
    with pytest.raises(ValueError, match='byte 0xe9 at 903 is not utf-8. The text around it is'):
        read(tmp_path / 'text')


def test_links_to_folders_are_named_and_left_out(tmp_path, capsys):
    (tmp_path / 'texts' / 'inside').mkdir(parents=True)
    (tmp_path / 'other').mkdir()
    for name in ('texts/a', 'texts/inside/b', 'other/c'):
        (tmp_path / name).write_text('x')
    (tmp_path / 'texts' / 'linked').symlink_to(tmp_path / 'other')
    (tmp_path / 'texts' / 'd').symlink_to(tmp_path / 'other' / 'c')
    folder = str(tmp_path / 'texts')
    expected = [os.path.join(folder, name) for name in ('a', 'd', 'inside/b')]
    assert text_files.files_of(folder) == expected
    told = f'Links to folders are left out: {folder}/linked. To read one, name it itself\n'
    assert capsys.readouterr().err == told
    assert text_files.files_of(f'{folder}/linked') == [f'{folder}/linked/c']
    assert capsys.readouterr().err == ''


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / 'texts' / 'secret').mkdir(parents=True)
    (tmp_path / 'texts' / 'a').write_text('x')
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith('secret'):
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refusing)
    with pytest.raises(PermissionError, match='texts/secret'):
        text_files.files_of(str(tmp_path / 'texts'))


@pytest.mark.parametrize('target', ['loop', 'nowhere'])
def test_a_link_that_leads_nowhere_is_named(tmp_path, target):
    (tmp_path / 'loop').symlink_to(tmp_path / target)
    for path in (tmp_path, tmp_path / 'loop', tmp_path / 'l*p'):
        (only,) = text_files.files_of(str(path))
        with pytest.raises(OSError, match=f'{tmp_path}/loop'):
            read(only)


def test_what_is_there_is_no_pattern(tmp_path):
    for name in ('a [draft] b/one.txt', 'a [draft] b/[x].txt', 'a d b/two.txt', 'x.txt', '*/y'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('x')

    def names(path):
        return [os.path.relpath(p, tmp_path) for p in text_files.files_of(str(tmp_path / path))]

    assert names('a [draft] b/*.txt') == ['a [draft] b/[x].txt', 'a [draft] b/one.txt']
    assert names('a [draft] b/[o]ne.txt') == ['a [draft] b/one.txt']
    assert names('a [draft] b/[x].txt') == ['a [draft] b/[x].txt']
    assert names('a [draft] b') == ['a [draft] b/[x].txt', 'a [draft] b/one.txt']
    assert names('a [d] b/*.txt') == ['a d b/two.txt']
    assert names('[x].txt') == ['x.txt']
    assert names('*') and names('*') == ['*/y']


def test_a_file_that_cannot_be_read_to_its_end_is_named():
    with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"):
        read('/proc/self/mem')
