"""The command's own: what is typed, from where, and what is said where OpenAI's server fails."""

import pathlib
import sys

import file_server
import pytest

import src as gpt2
from src.command_line import flags
from src.converting import download_model, hub
from src.model_files import download, fetching


@pytest.fixture
def server(tmp_path, monkeypatch):
    """OpenAI's server, with nothing; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, 'WAITS', ())
    monkeypatch.delenv('http_proxy', raising=False)
    with file_server.serving() as server:
        monkeypatch.setattr(download, 'BASE_URL', server.origin)
        yield server


def typed(monkeypatch, *arguments):
    """The exit code of download_model.py."""
    monkeypatch.setattr(sys, 'argv', ['download_model.py', *arguments])
    with pytest.raises(SystemExit) as end:
        flags.run(download_model.main)
    return end.value.code


@pytest.mark.parametrize('status', [403, 404, 500])
def test_where_openais_server_fails_the_other_is_offered(server, monkeypatch, capsys, status):
    server.faults = {'checkpoint': [{'status': status}] * 2}
    assert typed(monkeypatch, '345M', '--base_url', server.origin) == 1
    said = capsys.readouterr().err
    offer = '. Hugging Face has it too: python3 download_model.py 345M --source huggingface\n'
    assert f'{status}' in said and said.endswith(offer)
    with pytest.raises(fetching.ServerError, match='Hugging Face has it too: .* 345M --source hug'):
        gpt2.download('345M')


def test_what_hugging_face_has_not_is_not_offered(server, monkeypatch, capsys):
    assert typed(monkeypatch, 'mine', '--base_url', server.origin) == 1
    assert 'Hugging Face' not in capsys.readouterr().err
    pathlib.Path('models').rmdir()
    pathlib.Path('models').write_text('a file')  # which is not the server's fault
    assert typed(monkeypatch, '345M', '--base_url', server.origin) == 1
    assert 'Hugging Face' not in capsys.readouterr().err


def test_one_source_or_the_other(server, monkeypatch, capsys):
    came = []
    monkeypatch.setattr(hub, 'download', lambda *told: came.append(told) or 'models/x')
    assert gpt2.download('owner/x', source='huggingface') == 'models/x'
    assert typed(monkeypatch, '345M', 'a/b', '--source', 'huggingface', '--models_dir', 'm') == 0
    assert came == [('owner/x', 'models'), ('345M', 'm'), ('a/b', 'm')]
    monkeypatch.setattr(hub, 'download', lambda name, _: {}[name])
    monkeypatch.setattr(download, 'fetch_all', lambda url, directory, name: came.append(name))
    assert gpt2.download('mine') == 'models/mine' and came[-1] == 'mine'


def test_one_that_is_no_gpt2_does_not_keep_the_others_away(monkeypatch, capsys):
    came = []

    def no_gpt2(name, _):
        came.append(name)
        raise ValueError(f'{name} is \x1b[none')

    monkeypatch.setattr(hub, 'download', no_gpt2)
    assert typed(monkeypatch, 'a/b', 'c/d', '--source', 'huggingface') == 1
    assert came == ['a/b', 'c/d'] and capsys.readouterr().err.count('\n') == 2


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'names': ['a/b']}, "^'a/b' is not the name of a model; for Hugging Face's, --source hug"),
        ({'names': ['a/..']}, "^'a/..' is not the name of a model$"),
        ({'names': ['774'], 'source': 'huggingface'}, "^'774' is no model of Hugging Face; there"),
        ({'names': [], 'source': 'hugging'}, "^--source is 'hugging'; it must be one of openai, h"),
        ({'names': [], 'base_url': 'http://x', 'source': 'huggingface'}, 'HF_ENDPOINT=http://x$'),
    ],
)
def test_what_cannot_be_meant(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        download_model.DownloadConfig(**options)


def test_all_of_openais_models_are_there_under_both_names():
    names = ('117M', '124M', '345M', '355M', '774M', '1558M')
    there = [hub.repository_of(name).partition('/gpt2')[2] for name in names]
    assert there == ['', '', '-medium', '-medium', '-large', '-xl']
