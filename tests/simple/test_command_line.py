"""gpt_2_simple finetune, gpt_2_simple generate."""

import os
import pathlib
import re
import shlex
import shutil
import sys

import pytest
from conftest import GOLDEN, ROOT

from src.simple import command_line, downloading, finetuning, generating, session


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Type a command in a folder with a run; gives (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / 'openai_checkpoint', 'checkpoint/run1')
    pathlib.Path('text.txt').write_text('All the world')

    def typed(*arguments):
        monkeypatch.setattr(sys, 'argv', ['gpt_2_simple', *arguments])
        code = None
        try:
            command_line.cmd()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err + (code if isinstance(code, str) else '')

    return typed


@pytest.fixture
def finetuned(monkeypatch):
    """What finetune was called with; it makes nothing."""
    calls = []
    monkeypatch.setattr(finetuning, 'finetune', lambda *_, **options: calls.append((_, options)))
    monkeypatch.setattr(downloading, 'is_gpt2_downloaded', lambda *_: True)
    return calls


GREEDY = ['generate', '--top_k', '1', '--length', '5']


def test_files_beside_what_is_there(typed):
    code, out, err = typed(*GREEDY, '--nfiles', '3', '--nsamples', '2')
    assert not code and out == 'Loading checkpoint checkpoint/run1/model.ckpt\n'
    names = sorted(os.listdir('gen'))
    assert len(names) == 3  # most probably in one second
    assert all(re.fullmatch(r'gpt2_gentext_\d{8}_\d{6}(_\d)?\.txt', name) for name in names)
    delimiter = '=' * 20
    for name in names:
        assert pathlib.Path('gen', name).read_text() == f'_____\n{delimiter}\n' * 2
    pathlib.Path('gen/mine').mkdir()
    pathlib.Path('gen/mine/notes.txt').write_text('mine')
    code, out, err = typed(*GREEDY, '--nfiles', '1', '--nsamples', '2')
    assert not code and 'What is in gen stays; new files come beside it\n' in err
    assert pathlib.Path('gen/mine/notes.txt').read_text() == 'mine'
    assert len(set(os.listdir('gen')) - {'mine', *names}) == 1


def test_the_commands_of_the_document(typed, finetuned, monkeypatch):
    written = []
    monkeypatch.setattr(session, 'load_gpt2', lambda *_, **options: written.append(options))
    monkeypatch.setattr(
        generating, 'generate_to_file', lambda *_, **options: written.append(options)
    )
    pathlib.Path('shakespeare.txt').write_text('All the world')
    page = ROOT / 'docs' / 'gpt_2_simple.md'
    commands = re.findall(r'^gpt_2_simple (.*)$', page.read_text('utf-8'), re.MULTILINE)
    for command in commands:
        written.clear()
        assert not typed(*shlex.split(command))[0]
    assert [(options['steps'], options['run_name']) for _, options in finetuned] == [
        (-1, 'run1'),
        (1000, 'poems'),
    ]
    assert len(commands) == 4 and len(written) == 1 + 5  # of the last, which its README has too
    assert written[0] == {'run_name': 'run1', 'checkpoint_dir': 'checkpoint'}
    path = written[1].pop('destination_path')
    assert path.startswith('gen/gpt2_gentext_')
    assert written[1] == {
        'run_name': 'run1', 'checkpoint_dir': 'checkpoint', 'prefix': '<|startoftext|>',
        'truncate': '<|endoftext|>', 'include_prefix': False, 'sample_delim': '=' * 20 + '\n',
        'nsamples': 20, 'batch_size': 20, 'length': 50, 'temperature': 1.0, 'top_k': 0,
        'top_p': 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    'arguments', [['finetune', 'text.txt'], ['--mode', 'finetune', '--dataset', 'text.txt']]
)
def test_finetune_with_its_defaults(typed, finetuned, arguments):
    assert typed(*arguments, '--steps', '9', '--multi_gpu', 'false', '--overwrite') == (
        None,
        '',
        '',
    )
    ((_, dataset), options) = finetuned[0]
    assert dataset == 'text.txt' and len(finetuned) == 1
    assert options == {
        'run_name': 'run1', 'checkpoint_dir': 'checkpoint', 'model_name': '124M',
        'model_dir': 'models', 'steps': 9, 'restore_from': 'latest', 'sample_every': 1000000,
        'save_every': 100, 'print_every': 10, 'optimizer': 'adam', 'overwrite': True,
        'multi_gpu': False, 'encoding': 'utf-8', 'column': None, 'no_header': False,
        'quoting': 'double',
    }  # fmt: skip


def test_openais_models_are_downloaded_if_need_be(typed, finetuned, monkeypatch):
    fetched = []
    monkeypatch.setattr(downloading, 'is_gpt2_downloaded', lambda *_: False)
    monkeypatch.setattr(downloading, 'download_gpt2', lambda *_: fetched.append(_))
    typed('finetune', 'text.txt', '--model_name', '355M', '--model_dir', 'm')
    typed('finetune', 'text.txt', '--model_name', 'mine')
    code, _, err = typed('finetune', 'none.txt')
    assert code and 'There is no text at none.txt' in err
    assert fetched == [('m', '355M')] and len(finetuned) == 2


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        ([], 'The mode is None; type gpt_2_simple finetune TEXT, or gpt_2_simple generate'),
        (['fintune'], 'The mode is fintune; .* generate. Did you mean finetune?'),
        (['finetune'], 'finetune needs a text: gpt_2_simple finetune TEXT'),
        (['generate', '--lenght', '5'], 'There is no flag --lenght. Did you mean --length?'),
        (['generate', '--length', 'x'], "--length is 'x'; it must be a whole number"),
        (['generate', '--include_prefix', 'perhaps'], "--include_prefix is 'perhaps'; it must be"),
        (['generate', '--nsamples', '3', '--batch_size', '2'], 'nsamples is 3, batch_size is 2'),
        (['generate', '--run_name', 'no'], 'There is no model in checkpoint/no; .* are: run1'),
    ],
)
def test_mistakes_are_told_in_one_line(typed, arguments, complaint):
    code, out, err = typed(*arguments)
    assert code and re.match(complaint, err.splitlines()[-1]) and len(err.splitlines()) == 1
    assert not out and not os.path.exists('gen')


def test_flags_of_the_other_mode_mean_nothing(typed, finetuned):
    _, _, err = typed('finetune', 'text.txt', '--nfiles', '3')
    assert err == 'finetune does not use --nfiles\n' and finetuned


def test_a_file_in_the_place_of_the_folder_stays(typed):
    code, _, err = typed(*GREEDY, '--folder', 'text.txt')
    assert code and 'text.txt' in err.splitlines()[-1]
    assert pathlib.Path('text.txt').read_text() == 'All the world'
