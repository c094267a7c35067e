"""A file is there when it is complete; one process writes it, and nobody through a link."""

import os
import pathlib
import re
import stat
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from src.data import whole_files


def write(path, text=b'new'):
    with whole_files.complete(str(path)) as file:
        file.write(text)


def test_it_has_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'out.npz'
    path.write_bytes(b'old')
    with whole_files.complete(str(path)) as file:
        file.write(b'new')
        file.flush()
        assert path.read_bytes() == b'old'
        assert all(name == 'out.npz' or name[0] == '.' for name in os.listdir(tmp_path))
    assert path.read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['out.npz']


def test_what_is_not_complete_leaves_nothing(tmp_path):
    (tmp_path / 'out').write_bytes(b'old')
    with pytest.raises(KeyboardInterrupt), whole_files.complete(str(tmp_path / 'out')) as file:
        file.write(b'new')
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ['out'] and (tmp_path / 'out').read_bytes() == b'old'


@pytest.mark.parametrize('mask, mode', [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_its_mode_is_that_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write(tmp_path / 'out')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'out').stat().st_mode) == mode


def test_links_lead_nowhere(tmp_path):
    (tmp_path / 'secret').write_bytes(b'secret')
    for name in (f'.out.{os.getpid()}.part', 'out.new', '.out.part'):
        (tmp_path / name).symlink_to('secret')
    write(tmp_path / 'out')
    assert (tmp_path / 'secret').read_bytes() == b'secret'
    (tmp_path / '.out.lock').symlink_to('secret')
    with pytest.raises(OSError, match=f"'{tmp_path}/out'"):
        write(tmp_path / 'out')
    assert (tmp_path / 'secret').read_bytes() == b'secret'


PROGRAM = """
import sys
from src.data import whole_files
with whole_files.complete(sys.argv[1]) as file:
    file.write(b'half')
    file.flush()
    print('begun', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process in the midst of writing."""
    process = subprocess.Popen(
        [sys.executable, '-c', PROGRAM, str(tmp_path / 'out')],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == 'begun\n'
    yield process
    process.kill()
    process.communicate()


def test_a_second_one_is_told_who_writes(tmp_path, other):
    told = f'out is being written by process {other.pid} on .*; wait for it, or write another'
    with pytest.raises(ValueError, match=told):
        write(tmp_path / 'out')
    write(tmp_path / 'another')
    other.communicate('', timeout=20)
    assert (tmp_path / 'out').read_bytes() == b'half'
    assert sorted(os.listdir(tmp_path)) == ['another', 'out']


def test_what_a_killed_one_left_is_removed(tmp_path, other):
    mine = ('.out.notes.part', '.out.part', 'out.12.part', '.outer.12.part')
    for name in mine:
        (tmp_path / name).write_bytes(b'mine')
    (tmp_path / '.out.12345.part').write_bytes(b'of an older version')
    other.kill()
    other.wait()
    assert len(os.listdir(tmp_path)) == len(mine) + 3
    write(tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, 'out'])


def test_of_many_at_once_one_writes_at_a_time(tmp_path):
    program = (
        'import sys, time\nfrom src.data import whole_files\n'
        'while True:\n'
        '    try:\n'
        '        with whole_files.complete(sys.argv[1]) as file:\n'
        '            file.write(b"x"); time.sleep(0.01); file.write(b"y")\n'
        '        break\n'
        '    except ValueError: time.sleep(0.001)\n'
    )
    command = [sys.executable, '-c', program, str(tmp_path / 'out')]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    begun = time.monotonic()
    assert [process.wait(timeout=60) for process in processes] == [0] * 4, time.monotonic() - begun
    assert (tmp_path / 'out').read_bytes() == b'xy' and os.listdir(tmp_path) == ['out']


def test_an_error_that_names_no_file_is_about_this_one(tmp_path):
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/out'"):
        with whole_files.complete(str(tmp_path / 'out')):
            raise OSError(28, 'No space left on device')
    with pytest.raises(OSError, match="Input/output error: 'text'"):
        with whole_files.complete(str(tmp_path / 'out')):
            raise OSError(5, 'Input/output error', 'text')


def test_a_folder_has_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'a [b] 中'
    with whole_files.complete_folder(str(path)) as part:
        pathlib.Path(part, 'file').write_bytes(b'new')
        assert not path.exists()
    assert os.listdir(path) == ['file'] and os.listdir(tmp_path) == [path.name]
    with pytest.raises(OSError, match=f'not empty.*{re.escape(str(path))}'):
        with whole_files.complete_folder(str(path)) as part:
            pathlib.Path(part, 'other').write_bytes(b'new')
    assert os.listdir(path) == ['file'] and os.listdir(tmp_path) == [path.name]


def test_a_link_to_a_folder_is_a_folder(tmp_path):
    (tmp_path / 'large').mkdir()
    (tmp_path / 'link').symlink_to('large')
    with whole_files.complete_folder(str(tmp_path / 'link')) as part:
        pathlib.Path(part, 'file').write_text('x')
    assert (tmp_path / 'large' / 'file').read_text() == 'x' and (tmp_path / 'link').is_symlink()
    assert sorted(os.listdir(tmp_path)) == ['large', 'link']


def test_a_folder_that_is_not_complete_is_removed_unless_somebody_writes_it(tmp_path):
    path = str(tmp_path / 'out')
    with pytest.raises(KeyboardInterrupt), whole_files.complete_folder(path):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    (tmp_path / '.out.0123456789abcdef.part').mkdir()  # of a process that was killed
    with whole_files.complete_folder(path) as other:
        with whole_files.complete_folder(path) as part:
            assert os.path.isdir(other)
            pathlib.Path(part, 'mine').touch()
        os.remove(tmp_path / 'out' / 'mine')  # an empty folder may be replaced
    assert os.listdir(tmp_path) == ['out']
