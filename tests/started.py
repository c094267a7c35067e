"""Programs that are started in the process of the tests, where TensorFlow is loaded already."""

import io
import pathlib
import runpy
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def here(monkeypatch, arguments, typed=''):
    """Do what `python *arguments` does; `typed` is what it reads. Returns the exit status."""
    script, *others = map(str, arguments)
    monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
    monkeypatch.setattr(
        sys, 'stdin', io.TextIOWrapper(io.BytesIO(typed.encode(errors='surrogateescape')))
    )
    monkeypatch.setattr(sys, 'argv', others if script == '-m' else [script, *others])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if script == '-m':
            runpy.run_module(others[0], run_name='__main__')
        else:
            runpy.run_path(str(ROOT / script), run_name='__main__')
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    return 0


def captured(monkeypatch, captures, arguments, typed=''):
    """The same; what subprocess.run gives for it. `captures` is capfd or capsys."""
    captures.readouterr()
    status = here(monkeypatch, arguments, typed)
    return subprocess.CompletedProcess(arguments, status, *captures.readouterr())
