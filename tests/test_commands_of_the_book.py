"""Commands and calls as books and notebooks have them, of scripts that were copied about."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import programs
import pytest
from runs import steps_of

ROOT = pathlib.Path(__file__).parent.parent
INTERACT = [ROOT / 'src' / 'interactive_conditional_samples.py']
GENERATE = [ROOT / 'src' / 'generate_unconditional_samples.py']
COPIED = ('train.py', 'encode.py', 'download_model.py')


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
