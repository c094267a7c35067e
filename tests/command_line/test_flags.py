import dataclasses

import pytest

from src.command_line import flags


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
