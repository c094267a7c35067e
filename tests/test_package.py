"""The package as pip installs it: whole, in an empty folder, without the repository."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import programs
import pytest
from conftest import ROOT

import src
from src.__main__ import COMMANDS

ELSEWHERE = ['--models_dir', 'none']  # whatever models lie in this checkout
NEEDED = 'LICENSE README.md pyproject.toml requirements.txt'.split()
NEEDED += ['requirements-litert.txt', 'requirements-serve.txt']


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A folder into which the wheel was installed, and nothing else."""
    place = tmp_path_factory.mktemp('package')
    for name in ('src', 'models/shakespeare'):
        shutil.copytree(ROOT / name, place / 'tree' / name)
    for name in [*NEEDED, 'requirements-convert.txt', 'gpt_2_simple.py', 'tests/requirements.txt']:
        (place / 'tree' / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place / 'tree' / name)
    pip = [sys.executable, '-m', 'pip', '--quiet', '--no-input', '--disable-pip-version-check']
    build = ['wheel', '--no-deps', '--no-index', '--no-build-isolation', '--wheel-dir', place]
    subprocess.run([*pip, *build, place / 'tree'], check=True, timeout=120)
    (wheel,) = place.glob('*.whl')
    install = ['install', '--no-deps', '--no-index', '--target', place / 'installed', wheel]
    subprocess.run([*pip, *install], check=True, timeout=120)
    return place / 'installed'


@pytest.fixture
def typed(installed, tmp_path):
    """Type a command in an empty folder; gives what was printed."""
    empty = tmp_path / 'empty'
    empty.mkdir()
    path = {'PYTHONPATH': str(installed)}

    def typed(*command, code=0, forked=False):
        if command[0] in ('gpt2', 'gpt_2_simple'):
            command = [installed / 'bin' / command[0], *command[1:]]
        if forked:  # which has TensorFlow
            result = programs.result_of(command, empty, environment=path)
        else:
            result = subprocess.run(
                [sys.executable, *command],
                cwd=empty, env={**os.environ, **path}, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
        assert result.returncode == code, result.stderr
        return result.stdout if not code else result.stderr.splitlines()[-1] + '\n'

    return typed


def test_the_wheel_holds_all_files_and_the_model(installed):
    (wheel,) = installed.parent.glob('*.whl')
    there = set(zipfile.ZipFile(wheel).namelist())
    for root, name in ((ROOT / 'src', 'gpt2'), (ROOT / 'models', 'gpt2/models')):
        for path in root.rglob('*'):
            whole = path.parent.name in ('shakespeare', 'page')  # folders of which all is there
            if path.suffix == '.py' or whole or path.name == 'py.typed':
                assert f'{name}/{path.relative_to(root)}' in there
    ours = ('gpt2/', f'gpt2-{src.__version__}.', 'gpt_2_simple.py')
    assert all(name.startswith(ours) for name in there)


def test_text_in_an_empty_folder(typed):
    command = 'sample --model_name shakespeare --nsamples 1 --length 5 --seed 1'.split()
    text = typed('gpt2', *command)
    assert re.match(r'={40} SAMPLE 1 ={40}\n.+', text)
    assert typed('-m', 'gpt2', *command, forked=True) == text
    script = ROOT / 'src' / 'generate_unconditional_samples.py'
    assert typed(script, *command[1:], forked=True) == text


def test_help_lists_every_command(typed):
    for command in (['gpt2'], ['-m', 'gpt2'], [ROOT / 'gpt2.py']):
        printed = typed(*command, '--help')
        assert re.findall(r'^  (\w+)  ', printed, re.MULTILINE) == list(COMMANDS)
        assert typed(*command, '--version') == f'gpt2 {src.__version__}\n'
    groups = re.findall(r'^(\w.*):$', typed('gpt2', 'train', '--help'), re.MULTILINE)
    assert {'Which model', 'What a step is made of', 'Validation'} <= set(groups)


@pytest.mark.parametrize(
    'command, hint',
    [
        (['gpt2', 'sample', *ELSEWHERE], 'gpt2 download 124M'),
        (['-m', 'gpt2', 'sample', *ELSEWHERE], 'python -m gpt2 download 124M'),
        ([ROOT / 'gpt2.py', 'sample', *ELSEWHERE], 'python -m gpt2 download 124M'),
        ([ROOT / 'train.py', '--dataset', 'x', *ELSEWHERE], 'python3 download_model.py 124M'),
        (['-c', 'import gpt2; gpt2.load(models_dir="none")'], 'gpt2 download 124M'),
    ],
)
def test_messages_name_commands_as_they_were_typed(typed, command, hint):
    assert f'Download a model: {hint}, or choose' in typed(*command, code=1)


def test_a_mistyped_command(typed):
    assert typed('gpt2', 'trian', code=2).endswith('. Did you mean train?\n')
    assert typed('gpt2', 'train', code=2).startswith('gpt2 train: the following arguments are req')
    assert '. Did you mean --dataset?' in typed('gpt2', 'train', '--datset', 'x', code=2)


def test_gpt_2_simple_is_there_too(typed):
    code = 'import gpt_2_simple, sys; assert "tensorflow" not in sys.modules; print(gpt_2_simple.'
    assert typed('-W', 'error', '-c', f'{code}finetune.__module__)') == 'gpt2.simple.finetuning\n'
    for command in (['gpt_2_simple'], ['-m', 'gpt_2_simple'], [ROOT / 'gpt_2_simple.py']):
        assert '--include_prefix' in typed(*command, '--help')
        assert 'gpt_2_simple finetune TEXT' in typed(*command, code=1)


def test_importing_it_prints_nothing_and_loads_no_tensorflow(typed):
    code = 'import gpt2, sys; assert "tensorflow" not in sys.modules; print(gpt2.__version__)'
    assert typed('-W', 'error', '-c', code) == f'{src.__version__}\n'


def test_no_message_tells_to_install_somebody_elses_package():
    pyproject = (ROOT / 'pyproject.toml').read_text('utf-8')
    extras = re.findall(r'^optional-dependencies\.(\w+)', pyproject, re.MULTILINE)
    known = ['ai-edge-litert', *(f'".[{extra}]"' for extra in extras)]
    known += [f'-r {path.name}' for path in ROOT.glob('requirements*.txt')]
    for path in (ROOT / 'src').rglob('*.py'):
        told = re.findall(r"pip install ([^'\n]*)'", path.read_text('utf-8'))
        assert set(told) <= set(known), path
