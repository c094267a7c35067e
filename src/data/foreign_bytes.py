"""What bytes are that are not text in the encoding that was named, for messages. They are guesses.

A text in another encoding is shown as it would read, because no guess is as good as a look.
"""

import codecs
import re
import unicodedata

import charset_normalizer

NEAR = 2**15  # bytes on each side of one that is wrong, from which its encoding is guessed
HEAD = 2**12  # bytes at the beginning of a file, in which it is recognized

# What files begin with, and what they are then; after Ian Darwin's `file`.
BEGINNINGS = (
    (b'\x1f\x8b', 'packed by gzip; if text is in it, give it a name that ends in .gz'),
    (b'PK\x03\x04', 'a .zip, or a document of an office program; save it as text'),
    (b'BZh', 'packed by bzip2; unpack it'),
    (b'\xfd7zXZ\x00', 'packed by xz; unpack it'),
    (b'\x28\xb5\x2f\xfd', 'packed by zstd; unpack it'),
    (b'7z\xbc\xaf\x27\x1c', 'a .7z; unpack it'),
    (b'Rar!', 'a .rar; unpack it'),
    (b'%PDF-', 'a .pdf; save its text as a file'),
    (b'\xd0\xcf\x11\xe0', 'a document of an office program; save it as text'),
    (b'\x89PNG', 'a picture'),
    (b'\xff\xd8\xff', 'a picture'),
    (b'GIF8', 'a picture'),
    (b'SQLite format 3', 'a database; save its texts as .csv'),
    (b'PAR1', 'a .parquet; save it as .csv or .jsonl'),
    (b'\x93NUMPY', 'an array of numpy; give it a name that ends in .npy'),
    (b'\x7fELF', 'a program'),
)
TAR = (257, b'ustar')  # where a .tar says so

MARKLESS = ('utf-32-le', 'utf-32-be', 'utf-16-le', 'utf-16-be')
CONTROLS = re.compile(r'[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe\uffff]')

# Encodings that are proved by what no other text would give by chance: this share of all
# characters beyond ASCII.
PROVED = (('shift_jis', r'[\u3041-\u3096]', 0.2), ('euc_jp', r'[\u3041-\u3096]', 0.2))
PROVED += (('cp1255', r'[\u05d0-\u05ea]{2,}', 0.9),)  # Hebrew, which has whole words of them

# The letters beyond ASCII of languages, by the encodings that the Web uses for them, the common
# ones first (encoding.spec.whatwg.org). All letters of a text have to be of a single language: in
# another encoding they would be from anywhere.
LATIN = {
    'cp1252': (
        'àâæçéèêëîïôœùûüÿ', 'äöüß', 'áéíñóúüºª', 'áâãàçéêíóôõúü', 'àèéìíîòóùú', 'äåöéàü',
        'æøåéòóôâ', 'áðéíóúýþæö', 'éëïóöüèáä', 'àéèíïóòúüçŀ',
    ),
    'cp1250': (
        'ąćęłńóśźż', 'áčďéěíňóřšťúůýž', 'áéíóöőúüű', 'áäčďéíĺľňóôŕšťúýž', 'čćđšž', 'ăâîşţ'
    ),
    'cp1254': ('çğıöşüâîûi̇',),
    'cp1257': ('ąčęėįšųūž', 'āčēģīķļņšūž', 'äõöüšž'),
}  # fmt: skip
LATIN['iso8859_2'] = LATIN['cp1250']
LATIN['mac_roman'] = LATIN['cp1252']
LATIN['cp850'] = LATIN['cp1252']
# What stands between letters in any language.
MARKS = frozenset('’‘“”„‚«»‹›–—…•·°§©®€£¡¿\u00a0\u00ad')


def kind_of(head):
    """What a file is that begins with these bytes, as in 'It is …'; None where nobody knows."""
    if head[TAR[0] :].startswith(TAR[1]):
        return 'a .tar; unpack it, and name the folder'
    kind = next((kind for begin, kind in BEGINNINGS if head.startswith(begin)), None)
    if kind is None and (encoding := _without_mark(head)):
        return f'text in {_read_as(encoding, head)}: --encoding {encoding}'
    return kind


def _without_mark(head):
    """The name of UTF-16 or UTF-32 where these bytes are that, without a byte order mark."""
    best, most = None, 0
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or (_decoded(head, 'utf-8') and head.count(0) < len(head) / 4):
        return None
    for encoding in MARKLESS:
        try:
            text = head[: len(head) // 4 * 4].decode(encoding)
        except UnicodeDecodeError as error:
            if error.start < len(error.object) - 4:  # else a character that is cut in two
                continue
            text = error.object[: error.start].decode(encoding)
        beyond = [character.encode(encoding) for character in text if not character.isascii()]
        # Words of one byte a letter would be Chinese here.
        if CONTROLS.search(text) or sum(map(_is_ascii, beyond)) > len(beyond) / 2:
            continue
        # In the wrong order the blanks and line ends of any script are rare characters.
        ascii = sum(character < '\x7f' for character in text)
        if ascii > most:
            best, most = encoding, ascii
    return best


def _is_ascii(data):
    return all(ord(' ') <= byte < 0x7F for byte in data)


def advice(encoding, wrong, start):
    """What to do about bytes of which that at `start` is not in an encoding: a sentence or two."""
    around = wrong[max(0, start - NEAR) : start + NEAR]
    if start > NEAR:  # the first line may begin inside a character
        around = around.partition(b'\n')[2] or around
    if encoding == 'utf-8' and _is_damaged_utf8(around):
        before = wrong[max(0, start - 40) : start].decode('utf-8', 'ignore').split()[-3:]
        return (
            f'The text around it is, so that byte is damaged, behind "{" ".join(before)}". Mend '
            'it, or leave out what is damaged: iconv -c -f utf-8 -t utf-8 FILE > NEW'
        )
    if best := _encoding_of(around):
        return f'It may be --encoding {_read_as(best, around)}'
    return 'If it is text, name its encoding: --encoding'


def _is_damaged_utf8(around):
    """Whether most of the bytes beyond ASCII are whole characters of UTF-8."""
    whole = around.decode('utf-8', 'ignore')
    beyond = len(whole.encode('utf-8')) - sum(map(str.isascii, whole))
    bad = len(around) - len(whole.encode('utf-8'))
    return beyond > 2 * bad


def _encoding_of(around):
    """The name of the encoding that these bytes are probably in, or None."""
    if around.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return 'utf_16'
    for encoding, pattern, share in PROVED:
        text = _decoded(around, encoding)
        beyond = [character for character in text if not character.isascii()]
        if len(''.join(re.findall(pattern, text))) > max(9, share * len(beyond)):
            return encoding
    best = charset_normalizer.from_bytes(around).best()
    text = str(best) if best else around.decode('cp1252', 'replace')
    beyond = [character for character in text if not character.isascii()]
    latin = sum(not c.isalpha() or unicodedata.name(c, '').startswith('LATIN') for c in beyond)
    if latin > len(beyond) / 2:
        scores = {encoding: _latin_score(around, encoding) for encoding in LATIN}
        likely = max(scores, key=scores.get)  # the first of several
        if scores[likely] > 0.7:
            return likely
    return best and best.encoding


def _latin_score(around, encoding):
    """The share of letters and marks beyond ASCII that one language would have."""
    text = _decoded(around, encoding)
    beyond = [c for c in text.lower() if not c.isascii()]
    if not beyond or CONTROLS.search(text):
        return 0
    return max(
        sum(c in letters or c in MARKS for c in beyond) / len(beyond) for letters in LATIN[encoding]
    )


def _decoded(data, encoding):
    """The text, or '' where the bytes are not in that encoding; a last half character may be."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4:
            return ''
        return data[: error.start].decode(encoding)


def _read_as(encoding, data):
    """'cp1252, which reads "forêt épaisse. Où"': its name, and up to three words."""
    words = data.decode(encoding, 'ignore').split()
    telling = next((i for i, word in enumerate(words) if not word.isascii()), 0)
    first = max(0, min(telling - 1, len(words) - 3))
    few = ' '.join(words[first : first + 3])[:40]
    shown = ''.join(c if c.isprintable() else '\ufffd' for c in few)
    return f'{encoding}, which reads "{shown}"'
