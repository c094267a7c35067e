import pytest

from src.command_line import escaping


@pytest.mark.parametrize(
    'text, shown',
    [
        ('plain text\twith\nlines\r\nof two kinds, é 大 🙂', None),
        ('\x1b[2J\x1b]0;title\x07', r'\x1b[2J\x1b]0;title\x07'),
        ('a\rb\x00\x7f\x9b31m', r'a\x0db\x00\x7f\x9b31m'),
        (b'file \x9b31m \xe9'.decode('utf-8', 'surrogateescape'), 'file \\x9b31m \udce9'),
        ('', None),
    ],
)
def test_a_terminal_gets_no_orders(text, shown):
    assert escaping.printable(text) == (text if shown is None else shown)
