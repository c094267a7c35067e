"""What documents tell people to type, and typing it."""

import io
import re
import runpy
import shlex
import signal
import sys

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
