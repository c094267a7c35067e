import io

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


@pytest.mark.parametrize('terminal', [True, False])
def test_files_and_pipes_get_the_text_as_it_is(monkeypatch, terminal):
    stdout = io.StringIO()
    stdout.isatty = lambda: terminal
    monkeypatch.setattr('sys.stdout', stdout)
    assert escaping.shown('\x1b[2J') == (r'\x1b[2J' if terminal else '\x1b[2J')
