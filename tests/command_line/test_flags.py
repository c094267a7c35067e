import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from src.command_line import flags
from src.training import train_config


@dataclasses.dataclass
class Config:
    """Do something."""

    path: str = flags.positional(metavar='PATH', help='where')
    needed: str = flags.flag(help='what')
    size: int = flags.flag(3, metavar='N', help='how many')
    loud: bool = flags.flag(False, help='shout')

    def __post_init__(self):
        if self.size > 9:
            raise ValueError('--size is too large')


def test_fields_are_flags():
    config = flags.parse(Config, ['here', '--needed', 'x', '--size', '4', '--loud'])
    assert config == Config(path='here', needed='x', size=4, loud=True)
    assert flags.parse(Config, ['here', '--needed', 'x']) == Config('here', 'x')


def test_a_default_arrives_as_it_is_declared():
    class Untyped(str):
        """Says that nobody typed it, as model_directory.DefaultName."""

    @dataclasses.dataclass
    class WithDefault:
        name: str = flags.flag(Untyped('x'), help='what')

    assert type(flags.parse(WithDefault, []).name) is Untyped
    assert type(flags.parse(WithDefault, ['--name', 'x']).name) is str


def test_flags_of_a_class_below_come_last(capsys):
    @dataclasses.dataclass(kw_only=True)
    class More(Config):
        colour: str = flags.flag('red', help='which')

    with pytest.raises(SystemExit):
        flags.parse(More, ['--help'])
    printed = capsys.readouterr().out
    own, of_config = printed.split('\nDo something:\n')  # its docstring is the heading
    assert '--colour' in own and '--size' not in own
    assert of_config.index('--needed') < of_config.index('--size')


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (['here'], 'required: --needed'),
        (['here', '--needed', 'x', '--sise', '4'], 'unrecognized arguments: --sise'),
        (['here', '--need', 'x'], 'required: --needed'),
        (['my', 'drive', '--needed', 'x'], 'arguments: drive. What has spaces in it needs quotes'),
        (['here', '--needed', '--x'], 'that begins with dashes is typed --flag=value'),
        (['here', '--needed', 'x', '--size', 'many'], "invalid int value: 'many'"),
        (['here', '--needed', 'x', '--size', '10'], '--size is too large'),
    ],
)
def test_what_is_wrong_is_said(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        flags.parse(Config, arguments)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_lists_flags_defaults_and_the_docstring(capsys):
    with pytest.raises(SystemExit):
        flags.parse(Config, ['--help'])
    printed = capsys.readouterr().out
    assert 'Do something.' in printed and 'how many (default: 3)' in printed


def call(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['script', *arguments])
    calls = []

    def function(name='124M', seed=None, nsamples=1):
        """A function."""
        calls.append((name, seed, nsamples))

    try:
        flags.call_from_command_line(function, ['name'])
    finally:
        assert len(calls) <= 1
        function.calls = calls
    return calls[0]


@pytest.mark.parametrize('text', ['117', '[1,2]', '1e3', 'None', '{"a": 1}', 'True', "it's", '# x'])
def test_text_arrives_as_typed(monkeypatch, text):
    assert call(monkeypatch, text) == (text, None, 1)
    assert call(monkeypatch, f'--name={text}') == (text, None, 1)
    assert call(monkeypatch, '--name', text, '--seed', '7') == (text, 7, 1)


def test_positions_are_the_signatures(monkeypatch):
    assert call(monkeypatch) == ('124M', None, 1)
    assert call(monkeypatch, '345M', 'None', '5') == ('345M', None, 5)


@pytest.mark.parametrize(
    'arguments', [['--tempature', '1'], ['a', '1', '2', '3'], ['a', '1', '2', 'seed']]
)
def test_an_unknown_flag_is_refused_before_anything_runs(monkeypatch, capsys, arguments):
    monkeypatch.setattr('sys.argv', ['script', *arguments])
    with pytest.raises(SystemExit) as stop:
        flags.call_from_command_line(
            lambda name='', seed=None, nsamples=1: pytest.fail('it ran'), ['name']
        )
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert arguments[-1 if len(arguments) > 2 else 0] in error
    assert 'Known are --name, --seed, --nsamples' in error and error.count('\n') == 1


def typed(monkeypatch, *arguments):
    """What a function is called with that has all kinds of parameters, or what was complained."""
    monkeypatch.setattr('sys.argv', ['script', *arguments])
    called = []

    def function(name='x', seed=None, length=1, stream: bool = False, prefix=None):
        """Say something.

        Args:
            name: what it is,
                on two lines
            stream: shows it
        """
        called.append((name, seed, length, stream, prefix))

    flags.call_from_command_line(function, ['name', 'prefix'], elsewhere={'k': 'length'})
    return called[0]


@pytest.mark.parametrize(
    'arguments, expected',
    [
        (['--seed', '[1, 2]', '--length', '1e3'], ('x', [1, 2], 1000.0, False, None)),
        (['--seed', 'None', '--length', '-1'], ('x', None, -1, False, None)),
        (['--length', '10**12', '--seed', '[' * 100_000], ('x', '[' * 100_000, '10**12', 0, None)),
        (['-length', '3', 'a', '7'], ('a', 7, 3, False, None)),
        (['--stream', 'False', 'a'], ('a', None, 1, False, None)),
        (['--stream=yes'], ('x', None, 1, True, None)),
        (['--stream', '--nostream'], ('x', None, 1, False, None)),
        (['--prefix', '- he said', '--stream'], ('x', None, 1, True, '- he said')),
        (['--prefix=--x', '--name', '---'], ('---', None, 1, False, '--x')),
        (['--prefix', 'a', '7'], ('7', None, 1, False, 'a')),
        (['--prefix=', '--name', '1\n2'], ('1\n2', None, 1, False, '')),
    ],
)
def test_values_are_what_they_look_like(monkeypatch, arguments, expected):
    assert typed(monkeypatch, *arguments) == expected


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (['--k', '3'], 'There is no flag --k; it is called --length here. Known are --name, '),
        (['--pre', 'a'], 'There is no flag --pre. Did you mean --prefix? Known are --name, '),
        (['--steam'], 'There is no flag --steam. Did you mean --stream? Known are --name, '),
        (['--prefix', 'The', 'secret', 'of'], 'needs quotes, --prefix "The secret …"'),
        (['--prefix', '--stream'], 'begins with dashes: --prefix=--stream'),
        ([*'12345', '--seed'], '--seed needs a value behind it'),
        (['--stream', 'maybe'], "--stream is 'maybe'; it must be True or False"),
        (['a', '1', '2', 'no', 'p', '\x1b[2J'], "'\\x1b[2J' is a word too many; a text with"),
    ],
)
def test_mistakes_with_a_function_are_told_in_one_line(monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as stop:
        typed(monkeypatch, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count('\n') == 1 and '\x1b' not in error


def test_help_of_a_function_is_whole_and_fits_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit) as stop:
        typed(monkeypatch, 'a', '--help')
    printed = capsys.readouterr().out
    assert not stop.value.code and max(map(len, printed.splitlines())) <= 80
    assert 'what it is, on two lines (default: x)' in printed and '--nostream' in printed
    assert 'GROUP' not in printed and ' -s' not in printed


CLOSED = """
import os, sys
from src.command_line import flags
from src.training import train_config
def main():
    with open(sys.argv[1], 'w') as file:
        print(1), print(2, file=sys.stderr), os.write(1, b'3'), sys.stdin.read()
        file.write(str(file.fileno() > 2))
flags.run(main)
"""


@pytest.mark.parametrize('redirection', ['<&-', '>&-', '2>&-', '<&- >&-', '>&- 2>&-', '<&- 2>&-'])
def test_closed_streams_are_nothing(tmp_path, redirection):
    (tmp_path / 'program.py').write_text(CLOSED)
    command = f'"$0" "$1/program.py" "$1/file" {redirection}'
    result = subprocess.run(
        ['bash', '-c', command, sys.executable, tmp_path],
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0 and 'Traceback' not in result.stderr
    assert (tmp_path / 'file').read_text() == 'True'


def test_a_notebooks_streams_and_signals_stay_as_they_are(monkeypatch):
    monkeypatch.setattr('sys.stdout', io.StringIO())  # it has no reconfigure, like OutStream
    before = signal.getsignal(signal.SIGTERM)
    assert flags.run(lambda: signal.getsignal(signal.SIGTERM)) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    found = []
    thread = threading.Thread(target=lambda: found.append(flags.run(lambda: 7)))
    thread.start()
    thread.join()
    assert found == [7]


@pytest.mark.parametrize('error', [ValueError('in \x1b[2J.txt'), OSError('in \x1b[2J.txt')])
def test_names_in_messages_give_a_terminal_no_orders(error):
    def fails():
        raise error

    with pytest.raises(SystemExit) as stop:
        flags.run(fails)
    assert stop.value.code == r'in \x1b[2J.txt'


def test_a_closed_terminal_ends_a_program_but_not_behind_nohup():
    code = (
        'import signal, os, time, sys; from src.command_line import flags; '
        'flags.run(lambda: (os.kill(os.getpid(), signal.SIGHUP), time.sleep(0.1)))'
    )
    for ignored, expected in (('', 128 + signal.SIGHUP), ("trap '' HUP;", 0)):
        command = ['bash', '-c', f'{ignored} "{sys.executable}" -c "{code}"']
        assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == expected


def test_what_other_programs_call_a_flag_of_training_is_named(capsys):
    names = [field.name for field in dataclasses.fields(train_config.TrainConfig)]
    assert set(train_config.ELSEWHERE.values()) <= set(names)
    assert not set(train_config.ELSEWHERE) & set(names)
    for name, ours in (('max_iters', 'steps'), ('num-train-epochs', 'epochs')):
        with pytest.raises(SystemExit):
            flags.parse(
                train_config.TrainConfig,
                ['--dataset', 'x', f'--{name}', '3'],
                elsewhere=train_config.ELSEWHERE,
            )
        assert f'--{name} 3. It is called --{ours} here. --help' in capsys.readouterr().err
