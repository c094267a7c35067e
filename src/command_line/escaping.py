"""Foreign text on a terminal, which takes no orders from files, names and models."""

import re
import reprlib
import sys

# Control characters, in Unicode and as stray bytes of a file's name; but tabs and line breaks.
ORDERS = re.compile(r'(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f]')


def printable(text):
    """The text with its control characters written out, as in \\x1b[2J; tabs and lines stay."""
    return ORDERS.sub(lambda match: f'\\x{ord(match[0]) & 0xFF:02x}', text)


def told(value):
    """What a file says, for a message: in one line, and no longer than one reads."""
    try:
        text = f'{value:.99}' if isinstance(value, str) else reprlib.repr(value)
    except ValueError:  # a number with more digits than Python writes
        text = 'a huge number'
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text):
    """As `printable` where stdout is a terminal; files and pipes get the text as it is."""
    return printable(text) if sys.stdout.isatty() else text
