"""What documents tell people to type, and typing it."""

import re
import shlex

import started
from conftest import ROOT

README = ROOT / 'README.md'
PAGES = sorted((ROOT / 'docs').glob('*.md'))


def blocks(path, language=''):
    """The contents of a document's fenced blocks in that language."""
    text = path.read_text('utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def commands(path):
    """What stands behind `python` in the lines of a document that begin with it."""
    return re.findall(r'^python (.*)$', path.read_text('utf-8'), re.MULTILINE)


def typed(monkeypatch, command, *more):
    """Do what `python command` does, in this process; at a prompt, it says The.

    That programs can be started is what test_programs.py is about; here each would have to load
    TensorFlow.
    """
    status = started.here(monkeypatch, [*shlex.split(command), *more], 'The\n')
    assert status == 0, f'{command}: {status}'
