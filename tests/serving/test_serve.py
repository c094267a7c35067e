"""The command: what docs/serving.md tells people to type, and how it ends."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from conftest import ROOT
from documents import blocks
from served import WAIT

from src.command_line import flags
from src.serving import serve

PAGE = ROOT / 'docs' / 'serving.md'
LINES = ''.join(blocks(PAGE)).splitlines()


@pytest.fixture
def place(tmp_path, exported):
    """A folder with a model for LiteRT, which starts at once, under the name that the page has."""
    directory = os.path.dirname(exported('float32'))
    shutil.copytree(directory, tmp_path / 'models' / '345M')
    return tmp_path


@contextlib.contextmanager
def running(place, *more, **environment):
    """(the process of the page's command, its address); at the end it is killed if need be."""
    (command,) = [line for line in LINES if line.startswith('gpt2 serve')]
    arguments = [*shlex.split(command)[1:], *more]
    process = subprocess.Popen(
        [sys.executable, '-m', 'src', *arguments],
        cwd=place, env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killer = threading.Timer(2 * WAIT, process.kill)
    killer.start()
    try:
        said = []
        while not said or not said[-1].startswith('Serving 345M at '):
            said.append(process.stderr.readline())
            assert said[-1], said
        yield process, said[-1].split()[-1]
    finally:
        process.kill()
        process.communicate()
        killer.cancel()


def post(curl, address):
    """What a command of curl asks, asked of another port."""
    _, url, *options = shlex.split(curl)
    url = url.replace('http://127.0.0.1:8080/', address)
    if not options:
        return httpx.get(url, timeout=WAIT)
    assert options[0::2] == ['-H', '-d']
    headers = dict([options[1].split(': ')])
    return httpx.post(url, headers=headers, content=options[3], timeout=WAIT)


def test_the_commands_of_the_page_and_a_drain(place, capsys):
    with running(place, '--port', '0') as (process, address):
        curls = [line for line in LINES if line.startswith('curl')]
        plain, stream, cloud = [post(curl, address) for curl in curls]
        assert plain.json()['choices'][0]['finish_reason'] in ('length', 'stop')
        assert stream.text.endswith('data: [DONE]\n\n')
        assert cloud.json()['text'].startswith('The')
        (example,) = blocks(PAGE, 'python')
        exec(example.replace('http://127.0.0.1:8080/', address), {})
        assert capsys.readouterr().out == plain.json()['choices'][0]['text'][:16] + '\n'

        body = {'model': '345M', 'prompt': ['All', 'the'], 'n': 64, 'max_tokens': 30,
                'stream': True, 'logit_bias': {'96': -100}}  # fmt: skip
        with httpx.stream('POST', f'{address}v1/completions', json=body, timeout=WAIT) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            told = [line[6:] for line in lines if line.startswith('data: ')]
        assert told.pop() == '[DONE]'
        choices = [json.loads(each)['choices'][0] for each in told]
        ended = [choice['index'] for choice in choices if choice['finish_reason']]
        assert sorted(ended) == list(range(128))
        out, err = process.communicate(timeout=WAIT)
        assert process.returncode == 0 and out == ''
        assert re.fullmatch(r'Ending when \d+ texts are done, in 30 s at most.*\n', err)


def test_a_second_signal_and_the_end_of_the_drain_refuse_what_is_left(place):
    body = {'model': '345M', 'prompt': 'All', 'n': 128, 'max_tokens': 30, 'stream': True,
            'logit_bias': {'96': -100}}  # fmt: skip
    for drain in ('30', '0.01'):
        more = ['--port', '0', '--queue', '10000', '--drain', drain]
        with running(place, *more) as (process, address), contextlib.ExitStack() as streams:
            told = []
            for _ in range(8):  # so many that they are not done before the second signal
                some = httpx.stream('POST', f'{address}v1/completions', json=body, timeout=WAIT)
                told.append(streams.enter_context(some).iter_lines())
                next(told[-1])
            process.send_signal(signal.SIGTERM)
            assert process.stderr.readline().startswith('Ending when')
            if drain == '30':
                process.send_signal(signal.SIGTERM)
            *_, last = [line[6:] for line in told[-1] if line.startswith('data: ')]
            assert json.loads(last)['error']['code'] == 'server_shutting_down'
            process.communicate(timeout=WAIT)
            assert process.returncode == 0


def test_a_key_and_a_port_of_the_environment(place):
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = str(probe.getsockname()[1])
    more = ['--host', '0.0.0.0', '--batch_size', '1']
    with running(place, *more, PORT=port, GPT2_API_KEY='secret') as (process, address):
        assert address == f'http://0.0.0.0:{port}/'
        models = f'http://127.0.0.1:{port}/v1/models'
        assert httpx.get(models, timeout=WAIT).status_code == 401
        key = {'Authorization': 'Bearer secret'}
        assert httpx.get(models, headers=key, timeout=WAIT).json()['data'][0]['id'] == '345M'
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130 and out == '' and err == '\n'


@pytest.fixture
def config():
    return lambda *arguments: flags.parse(serve.ServeConfig, arguments)


def test_keys_come_from_a_file_or_the_environment(config, tmp_path, monkeypatch):
    monkeypatch.delenv(serve.KEY, raising=False)
    assert serve.keys_of(config()) == ()
    monkeypatch.setenv(serve.KEY, ' one ')
    assert serve.keys_of(config()) == ('one',)
    (tmp_path / 'keys').write_text('a b\n\n ключ \n', 'utf-8')
    assert serve.keys_of(config('--api_key_file', str(tmp_path / 'keys'))) == ('a b', 'ключ')
    (tmp_path / 'none').write_text('\n')
    with pytest.raises(ValueError, match='none has no key'):
        serve.keys_of(config('--api_key_file', str(tmp_path / 'none')))
    (tmp_path / 'marked').write_text('one\n', 'utf-8-sig')  # as Windows' Notepad writes it
    assert serve.keys_of(config('--api_key_file', str(tmp_path / 'marked'))) == ('one',)
    (tmp_path / 'bytes').write_bytes(b'\xff')
    with pytest.raises(ValueError, match='bytes is not UTF-8'):
        serve.keys_of(config('--api_key_file', str(tmp_path / 'bytes')))


def test_ports(config, monkeypatch):
    monkeypatch.delenv(serve.PORT, raising=False)
    assert serve.port_of(config()) == 8080
    monkeypatch.setenv(serve.PORT, '81')
    assert serve.port_of(config()) == 81 and serve.port_of(config('--port', '82')) == 82
    monkeypatch.setenv(serve.PORT, 'http')
    with pytest.raises(ValueError, match="PORT in the environment is 'http'"):
        serve.port_of(config())
    with pytest.raises(ValueError, match='--port is 70000'):
        serve.ServeConfig(port=70000)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(OSError, match=f'127.0.0.1:{port}: .*Give another --port'):
            serve.listening(config('--port', port))
    for host in ('no host', '192.0.2.1'):  # no name; nobody's address (RFC 5737)
        with pytest.raises(OSError, match=f'listen at {host}:0: [^(]*Give another --host'):
            serve.listening(config('--port', '0', '--host', host))
    with pytest.raises(ValueError, match='--drain is inf'):
        serve.ServeConfig(drain=float('inf'))


@pytest.mark.parametrize(
    'host, keys, warned', [('127.0.0.1', (), 0), ('::', (), 1), ('0.0.0.0', ('key',), 0)]
)
def test_a_warning_where_it_is_open(config, capsys, host, keys, warned):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        serve.tell(config('--host', host), listener, 'name', keys)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith('Serving name at http://' + (host if '.' in host else '[::]:'))
    assert [line.startswith('Everybody') for line in lines[1:]] == [True] * warned


def test_packages_that_are_missing_are_named(config, monkeypatch):
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    with pytest.raises(ValueError, match='uvicorn is missing.*pip install -r requirements-serve'):
        serve.serve(config())
