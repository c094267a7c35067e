"""What README.md and the pages of docs/ tell people to type works, on a tiny model.

The walk-throughs among them, whose blocks are ```sh, are test_docs.py's.
"""

import dataclasses
import functools
import inspect
import io
import pkgutil
import re
import shlex
import sys

import pytest
from conftest import ROOT
from documents import PAGES, README, blocks, commands, typed

from src import __main__, generate_unconditional_samples
from src.command_line import flags
from src.converting import convert, download_model
from src.encoding import encode, train_encoder
from src.evaluation import check_overlap, evaluate
from src.exporting import export
from src.gradients import small_model
from src.inside import attention_view
from src.sampling import sample_config
from src.serving import serve
from src.simple import command_line
from src.training import train_config

DOCS = ROOT / 'docs'
RUN = ('training', 'sampling', 'evaluation', 'serving', 'formats', 'looking_inside', 'book')
TYPED = [README, *(DOCS / f'{name}.md' for name in RUN)]
DOCUMENTS = [README, ROOT / 'DEVELOPERS.md', *PAGES]
STEPS = ['--steps', '1', '--sample_every', '0']
MORE = {'train.py': STEPS, 'src/generate_unconditional_samples.py': ['--length', '3']}


@pytest.fixture
def place(shallow_models_dir):
    """As if the README's first command had been typed: one model is there, under the name 345M."""
    models_dir = shallow_models_dir
    (models_dir / 'tiny').rename(models_dir / '345M')
    (models_dir.parent / 'dset.txt').write_text('The secret of life. ' * 50)
    (models_dir.parent / 'jokes.csv').write_text('text,topic\n' + 'A short one,life\n' * 9)
    row = '{"question": "Who?", "answer": "A friend"}\n'
    (models_dir.parent / 'questions.jsonl').write_text(row * 9)
    return models_dir.parent


@pytest.mark.filterwarnings("ignore:'src:RuntimeWarning")  # runpy finds what is imported
def test_all_commands_in_their_order(place, monkeypatch):
    monkeypatch.chdir(place)
    of_all = [command for path in TYPED for command in commands(path)]
    assert len(of_all) >= 20
    for command in dict.fromkeys(of_all):  # once, where two pages have the same
        script, *arguments = shlex.split(command)
        if script == 'download_model.py':  # needs OpenAI's server; test_download.py has ours
            flags.parse(download_model.DownloadConfig, arguments)
        else:
            typed(monkeypatch, command, *MORE.get(script, []))


def test_the_commands_for_several_machines_are_understood():
    for command in commands(DOCS / 'devices.md'):  # test_distribution.py has several processes
        script, *arguments = shlex.split(command)
        assert script == 'train.py'
        flags.parse(train_config.TrainConfig, arguments)


def test_all_commands_of_the_package_are_there():
    for path in DOCUMENTS:
        text = path.read_text('utf-8')
        named = re.findall(r'(?:^|`)(?:gpt2|python -m (?:src|gpt2)) ([a-z]\w*)', text, re.MULTILINE)
        assert set(named) <= set(__main__.COMMANDS), path
    of_all = re.findall(r'`gpt2 (\w+)`', README.read_text('utf-8'))
    assert set(of_all) == set(__main__.COMMANDS)


def test_the_python_examples(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / 'checkpoint').mkdir()
    (place / 'models' / '345M').rename(place / 'checkpoint' / 'run1')
    (example,) = blocks(DOCS / 'sampling.md', 'python')
    exec(example.replace('length=40', 'length=3'), {})
    assert capsys.readouterr().out


def test_what_the_notebooks_of_the_book_call(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'src'), *sys.path])  # as in a notebook there
    monkeypatch.setattr(sys, 'stdin', io.StringIO('The\n'))
    (example,) = blocks(DOCS / 'book.md', 'python')
    exec(example.replace('/content/gpt-2/models', str(place / 'models')), {})
    said = capsys.readouterr()
    assert said.out.startswith('Model prompt >>> ' + '=' * 40 + ' SAMPLE 1 ')
    assert f'{place / "models"} is in the place of top_p, and taken as models_dir\n' in said.err


def test_all_make_targets_are_there():
    targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r'(?:^|`)make (\w+)', path.read_text('utf-8'), re.MULTILINE))
        assert named <= targets, path
        assert named or path in PAGES


def test_all_flags_are_there():
    configs = (
        download_model.DownloadConfig,
        encode.EncodeConfig,
        train_config.TrainConfig,
        export.ExportConfig,
        sample_config.SampleConfig,
        evaluate.EvaluateConfig,
        train_encoder.TrainEncoderConfig,
        check_overlap.OverlapConfig,
        serve.ServeConfig,
        convert.ConvertConfig,
        attention_view.AttentionViewConfig,
        command_line.CommandConfig,
    )
    known = {field.name for config in configs for field in dataclasses.fields(config)}
    known |= {'help', 'mode'}
    known |= set(inspect.signature(generate_unconditional_samples.sample_model).parameters)
    for path in [README, *PAGES]:
        assert set(re.findall(r'--(\w+)', path.read_text('utf-8'))) <= known, path


def test_all_files_are_there():
    others = 'demo/README.md models/shakespeare/README.md tests/golden/README.md'.split()
    for document in [*DOCUMENTS, *(ROOT / name for name in others)]:
        text = document.read_text('utf-8')
        for target, heading in re.findall(r'\]\((?!http)([^)#]*)#?([^)]*)\)', text):
            path = document.parent / target if target else document
            assert path.exists(), f'{document}: {target}'
            assert not heading or heading in headings(path), f'{document}: {target}#{heading}'


def headings(path):
    """What stands behind # in a link to each heading of a document."""
    lines = re.findall(r'^#+ (.*)$', path.read_text('utf-8'), re.MULTILINE)
    return [re.sub(r'[^\w -]', '', line.lower()).replace(' ', '-') for line in lines]


def test_the_readme_names_all_pages():
    named = set(re.findall(r'\(docs/(\w+)\.md\)', README.read_text('utf-8')))
    assert named == {path.stem for path in PAGES}


NAME = r'`([a-z_]+(?:\.[A-Za-z_]+)+)`'


def test_the_functions_of_the_journey_are_there():
    journey = README.read_text('utf-8').partition('## The journey')[2].partition('\n## ')[0]
    names = re.findall(NAME, journey)
    assert len(names) >= 9
    for name in names:
        pkgutil.resolve_name(f'src.{name}')


def test_the_functions_of_the_table_are_what_make_demo_runs(tmp_path, monkeypatch):
    table = README.read_text('utf-8').partition('| station |')[2].partition('\n\n')[0]
    called = dict.fromkeys(set(re.findall(NAME, table)) - {'model.model'}, 0)  # named as the sum
    for name in called:
        owner, _, last = name.rpartition('.')
        owner = pkgutil.resolve_name(f'src.{owner}')
        monkeypatch.setattr(owner, last, counting(called, name, getattr(owner, last)))
    monkeypatch.setattr(small_model, 'WIDEST', 256)  # as it is, for once
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'kant.txt').write_text('The reason of pure reason. ' * 200)
    makefile = (ROOT / 'Makefile').read_text().replace('\\\n', ' ')
    speak = re.search(r'SPEAK = .venv/bin/python (.*)', makefile)[1]
    for line in re.search(r'^demo: .*\n((?:\t.*\n)+)', makefile, re.MULTILINE)[1].splitlines():
        command = line.replace('$(SPEAK)', speak).replace('.venv/bin/python', '').strip()
        more = ['--steps', '1'] if command.startswith('train.py') else ['--length', '3']
        typed(monkeypatch, command, *more)
    assert len(called) >= 9 and all(called.values()), called


def counting(called, name, function):
    """The same function; it counts its calls."""

    @functools.wraps(function)
    def counted(*arguments, **options):
        called[name] += 1
        return function(*arguments, **options)

    return counted
