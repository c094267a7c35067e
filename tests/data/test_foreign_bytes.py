"""What is told of bytes that are no text: what they are, or how they would read."""

import gzip
import io
import tarfile

import pytest

from src.data import foreign_bytes


@pytest.mark.parametrize(
    'encoding, text, advice',
    [
        ('cp1252', 'Le vieux château, près d’une forêt.\n', 'vieux château, près'),
        ('cp1252', 'Où est le café ?\n', 'Où est le'),
        ('cp1252', 'Zwölf große Boxkämpfer jagen Viktor.\n', 'Zwölf große Boxkämpfer'),
        ('cp1252', 'It’s a “fine” day – isn’t it?\n', 'It’s a “fine”'),
        ('cp1252', 'El niño comió. ¿Qué pasó?\n', 'El niño comió.'),
        ('cp1250', 'Ještě jsem neviděl tak krásný dům, řekl.\n', 'Ještě jsem neviděl'),
        ('cp1250', 'Zażółć gęślą jaźń, rzekł.\n', 'Zażółć gęślą jaźń,'),
        ('cp1254', 'Pijamalı hasta yağız şoföre güvendi.\n', 'Pijamalı hasta yağız'),
        ('cp1251', 'Съешь же ещё этих мягких булок.\n', 'Съешь же ещё'),
        ('koi8_r', 'Съешь же ещё этих мягких булок.\n', 'Съешь же ещё'),
        ('cp1253', 'Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.\n', 'Ξεσκεπάζω την ψυχοφθόρα'),
        ('cp1255', 'דג סקרן שט בים מאוכזב ולפתע מצא\n', 'דג סקרן שט'),
        ('shift_jis', '吾輩は 猫である。 名前は\n', '吾輩は 猫である。 名前は'),
        ('euc_jp', '吾輩は 猫である。 名前は\n', '吾輩は 猫である。 名前は'),
        ('gb18030', '床前明月光 疑是地上霜 低头\n', '床前明月光 疑是地上霜 低头'),
    ],
)  # fmt: skip
def test_the_encoding_is_named_with_three_words(encoding, text, advice):
    data = (text * 9).encode(encoding)
    start = next(i for i, byte in enumerate(data) if byte > 127)
    assert foreign_bytes.advice('utf-8', data, start) == (
        f'It may be --encoding {encoding}, which reads "{advice}"'
    )


@pytest.mark.parametrize('text', ['Le vieux château est là. ', '床前明月光 ', 'Съешь же ещё '])
def test_a_damaged_byte_in_utf_8_is_no_other_encoding(text):
    data = (text * 40).encode() + b'caf\xe9 noir ' + (text * 40).encode()
    start = len((text * 40).encode()) + 3
    advice = foreign_bytes.advice('utf-8', data, start)
    assert advice.startswith('The text around it is, so that byte is damaged, behind "')
    assert advice.split('"')[1].endswith(f'{text.split()[-1]} caf')
    assert '--encoding' not in advice


def archive():
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode='w') as tar:
            tar.addfile(tarfile.TarInfo('a.txt'))
        return file.getvalue()


@pytest.mark.parametrize(
    'head, kind',
    [
        (archive(), 'a .tar; unpack it'),
        (gzip.compress(b'x', mtime=0), 'packed by gzip'),
        ('Zwölf Boxkämpfer'.encode('utf-16-le'), 'text in utf-16-le, which reads "Zwölf Boxk'),
        ('Zwölf Boxkämpfer'.encode('utf-16-be'), 'text in utf-16-be, which reads "Zwölf Boxk'),
        ('床前明月光 是\n'.encode('utf-16-be'), 'text in utf-16-be, which reads "床前明月光'),
        ('Hello there 👩'.encode('utf-32-le'), 'text in utf-32-le, which reads "Hello there'),
        (b'\x89PNG\r\n\x1a\n\0', 'a picture'),
    ],
)  # fmt: skip
def test_files_are_known_by_what_they_begin_with(head, kind):
    assert foreign_bytes.kind_of(head).startswith(kind)


@pytest.mark.parametrize('head', [b'', b'text', b'one\0two', bytes(range(256)), 'Größe'.encode()])
def test_nothing_is_said_where_nobody_knows(head):
    assert foreign_bytes.kind_of(head) is None
