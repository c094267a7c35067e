"""The two sampling scripts as programs, on a tiny model, and mistakes of those and of train.py."""

import contextlib
import io
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import sys
import threading
import time

import programs
import pytest
from conftest import traced

from src import interactive_conditional_samples
from src.command_line import flags
from src.sampling import backends

ROOT = pathlib.Path(__file__).parent.parent
# XLA would compile longer than the steps take, where a tiny model is not to save memory.
TRAIN = [ROOT / 'train.py', '--model_name', 'tiny', '--dataset', 'text', '--sample_every', 0]
TRAIN.append('--memory_saving_gradients')
INTERACT = [ROOT / 'src' / 'interactive_conditional_samples.py']
GENERATE = [ROOT / 'src' / 'generate_unconditional_samples.py']
SEPARATOR = '=' * 80
STREAMS = ('stdin', 'stdout', 'stderr')


def header(number):
    return '=' * 40 + f' SAMPLE {number} ' + '=' * 40


def test_talking_to_a_model(place, run):
    command = [*INTERACT, '--model_name', 'tiny', '--length', 4, '--nsamples', 2, '--top_k=40']
    result = run(command + ['--temperature', 0], 'Good\n\n' + 'x' * 40 + '\n[1, 2]\n')
    assert result.returncode == 0
    good, long, list_ = re.split(r'(?<=={80}\n)', result.stdout)[:3]
    text = good.splitlines()[1]
    assert good.startswith(f'Model prompt >>> {header(1)}\n')
    assert good.count('\n' + header(2) + '\n') == 1 and good.count(text) == 2
    assert long.startswith('Model prompt >>> Prompt should not be empty!\nModel prompt >>> =====')
    assert long.count('SAMPLE') == 2  # of a prompt that is longer than the window
    assert list_.startswith(f'Model prompt >>> {header(1)}\n')
    assert result.stdout.endswith(f'{SEPARATOR}\nModel prompt >>> \n')  # the end of what was typed
    assert 'Loading checkpoint models/tiny/model.ckpt\n' in result.stderr


def test_prompts_that_are_no_text_are_asked_for_again(place, run):
    result = run([*INTERACT, 'tiny', '--length', 2], 'caf\udce9\n' * 2000 + '\ufeff\nGood\n')
    assert result.returncode == 0
    assert result.stderr.count('This prompt is not text in UTF-8; in a pipe, iconv') == 2000
    empty = 'Prompt should not be empty!\n'
    assert result.stdout.replace('Model prompt >>> ', '').startswith(f'{empty}{header(1)}\n')


@pytest.mark.parametrize('flag', ['--top_k=-3', '--temperature=-1', '--top_p=much'])
def test_what_cannot_be_is_refused_before_the_prompt(place, run, flag):
    result = run([*INTERACT, '--model_name', 'tiny', flag], 'Good\n')
    name, value = flag.removeprefix('--').split('=')
    assert result.returncode and result.stdout == ''
    assert name in result.stderr.splitlines()[-1] and value in result.stderr.splitlines()[-1]


def test_on_a_terminal_it_streams_and_control_c_ends_the_text_alone(place):
    terminal, its = pty.openpty()
    command, streams = [*INTERACT, 'tiny', '--length', 10**6], dict.fromkeys(STREAMS, its)
    process = programs.Program(command, place, before=programs.at_a_terminal, **streams)
    os.close(its)
    seen = b''

    def wait_for(text):
        nonlocal seen
        while text not in seen:
            assert select.select([terminal], [], [], 60)[0], seen
            seen += os.read(terminal, 10000)
        seen = seen.partition(text)[2]

    wait_for(b'/model.ckpt\r\nModel prompt >>> ')  # with nothing of TensorFlow's between
    os.write(terminal, b'All the\\\n')
    wait_for(b'... ')
    os.write(terminal, b'world\n')
    wait_for(b'SAMPLE 1')
    wait_for(b'\n')
    while len(seen) < 100:
        seen += os.read(terminal, 10000)
    os.write(terminal, b'\x03')
    wait_for(SEPARATOR.encode())
    wait_for(b'Model prompt >>> ')
    os.write(terminal, b'\x04')  # the end of the input
    with contextlib.suppress(OSError):  # what reading gives when the other end is closed
        while os.read(terminal, 10000):
            pass
    assert process.wait() == 0
    os.close(terminal)


@pytest.fixture
def typed(place, monkeypatch):
    """Type lines at a terminal, each after a function was called."""

    def typed(*lines):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

            def readline(self):
                before, line = todo.pop(0) if todo else (lambda: None, '')
                before()
                return line

        todo = list(lines)
        monkeypatch.setattr(sys, 'stdin', Terminal())

    monkeypatch.chdir(place)
    return typed


def test_the_model_is_loaded_and_compiled_while_the_first_prompt_is_typed(
    typed, monkeypatch, capsys
):
    compiled, made = threading.Event(), []

    def compile_for_first_text(lm, *arguments, **options):
        real(lm, *arguments, **options)
        made.append(lm)
        counts.append(traced(lm))
        compiled.set()

    counts, real = [], backends.compile_for_first_text
    monkeypatch.setattr(backends, 'compile_for_first_text', compile_for_first_text)
    typed((lambda: compiled.wait(60), 'All the world\n'))
    interactive_conditional_samples.interact_model('tiny', top_k=7, length=9, stream=True)
    assert counts == [2] and traced(made[0]) == 2
    said = capsys.readouterr()
    assert said.err == 'Loading checkpoint models/tiny/model.ckpt\n'
    assert said.out.startswith(f'Model prompt >>> {header(1)}\n')


def test_who_types_faster_is_told(typed, monkeypatch, capsys):
    compiling = threading.Event()
    monkeypatch.setattr(backends, 'compile_for_first_text', lambda *_, **__: compiling.wait(60))
    typed((threading.Timer(0.5, compiling.set).start, 'All\n'))
    interactive_conditional_samples.interact_model('tiny', length=2)
    said = capsys.readouterr()
    assert 'Loading, and compiling for the first text; later ones come at once. What' in said.err
    assert said.out.startswith(f'Model prompt >>> {header(1)}\n')


def test_ctrl_c_while_it_compiles_ends_that_text(typed, monkeypatch, capsys):
    compiling = threading.Event()
    monkeypatch.setattr(backends, 'compile_for_first_text', lambda *_, **__: compiling.wait(60))
    interrupt = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    typed((interrupt.start, 'All\n'))
    try:
        interactive_conditional_samples.interact_model('tiny', length=2)
    finally:
        compiling.set()
    assert capsys.readouterr().out == f'Model prompt >>> \n{SEPARATOR}\nModel prompt >>> \n'


@pytest.mark.parametrize('when', ['typing', 'waiting'])
def test_a_model_that_cannot_be_loaded_ends_the_program(typed, place, when):
    """Nobody types for nothing."""
    with open(place / 'models' / 'tiny' / 'model.ckpt.data-00000-of-00001', 'r+b') as file:
        file.truncate(100)
    typed((lambda: time.sleep(60), 'All\n') if when == 'typing' else (lambda: None, 'All\n'))
    with pytest.raises(ValueError, match='data-.* is cut off'):
        interactive_conditional_samples.interact_model('tiny', length=2)


def test_prefixes_from_a_file_to_a_new_file(place, run):
    (place / 'prefixes').write_text('All\n\nthe world is\n')
    command = [*GENERATE, 'tiny', '--length', 5, '--seed', 1, '--include_prefix']
    both = run([*command, '--prefix_file', 'prefixes', '--batch_size', 2, '--out', 'both'])
    assert both.returncode == 0 and both.stdout == '', both.stderr
    texts = (place / 'both').read_text().split('\n' + '=' * 20 + '\n')
    assert [text[: len('All')] for text in texts] == ['All', 'the', '']
    (place / 'one').write_text('the world is')
    one = run([*command, '--prefix', 'FILE:one', '--nsamples', 1, '--stream'])
    assert one.stdout == f'{header(1)}\n{texts[1]}\n'

    again = run([*command, '--prefix', 'All', '--nsamples', 1, '--out', 'both'])
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] == 'both is there already; give another --out'
    assert (place / 'both').read_text().startswith(texts[0])

    command += ['--prefix', 'All', '--nsamples', 2, '--out', 'new', '--logprobs', 3]
    assert run(command).returncode == 0
    lines = [json.loads(line) for line in (place / 'new').read_text().splitlines()]
    assert [line['prompt'] for line in lines] == ['All', 'All']
    assert [len(line['tokens']) for line in lines] == [5, 5]


def test_marks_and_broken_files_of_prefixes(place, run):
    command = [*GENERATE, 'tiny', '--length', 2, '--nsamples', 1, '--include_prefix', 'yes']
    (place / 'marked').write_bytes('\ufeffAll'.encode())
    for prefix in (['--prefix', 'FILE:marked'], ['--prefix_file', 'marked']):
        result = run([*command, *prefix])
        assert result.stdout.startswith(f'{header(1)}\nAll'), result.stderr
    (place / 'broken').write_bytes(b'\xe8')
    result = run([*command, '--prefix', 'FILE:broken'])
    assert result.returncode == 1 and 'broken is not UTF-8, at byte 0' in result.stderr
    result = run([*command, '--prefix', 'Ж', '--out', 'new'])
    assert result.returncode == 1 and not (place / 'new').exists()


class Stopping(io.StringIO):
    """What is read where a signal comes instead."""

    def readline(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_at_the_prompt_is_polite(place, monkeypatch, capsys, number):
    typed = Stopping()
    typed.number = number
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, 'argv', [*map(str, INTERACT), 'tiny'])
    monkeypatch.setattr(sys, 'stdin', typed)
    with pytest.raises(SystemExit) as end:
        flags.run(interactive_conditional_samples.main)
    assert end.value.code == 128 + number
    said = capsys.readouterr()
    assert said.out == 'Model prompt >>> ' and 'Traceback' not in said.err


def test_a_program_that_is_stopped_at_the_prompt_ends(place):
    process = programs.Program([*INTERACT, 'tiny'], place)
    assert process.stdout.read(len('Model prompt >>> ')) == 'Model prompt >>> '
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert 'Traceback' not in errors


def test_samples_from_nothing_in_openais_order_of_arguments(place, run):
    # model_name, seed, nsamples, batch_size, length, temperature, top_k, top_p
    texts = []
    for batch_size in (1, 2):
        result = run([*GENERATE, 'tiny', 7, 3, batch_size, 5, 1, 40, 0.9])
        assert result.returncode == 0, result.stderr
        assert [line for line in result.stdout.splitlines() if 'SAMPLE' in line] == [
            header(number) for number in (1, 2, 3)
        ]
        texts.append(result.stdout)
    assert texts[0] == texts[1]


def test_a_reader_that_leaves_ends_the_samples(place):
    process = programs.Program([*GENERATE, 'tiny', '--length', 3], place)
    assert process.stdout.readline() == header(1) + '\n'
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert 'Traceback' not in process.stderr.read()
    process.close()


@pytest.mark.parametrize(
    'command, code, complaint',
    [
        ([*INTERACT, '--modelname', 'tiny'], 2, '--modelname'),
        ([*GENERATE, 'tiny', '--nsamples', 1, '--lenght', 3], 2, '--lenght'),
        (
            [*GENERATE, '117'],
            1,
            'There is no models/117. Choose one with --model_name: tiny',
        ),
        (
            [*GENERATE, '[1,2]'],
            1,
            'There is no models/[1,2]. Choose one with --model_name',
        ),
        ([*GENERATE, 'tiny', '--models_dir', 'none'], 1, 'Download a model: python3 download_mod'),
        ([*GENERATE, 'tiny', '--length', 'long'], 1, "length is 'long'"),
        ([*GENERATE, 'broken'], 1, 'hparams.json does not describe a model'),
        ([*GENERATE, 'tiny', '--stop', '["a"'], 1, 'stop is ["a", which is not JSON'),
        ([*GENERATE, 'tiny', '--no_repeat_ngram', -1], 1, 'no_repeat_ngram is -1; it must be'),
        ([*GENERATE, 'tiny', '--logit_bias', '[1]'], 1, 'logit_bias is [1]; it must be like'),
        ([*GENERATE, 'tiny', '--logprobs', 1], 1, 'give --out samples.jsonl as well'),
        ([*GENERATE, 'tiny', '--prefix_file', 'none'], 1, 'No such file'),
        ([*GENERATE, 'tiny', '--logprobs', 1.5, '--out', 'x'], 1, 'logprobs is 1.5; it must be a'),
        ([*GENERATE, 'tiny', '--logprobs=-1', '--out', 'x'], 1, 'logprobs is -1; it must be a'),
        ([*GENERATE, 'tiny', '--logprobs', 'abc', '--out', 'x'], 1, "logprobs is 'abc'; it must"),
        ([*GENERATE, 'tiny', '--seed', 1.5], 1, 'seed is 1.5; it must be a whole number'),
        ([*GENERATE, 'tiny', '--out', 'no/x'], 1, 'there is no folder to write no/x into'),
        ([*GENERATE, 'tiny', '--include_prefix', 'maybe'], 2, 'it must be True or False'),
        ([*GENERATE, '--prefix', 'All', 'the', 'world'], 2, 'needs quotes, --prefix "All the …"'),
        ([*INTERACT, '--num_return_sequences', 2], 2, 'it is called --nsamples here'),
        ([*INTERACT, '--prompt', 'All'], 2, 'no flag --prompt; it is typed when asked for.'),
        ([*TRAIN, '--bach_size', 2], 2, 'unrecognized arguments: --bach_size 2'),
        ([*TRAIN, '--batch_size', 0], 2, '--batch_size is 0; it must be 1 or more'),
        ([*TRAIN, '--optimizer', 'adagrad'], 2, "invalid choice: 'adagrad'"),
        ([ROOT / 'train.py'], 2, 'the following arguments are required: --dataset'),
        ([*TRAIN, '--dataset', 'none'], 1, 'There is no text at none'),
    ],
)
def test_mistakes_are_told_in_one_line(place, run, command, code, complaint):
    shutil.copytree(place / 'models' / 'tiny', place / 'models' / 'tiny2')
    (place / 'models' / 'tiny2' / 'hparams.json').write_text('{"n_layer": -1}')
    if 'broken' in command:
        (place / 'models' / 'tiny2').rename(place / 'models' / 'broken')
    else:
        shutil.rmtree(place / 'models' / 'tiny2')
    result = run(command)
    assert result.returncode == code
    assert complaint in result.stderr.splitlines()[-1]
    assert 'Traceback' not in result.stderr
    assert not (place / 'checkpoint').exists()


@pytest.mark.parametrize('script', [*INTERACT, *GENERATE])
def test_help_explains_the_flags(run, script):
    result = run([script, '--help'])
    assert result.returncode == 0
    for name in ('model_name', 'seed', 'nsamples', 'length', 'top_k', 'stop', 'repetition_penalty'):
        assert f'--{name}' in result.stdout
