"""JSON to records: an object or a text in each line, or in an array, or one behind the other."""

import itertools
import json
import re

from . import text_files

KINDS = ('.jsonl', '.ndjson', '.json')
BETWEEN = re.compile(r'[ \t\n\r,]*')  # values; a comma too many loses nothing
NUMBERS_AS_WRITTEN = {'parse_int': str, 'parse_float': str, 'parse_constant': str}


def of_lines(name, lines):
    """(number, {column: value}) of each line that is not blank.

    Raises ValueError: one that is neither an object nor a text; the message names its number.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, **NUMBERS_AS_WRITTEN)
        except (ValueError, RecursionError) as error:
            problem = str(error).replace('line 1 column', 'column')
            raise ValueError(f'{name}: row {number} is not JSON: {problem}') from None
        yield number, _record(name, number, value, line.strip())


def of_values(name, blocks, longest):
    """The same of a .json, whose values may have several lines, and be in an array or in none.

    Args:
        blocks: its text, of which no more is held than a value that is not complete.
        longest: characters that a value may have.
    """
    decoder = json.JSONDecoder(**NUMBERS_AS_WRITTEN)
    text, number, wanted = '', 0, 0
    array = closed = None
    for block in itertools.chain(blocks, [None]):
        text += block or ''
        if block is not None and len(text) < wanted:
            continue
        at = 0
        while (at := BETWEEN.match(text, at).end()) < len(text):
            if array is None and text[at] == '[':
                array, at = True, at + 1
                continue
            array = bool(array)
            if array and not closed and text[at] == ']':
                closed, at = True, at + 1
                continue
            try:
                if closed:
                    raise ValueError('there is more behind the array')
                value, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                shorter = len(text) - at < longest and block is not None
                if shorter and not closed and not isinstance(error, RecursionError):
                    wanted = 2 * (len(text) - at)  # it may go on; tried less often as it grows
                    break
                problem = getattr(error, 'msg', error)
                raise ValueError(f'{name}: row {number + 1} is not JSON: {problem}') from None
            number += 1
            yield number, _record(name, number, value, text[at:end])
            at, wanted = end, 0
        text = text[at:]
    if array and not closed:
        raise ValueError(f'{name} is cut off: its array has no end behind row {number}')


def _record(name, number, value, written):
    if isinstance(value, str) and written.startswith('"'):  # and not a number as it is written
        return {'text': value}
    if not isinstance(value, dict):
        raise ValueError(
            f'{name}: row {number} is {text_files.shown(written[:40])}; it must be an object, '
            '{"text": …}, or a text'
        )
    return value
