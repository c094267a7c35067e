"""What README.md and DEVELOPERS.md tell people to type works, on a tiny model."""

import dataclasses
import importlib
import inspect
import re
import shlex

import pytest
from conftest import ROOT
from documents import typed

from src import generate_unconditional_samples
from src.command_line import flags
from src.encoding import encode, train_encoder
from src.evaluation import evaluate
from src.exporting import export
from src.model_files import download
from src.sampling import sample_config
from src.training import train_config

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
        if script == 'download_model.py':  # needs OpenAI's server; test_download.py has ours
            flags.parse(download.DownloadConfig, arguments)
        else:
            typed(monkeypatch, command, *MORE.get(script, []))


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
