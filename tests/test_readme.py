"""What README.md and DEVELOPERS.md tell people to type works, on a tiny model."""

import dataclasses
import importlib
import inspect
import io
import pathlib
import re
import runpy
import shlex
import signal
import sys

import pytest

import download_model
import encode
from src import generate_unconditional_samples
from src.command_line import flags
from src.encoding import train_encoder
from src.evaluation import evaluate
from src.exporting import export
from src.sampling import sample_config
from src.training import train_config

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text('utf-8')
COMMANDS = re.findall(r'^python (.*)$', README, re.MULTILINE)
STEPS = ['--steps', '1', '--sample_every', '0']
MORE = {'train.py': STEPS, 'src/generate_unconditional_samples.py': ['--length', '3']}


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```', README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(models_dir):
    """As if the README's first command had been typed: one model is there, under the name 345M."""
    (models_dir / 'tiny').rename(models_dir / '345M')
    (models_dir.parent / 'dset.txt').write_text('The secret of life. ' * 50)
    (models_dir.parent / 'jokes.csv').write_text('text,topic\n' + 'A short one,life\n' * 9)
    row = '{"question": "Who?", "answer": "A friend"}\n'
    (models_dir.parent / 'questions.jsonl').write_text(row * 9)
    return models_dir.parent


@pytest.mark.filterwarnings("ignore:'src:RuntimeWarning")  # runpy finds what is imported
def test_all_commands_in_their_order(place, monkeypatch):
    assert len(COMMANDS) >= 6
    monkeypatch.chdir(place)
    for command in COMMANDS:
        script, *arguments = shlex.split(command)
        if script == 'download_model.py':  # needs OpenAI's server; test_download_model.py has ours
            flags.parse(download_model.DownloadConfig, arguments)
        else:
            typed(monkeypatch, command, *MORE.get(script, []))


def typed(monkeypatch, command, *more):
    """Do what `python command` does, in this process; at a prompt, it says The.

    That programs can be started is what test_programs.py is about; here each would have to load
    TensorFlow.
    """
    script, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'The\n')))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if script == '-m':
            monkeypatch.setattr(sys, 'argv', [*arguments, *more])
            runpy.run_module(arguments[0], run_name='__main__')
        else:
            monkeypatch.setattr(sys, 'argv', [script, *arguments, *more])
            runpy.run_path(str(ROOT / script), run_name='__main__')
    except SystemExit as end:
        assert not end.code, f'{command}: {end.code}'
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_the_python_examples(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / 'checkpoint').mkdir()
    (place / 'models' / '345M').rename(place / 'checkpoint' / 'run1')
    for example in blocks('python'):
        exec(example.replace('length=40', 'length=3'), {})
        assert capsys.readouterr().out


def test_all_make_targets_are_there():
    targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    for document in (README, (ROOT / 'DEVELOPERS.md').read_text('utf-8')):
        named = set(re.findall(r'(?:^|`)make (\w+)', document, re.MULTILINE))
        assert named and named <= targets


def test_all_flags_are_there():
    configs = (
        encode.EncodeConfig,
        train_config.TrainConfig,
        export.ExportConfig,
        sample_config.SampleConfig,
        evaluate.EvaluateConfig,
        train_encoder.TrainEncoderConfig,
    )
    known = {field.name for config in configs for field in dataclasses.fields(config)} | {'help'}
    known |= set(inspect.signature(generate_unconditional_samples.sample_model).parameters)
    assert set(re.findall(r'--(\w+)', README)) <= known


def test_all_files_are_there():
    for document in (
        'README.md',
        'DEVELOPERS.md',
        'demo/README.md',
        'models/shakespeare/README.md',
        'tests/golden/README.md',
    ):
        text = (ROOT / document).read_text('utf-8')
        for target in re.findall(r'\]\((?!http)([^)#]+)\)', text):
            assert (ROOT / document).parent.joinpath(target).exists(), f'{document}: {target}'


def test_the_functions_of_the_table_are_there():
    table = README.partition('| station |')[2].partition('\n\n')[0]
    places = re.findall(r'`([a-z_]+)\.([A-Za-z_.]+)`', table)
    assert len(places) >= 9
    for module, path in places:
        found = importlib.import_module(f'src.{module}')
        for name in path.split('.'):
            found = getattr(found, name)
