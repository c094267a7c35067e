"""download_model.py against a server on this machine that misbehaves as it is told."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import file_server
import numpy as np
import pytest
from conftest import ROOT

from src.model_files import download, fetching

DATA, CHUNK = download.DATA, fetching.CHUNK
FILES = {  # of a model that is not OpenAI's, so that nothing is known of it beforehand
    name: np.random.default_rng(number).bytes(300_000 if name == DATA else 5000)
    for number, name in enumerate(download.FILES)
}


@pytest.fixture
def server():
    with file_server.serving('/gpt-2/models/') as server:
        server.files = {f'mine/{name}': content for name, content in FILES.items()}
        server.url = f'{server.origin}/gpt-2/'
        yield server


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """Download a model in this process, without waiting; gives the directory."""
    monkeypatch.setattr(fetching, 'WAITS', (0, 0, 0))
    monkeypatch.delenv('http_proxy', raising=False)

    def get(name='mine'):
        download.download(name, str(tmp_path / 'models'), server.url)
        return tmp_path / 'models' / name

    return get


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def program(tmp_path, *arguments, **options):
    return [sys.executable, str(ROOT / 'download_model.py'), *arguments], {
        'cwd': tmp_path, 'text': True, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE,
        'env': {k: v for k, v in os.environ.items() if k.lower() != 'http_proxy'}, **options,
    }  # fmt: skip


def run(tmp_path, *arguments):
    command, options = program(tmp_path, *arguments)
    return subprocess.run(command, **options)


def test_all_seven_files_arrive(server, tmp_path):
    result = run(tmp_path, '--base_url', server.url, 'mine')
    assert (result.returncode, result.stdout) == (0, '')
    assert contents(tmp_path / 'models' / 'mine') == FILES
    for name in download.FILES:
        assert f'Fetching {name}: 100%' in result.stderr
    assert [path for path, _ in server.asked] == [f'/gpt-2/models/mine/{name}' for name in FILES]


def test_without_a_name_it_says_what_openais_said(tmp_path):
    result = run(tmp_path)
    usage = 'You must enter the model name as a parameter, e.g.: download_model.py 124M\n'
    assert (result.returncode, result.stdout, result.stderr) == (1, usage, '')


def test_what_is_whole_is_not_fetched_again(server, get):
    directory = get()
    times = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    server.faults = {DATA: [{'cut': 0}]}
    get()
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == times


def test_what_is_broken_is_fetched_again(get):
    directory = get()
    (directory / DATA).write_bytes(FILES[DATA][:1000])  # as a download broken off by OpenAI's
    (directory / 'hparams.json').write_text('<Error>NoSuchBucket</Error>')
    assert contents(get()) == FILES


def test_a_connection_that_is_cut_goes_on_where_it_was(server, get):
    server.faults[DATA] = [{'cut': 2 * CHUNK}, {'cut': CHUNK}]
    assert contents(get()) == FILES
    ranges = [asked for path, asked in server.asked if path.endswith(DATA)]
    assert ranges == [None, f'bytes={2 * CHUNK - 1}-', f'bytes={3 * CHUNK - 2}-']
    assert server.sent[DATA] == len(FILES[DATA]) + 2  # the last byte each time again


def test_a_server_that_ignores_ranges_starts_over(server, get):
    server.faults[DATA] = [{'cut': 2 * CHUNK}, {'ignore range': True}]
    assert contents(get()) == FILES


def test_a_file_that_changed_meanwhile_is_not_glued_to_its_old_half(server, get):
    server.faults[DATA] = [{'cut': 2 * CHUNK, 'body': bytes(300_000), 'etag': '"0"'}]
    assert contents(get()) == FILES


@pytest.mark.parametrize('etag', ['', 'W/"1"'])
def test_without_a_strong_etag_a_file_begins_anew(server, get, etag):
    server.faults[DATA] = [{'cut': 2 * CHUNK, 'etag': etag}]
    assert contents(get()) == FILES
    assert [asked for path, asked in server.asked if path.endswith(DATA)] == [None, None]


def test_a_server_that_fails_for_a_while(server, get, capsys):
    server.faults['checkpoint'] = [{'status': 500}, {'status': 503}, {'status': 429}]
    assert contents(get()) == FILES
    assert capsys.readouterr().err.count('trying again') == 3


def test_a_server_without_lengths(server, get):
    server.faults = {name: [{'no length': True}] for name in FILES}
    assert contents(get()) == FILES


def test_attempts_end_where_nothing_comes(server, get):
    server.faults[DATA] = [{'cut': CHUNK}] + [{'cut': 0}] * 9
    with pytest.raises(OSError, match='goes on from here'):
        get()
    # one that got somewhere, and one after each wait
    assert len([path for path, _ in server.asked if path.endswith(DATA)]) == 1 + 3


@pytest.mark.parametrize(
    'fault, complaint',
    [
        ({'status': 403}, 'is refused: 403'),
        ({'body': b'<?xml version="1.0"?><Error><Code>NoSuchBucket</Code></Error>'}, 'error page'),
        ({'body': b'<!DOCTYPE html><html></html>'}, 'error page'),
        ({'md5': 'AAAAAAAAAAAAAAAAAAAAAA=='}, 'MD5'),
    ],
)
def test_what_is_not_the_file_never_gets_its_name(server, get, tmp_path, fault, complaint):
    server.faults['hparams.json'] = [fault]
    with pytest.raises(OSError, match=complaint):
        get()
    assert set(os.listdir(tmp_path / 'models' / 'mine')) == {'checkpoint', 'encoder.json'}


def test_the_sum_that_azure_tells_is_compared(server, get):
    md5 = base64.b64encode(hashlib.md5(FILES[DATA]).digest()).decode()
    server.faults[DATA] = [{'md5': md5}]
    assert contents(get()) == FILES


def test_what_is_known_of_openais_files_is_compared(server, get, tmp_path):
    server.files |= {f'124M/{name}': content for name, content in FILES.items()}
    for name, complaint in (
        ('checkpoint', 'checkpoint sends a file whose sha256 is not dd1b'),
        ('encoder.json', 'encoder.json sends a file whose sha256 is not 1961'),
        (DATA, 'sends 300000 bytes instead of 497759232'),
    ):
        with pytest.raises(OSError, match=complaint):
            get('124M')
        right = {
            'checkpoint': b'model_checkpoint_path: "model.ckpt"\n'
            b'all_model_checkpoint_paths: "model.ckpt"\n',
            'encoder.json': (ROOT / 'tests' / 'vocabulary' / 'encoder.json').read_bytes(),
        }
        server.files[f'124M/{name}'] = right.get(name, b'')
    assert set(os.listdir(tmp_path / 'models' / '124M')) == {
        'checkpoint', 'encoder.json', 'hparams.json'
    }  # fmt: skip


def test_a_model_is_found_under_its_other_name(server, get, capsys, monkeypatch):
    monkeypatch.setattr(download, 'SHA256', {})
    monkeypatch.setattr(download, 'DATA_SIZES', {})
    server.files = {f'355M/{name}': content for name, content in FILES.items()}
    assert contents(get('345M')) == FILES
    assert 'trying its other name, 355M' in capsys.readouterr().err


def test_a_model_that_is_nowhere(server, tmp_path):
    result = run(tmp_path, '--base_url', server.url, '774')
    assert result.returncode == 1
    assert result.stderr == (
        f'There is no {server.url}models/774/checkpoint (404); '
        'the models are 124M, 355M, 774M, 1558M\n'
    )
    assert os.listdir(tmp_path / 'models') == []


def test_one_that_fails_does_not_keep_the_others_away(server, tmp_path):
    result = run(tmp_path, '--base_url', server.url, 'none', 'mine')
    assert result.returncode == 1
    assert contents(tmp_path / 'models' / 'mine') == FILES


@pytest.mark.parametrize('name', ['../x', '/x', 'a/b', '..', ''])
def test_a_name_is_the_name_of_a_folder(tmp_path, name):
    result = run(tmp_path, name)
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1 and 'is not the name of a model' in result.stderr


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, 'WAITS', ())
    with pytest.raises(OSError, match='http://127.0.0.1:9/.* cannot be reached') as error:
        download.download('mine', str(tmp_path), 'http://127.0.0.1:9')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('url', ['nonsense', 'ftp://x/'])
def test_an_address_that_is_none(tmp_path, url):
    with pytest.raises(OSError, match=url) as error:
        download.download('mine', str(tmp_path), url)
    assert '\n' not in str(error.value)


def test_a_full_disk(server, tmp_path):
    command = f'ulimit -f 100; exec {sys.executable} {ROOT}/download_model.py "$@"'
    _, options = program(tmp_path)
    result = subprocess.run(
        ['bash', '-c', command, 'bash', '--base_url', server.url, 'mine'], **options
    )  # no file may outgrow 100 KiB
    assert result.returncode == 1
    assert result.stderr.endswith(f'{DATA}.part cannot be written: File too large\n')
    assert DATA not in os.listdir(tmp_path / 'models' / 'mine')


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_killed_half_way_it_goes_on(server, tmp_path, number):
    hang = threading.Event()
    server.faults[DATA] = [{'cut': 3 * CHUNK, 'hang': hang}]
    command, options = program(tmp_path, '--base_url', server.url, 'mine')
    process = subprocess.Popen(command, **options)
    directory = tmp_path / 'models' / 'mine'
    part = directory / f'{DATA}.part'
    while not part.exists() or part.stat().st_size < 3 * CHUNK:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    hang.set()
    assert DATA not in os.listdir(directory)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert 'the same command goes on from there' in errors and 'Traceback' not in errors
    assert run(tmp_path, '--base_url', server.url, 'mine').returncode == 0
    assert contents(directory) == FILES
    assert server.sent[DATA] == len(FILES[DATA]) + 1  # no more than the last byte came twice


@pytest.mark.parametrize(
    'fault, complaint',
    [
        ({'length': '-5'}, "tells a Content-Length of '-5'"),
        ({'length': '9' * 18}, f'would have {"9" * 18} bytes; it should have 6000 at most'),
        ({'no length': True, 'body': b'x' * 9_000_000}, 'has more than 6000 bytes; nothing of it'),
    ],
)
def test_an_endless_file_of_an_unknown_model_ends(
    server, get, tmp_path, monkeypatch, fault, complaint
):
    monkeypatch.setattr(download, 'LARGEST', 6000)
    server.faults = {'encoder.json': [fault] * 5}
    with pytest.raises(OSError, match=complaint):
        get()
    assert not list(tmp_path.glob('models/mine/encoder.json*'))
