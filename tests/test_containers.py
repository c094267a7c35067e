"""What the Dockerfiles say; images are not built here."""

import fnmatch
import json
import re

import pytest
from conftest import ROOT

from src.command_line import flags

DOCKERFILES = ('Dockerfile', 'Dockerfile.gpu')


@pytest.mark.parametrize('name', DOCKERFILES)
def test_they_install_as_the_documents_say_and_start_a_server(name):
    text = (ROOT / name).read_text('utf-8')
    (installed,) = re.findall(r'pip install --no-cache-dir (".*?")', text)
    extras = set(re.findall(r'\w+', installed))
    documents = (ROOT / 'docs' / 'serving.md').read_text('utf-8')
    told = re.findall(r'pip install (".\[.*?\]")', documents)
    assert 'serve' in extras <= set(re.findall(r'\w+', ' '.join(told)))
    (command,) = re.findall(r'^CMD (\[.*\])$', text, re.MULTILINE)
    program, subcommand, *arguments = json.loads(command)
    assert (program, subcommand) == ('gpt2', 'serve')
    from src.serving import serve

    config = flags.parse(serve.ServeConfig, arguments)
    assert (config.model_name, config.host, config.port) == ('/model', '0.0.0.0', None)
    (port,) = re.findall(r'^ENV PORT=(\d+)$', text, re.MULTILINE)
    assert f'EXPOSE {port}\n' in text and f':{port} ' in text.partition('FROM')[0]
    (check,) = re.findall(r'^ +CMD (\["python".*\])$', text, re.MULTILINE)
    compile(json.loads(check)[2], name, 'exec')
    assert text.index('USER gpt2') < text.index('CMD ["gpt2"')


def test_the_smaller_tensorflow_stands_for_the_one_of_the_requirements():
    (pattern,) = re.findall(r"sed -i 's/\^(.*?)/", (ROOT / 'Dockerfile').read_text('utf-8'))
    lines = (ROOT / 'requirements.txt').read_text('utf-8').splitlines()
    assert len([line for line in lines if line.startswith(pattern)]) == 1


def test_what_is_copied_is_what_the_package_is_made_of():
    lines = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
    kept = [line[1:] for line in lines if line.startswith('!')]
    assert all(list(ROOT.glob(pattern)) for pattern in kept)
    pyproject = (ROOT / 'pyproject.toml').read_text('utf-8')
    needed = re.findall(r'file = \["(.*?)"\]|readme = "(.*?)"', pyproject)
    needed = [name for names in needed for name in names if name]
    needed += [f'{name}.py' for name in re.findall(r'py-modules = \["(\w+)"\]', pyproject)]
    needed += re.findall(r'"gpt2[\w.]*" = "([\w/]+)"', pyproject.partition('package-dir')[2])
    assert len(needed) >= 6
    for name in needed:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), name
