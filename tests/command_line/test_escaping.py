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


@pytest.mark.parametrize(
    'value, said',
    [
        ('a name', 'a name'),
        ('\x1b[2J\n\t\u2028\ud800 é 大', r'\x1b[2J\n\t\u2028\ud800 é 大'),
        ('x' * 999, 'x' * 99),
        (1.5, '1.5'),
        ([[[[[[[[['deep']]]]]]]]], '[[[[[[[...]]]]]]]'),
        ([1] * 999, '[1, 1, 1, 1, 1, 1, ...]'),
    ],
)
def test_what_files_say_is_one_short_line(value, said):
    assert escaping.told(value) == said
    assert escaping.told(10**9999) == 'a huge number'  # which Python does not write
