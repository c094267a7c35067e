"""train.py and the two sampling scripts as programs, on a tiny model."""

import contextlib
import io
import json
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

import programs
import pytest
import started
from conftest import traced

from src import interactive_conditional_samples
from src.command_line import flags
from src.model_files import model_directory
from src.sampling import backends

ROOT = pathlib.Path(__file__).parent.parent
# XLA would compile longer than the steps take, where a tiny model is not to save memory.
TRAIN = [ROOT / 'train.py', '--model_name', 'tiny', '--dataset', 'text', '--sample_every', 0]
TRAIN.append('--memory_saving_gradients')
INTERACT = [ROOT / 'src' / 'interactive_conditional_samples.py']
GENERATE = [ROOT / 'src' / 'generate_unconditional_samples.py']
SEPARATOR = '=' * 80
STREAMS = ('stdin', 'stdout', 'stderr')
COPIED = ('train.py', 'encode.py', 'download_model.py')


@pytest.fixture
def place(shallow_models_dir):
    """A working directory with the model `tiny` and a text."""
    place = shallow_models_dir.parent
    (place / 'text').write_text('All the world is a stage.\n' * 50)
    return place


@pytest.fixture
def run(place, monkeypatch, capfd):
    """Do what a program does that is started in `place`, but in this process."""
    monkeypatch.chdir(place)
    return lambda command, typed='': started.captured(monkeypatch, capfd, command, typed)


def run_alone(place, command, typed='', **options):
    """In a process that imports all."""
    return subprocess.run(
        [sys.executable, *command],
        input=typed, timeout=120, cwd=place, text=True, capture_output=True, **options,
    )  # fmt: skip


def run_copies(place, command, typed=''):
    """In a process that has TensorFlow, but imports its own src."""
    return programs.result_of(command, place, typed, before=without_src)


def without_src():
    for name in list(sys.modules):
        if name.partition('.')[0] == 'src':
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path not in (str(ROOT), str(ROOT / 'src'))]


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

    wait_for(b'Model prompt >>> ')
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


def steps_of(output):
    return [int(number) for number in re.findall(r'^\[(\d+) \|', output, re.MULTILINE)]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_goes_on(place, run, number):
    process = programs.Program(TRAIN, place)
    printed = ''
    while '[5 |' not in printed:
        printed += process.stdout.readline()
    process.send_signal(number)
    rest, errors = process.communicate()
    printed += rest
    last = steps_of(printed)[-1]
    assert process.returncode == 0
    assert printed.endswith(f'interrupted\nSaving checkpoint/run1/model-{last}\n')
    assert 'Traceback' not in errors
    result = run([*TRAIN, '--steps', last + 2])
    assert f'Loading checkpoint checkpoint/run1/model-{last}\n' in result.stdout
    assert steps_of(result.stdout) == [last + 1, last + 2]


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(place, run):
    process = programs.Program([*TRAIN, '--save_every', 2], place)  # saving most of the time
    while not list(place.glob('checkpoint/run1/model-1?.index')):
        time.sleep(0.01)
    process.kill()
    printed, _ = process.communicate()
    saved = model_directory.latest(place / 'checkpoint' / 'run1').rpartition('-')[2]
    result = run([*TRAIN, '--steps', saved])
    assert f'Loading checkpoint checkpoint/run1/model-{saved}\n' in result.stdout
    (resumed,) = steps_of(result.stdout)
    assert resumed == int(saved) >= steps_of(printed)[-1] - 2  # it was saved before that step
    assert not list(place.glob('checkpoint/run1/saving-*'))


def no_file_may_outgrow_60_kib():
    resource.setrlimit(resource.RLIMIT_FSIZE, (60 * 1024, 60 * 1024))


def test_a_full_disk_at_the_end_is_told_and_loses_nothing(place, run):
    assert run([*TRAIN, '--steps', 2]).returncode == 0
    before = {path.name: path.read_bytes() for path in (place / 'checkpoint' / 'run1').iterdir()}
    result = programs.result_of([*TRAIN, '--steps', 3], place, before=no_file_may_outgrow_60_kib)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith('checkpoint/run1 could not be written: ')
    after = {path.name: path.read_bytes() for path in (place / 'checkpoint' / 'run1').iterdir()}
    assert after.pop('loss.csv').startswith(before.pop('loss.csv'))
    assert before.pop('loss.png')[-8:] == after.pop('loss.png')[-8:]  # not cut off
    assert before.items() <= after.items()
    assert {name for name in set(after) - set(before) if not name.startswith('events.')} == set()


def test_the_commands_of_the_book(place):
    """Programs copied into src and started there; checkpoints copied into models by hand."""
    shutil.copytree(ROOT / 'src', place / 'src')
    for name in COPIED:
        shutil.copy(ROOT / name, place / 'src')
    src = place / 'src'
    (place / 'models' / 'tiny').rename(place / 'models' / '117M')
    (place / 'models').rename(src / 'models')
    (place / 'text').rename(src / 'dset.txt')

    result = run_copies(src, ['encode.py', 'dset.txt', 'out.npz'])
    assert result.stdout == 'Reading files\nWriting out.npz\n', result.stderr
    result = run_copies(
        src, ['train.py', '--dataset', 'out.npz', '--steps', 2, '--sample_every', 2]
    )
    assert result.returncode == 0, result.stderr
    assert steps_of(result.stdout) == [1, 2]
    assert (src / 'samples' / 'run1' / 'samples-2').exists()

    for path in (src / 'checkpoint' / 'run1').glob('model-2.*'):
        shutil.copy(path, src / 'models' / '117M')
    shutil.copy(src / 'checkpoint' / 'run1' / 'checkpoint', src / 'models' / '117M')
    command = ['interactive_conditional_samples.py', '--temperature', 0.8, '--top_k', 40]
    result = run_copies(src, [*command, '--model_name', '117M', '--length', 3], 'All\n')
    assert result.returncode == 0, result.stderr
    assert 'Loading checkpoint models/117M/model-2\n' in result.stderr
    assert result.stdout.startswith(f'Model prompt >>> {header(1)}\n')


@pytest.fixture(scope='module')
def notebook(shallow, tmp_path_factory):
    """What a notebook in src printed and said, and the folder of its models."""
    models_dir = tmp_path_factory.mktemp('models')
    shutil.copytree(shallow, models_dir / 'tiny')
    code = f"""
from interactive_conditional_samples import interact_model
import model, sample, encoder
print(model.default_hparams().n_ctx)
interact_model('tiny', None, 1, 1, 3, 1, 0, {str(models_dir)!r})
"""
    environment = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}
    command = ['-W', 'error', '-c', code]
    return run_alone(ROOT / 'src', command, 'All\n', env=environment), models_dir


def test_openais_modules_are_imported_as_openai_imported_them(notebook):
    result, _ = notebook
    assert result.stdout.startswith('1024\n'), result.stderr


def test_a_notebook_in_src_asks_for_prompts_as_openais(notebook):
    result, models_dir = notebook
    assert result.returncode == 0, result.stderr
    assert result.stdout.partition('\n')[2].startswith(f'Model prompt >>> {header(1)}\n')
    assert f'{models_dir} is in the place of top_p, and taken as models_dir\n' in result.stderr


@pytest.mark.parametrize('script', [*INTERACT, *GENERATE])
def test_openais_eighth_argument_may_be_the_folder_of_models(place, run, script):
    (place / 'models').rename(place / 'mine')
    result = run([script, 'tiny', 'None', 1, 1, 3, 1, 0, 'mine'], 'All\n')
    assert result.returncode == 0, result.stderr
    assert header(1) in result.stdout
    assert 'mine is in the place of top_p' in result.stderr


def test_models_are_found_from_src_and_runs_by_their_names(place):
    checkout = place / 'checkout'
    shutil.copytree(ROOT / 'src', checkout / 'src')
    shutil.copytree(place / 'models', checkout / 'models')
    shutil.copytree(place / 'models' / 'tiny', checkout / 'src' / 'checkpoint' / 'r1')
    shutil.copytree(place / 'models' / 'tiny', checkout / 'checkpoint' / 'r2')
    code = """
import runpy, sys
script = 'generate_unconditional_samples.py'
for name in ('tiny', 'r1', 'r2'):
    sys.argv = [script, name, '--length', '2', '--nsamples', '1']
    runpy.run_path(script, run_name='__main__')
"""
    result = run_copies(checkout / 'src', ['-c', code])
    assert result.returncode == 0, result.stderr
    assert re.findall('models/.* is not there; using .*', result.stderr) == [
        f'models/tiny is not there; using {checkout / "models/tiny"}',
        'models/r1 is not there; using checkpoint/r1',
        f'models/r2 is not there; using {checkout / "checkpoint/r2"}',
    ]


def test_a_program_does_not_wait_for_keras():
    code = (
        'import sys; from src.command_line import flags; '
        'flags.run(lambda: __import__("tensorflow")); '
        'print("tensorflow" in sys.modules, [n for n in sys.modules if n.startswith("keras.src")])'
    )
    environment = {k: v for k, v in os.environ.items() if k != 'TF_USE_LEGACY_KERAS'}
    assert run_alone(ROOT, ['-c', code], env=environment).stdout == 'True []\n'


def test_the_one_model_that_was_downloaded_serves_all_commands(place, run):
    (place / 'models' / 'tiny').rename(place / 'models' / '345M')
    result = run([ROOT / 'encode.py', 'text', 'out.npz'])
    assert result.returncode == 0
    assert 'models/124M is not there; using models/345M\n' in result.stderr
    command = [ROOT / 'train.py', '--dataset', 'out.npz', '--steps', 1, '--sample_every', 0]
    result = run(command)
    assert 'models/124M is not there; using models/345M\n' in result.stderr
    assert steps_of(result.stdout) == [1]
