"""Copies of runs and files, in a folder in place of Google Drive."""

import io
import os
import pathlib
import sys
import tarfile
import types

import pytest

from src.simple import drive


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A working directory with a run, and a Drive beside it."""
    monkeypatch.setattr(drive, '_mounted', None)
    monkeypatch.setattr(drive, 'COLAB', str(tmp_path / 'content' / 'drive'))
    folder = tmp_path / 'drive'
    folder.mkdir()
    (tmp_path / 'here' / 'checkpoint' / 'run1' / 'best').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'here')
    drive.mount_gdrive(folder)
    pathlib.Path('checkpoint/run1/counter').write_text('3\n')
    pathlib.Path('checkpoint/run1/best/model-2.index').write_bytes(b'\0\1')
    return folder


def files(folder):
    paths = pathlib.Path(folder).rglob('*')
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.is_file()}


@pytest.mark.parametrize('copy_folder', [False, True])
def test_a_run_goes_to_the_drive_and_comes_back(mounted, copy_folder, capsys):
    before = files('checkpoint/run1')
    drive.copy_checkpoint_to_gdrive(copy_folder=copy_folder)
    copy = 'checkpoint/run1/counter' if copy_folder else 'checkpoint_run1.tar'
    assert (mounted / copy).exists()
    assert os.path.exists('checkpoint_run1.tar') != copy_folder  # people download it from here
    pathlib.Path('checkpoint/run1/counter').write_text('4\n')
    drive.copy_checkpoint_from_gdrive(copy_folder=copy_folder)
    assert files('checkpoint/run1') == before
    assert pathlib.Path('checkpoint/run1.1/counter').read_text() == '4\n'
    assert capsys.readouterr().err == 'checkpoint/run1 is kept as checkpoint/run1.1\n'
    assert sorted(os.listdir('checkpoint')) == ['run1', 'run1.1']
    if copy_folder:
        with pytest.raises(FileExistsError, match='drive/checkpoint/run1 is there already'):
            drive.copy_checkpoint_to_gdrive(copy_folder=True)
    else:
        drive.copy_checkpoint_to_gdrive()  # once more


def test_colabs_drive_is_mounted_where_it_has_it(mounted, monkeypatch):
    told = []

    def mount(folder):
        told.append(folder)
        os.makedirs(os.path.join(folder, 'My Drive'))

    colab = types.ModuleType('google.colab')
    colab.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, 'google.colab', colab)
    drive.mount_gdrive()
    assert told == [drive.COLAB] and drive.is_mounted()
    drive.copy_checkpoint_to_gdrive()
    assert os.listdir(os.path.join(drive.COLAB, 'My Drive')) == ['checkpoint_run1.tar']


def test_files_go_and_come(mounted, tmp_path):
    pathlib.Path('texts').mkdir()
    pathlib.Path('texts/a.txt').write_text('mine')
    drive.copy_file_to_gdrive('texts/a.txt')
    assert (mounted / 'texts' / 'a.txt').read_text() == 'mine'
    (mounted / 'texts' / 'a.txt').write_text('another')
    drive.copy_file_from_gdrive('texts/a.txt')
    assert pathlib.Path('texts/a.txt').read_text() == 'another'
    drive.copy_file_to_gdrive(pathlib.Path('texts/a.txt').absolute())
    assert (mounted / 'a.txt').read_text() == 'another'
    for path in ('../a.txt', 'texts/../../a.txt', '.', '..'):
        with pytest.raises(ValueError, match='is not the path of a file in this folder'):
            drive.copy_file_to_gdrive(path)
    with pytest.raises(FileNotFoundError):
        drive.copy_file_from_gdrive('none.txt')
    assert not os.path.exists('none.txt')
    assert os.listdir(tmp_path / 'here') == ['texts', 'checkpoint'] or sorted(
        os.listdir(tmp_path / 'here')
    ) == ['checkpoint', 'texts']


def test_outside_of_colab_one_line_says_what_to_do(mounted, monkeypatch):
    monkeypatch.setattr(drive, '_mounted', None)
    with pytest.raises(AssertionError, match='content/drive is not there; mount it first: gpt2.m'):
        drive.copy_checkpoint_to_gdrive()
    with pytest.raises(AssertionError) as error:
        drive.mount_gdrive()
    assert 'this is not Colab. Say which folder shall be the Drive' in str(error.value)
    assert '\n' not in str(error.value)
    drive.mount_gdrive(mounted)
    with pytest.raises(FileNotFoundError, match='There is no checkpoint/none to copy'):
        drive.copy_checkpoint_to_gdrive('none')


def tar_of(path, *members):
    """Write a .tar of (name, kind, link or content)."""
    with tarfile.open(path, 'w') as tar:
        for name, kind, more in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(more)
                tar.addfile(member, io.BytesIO(more))
            else:
                member.linkname = more
                tar.addfile(member)


GOOD = ('checkpoint/run1/counter', tarfile.REGTYPE, b'9\n')


@pytest.mark.parametrize(
    'member',
    [
        ('/tmp/escaped', tarfile.REGTYPE, b'x'),
        ('../escaped', tarfile.REGTYPE, b'x'),
        ('checkpoint/run1/../../escaped', tarfile.REGTYPE, b'x'),
        ('checkpoint/run2/counter', tarfile.REGTYPE, b'x'),
        ('checkpoint/run1', tarfile.REGTYPE, b'x'),
        ('checkpoint/run1/link', tarfile.SYMTYPE, '/etc'),
        ('checkpoint/run1/link', tarfile.LNKTYPE, 'checkpoint/run1/counter'),
        ('checkpoint/run1/pipe', tarfile.FIFOTYPE, ''),
        ('checkpoint/run1/null', tarfile.CHRTYPE, ''),
    ],
    ids=lambda member: f'{member[0]}-{member[1].decode()}',
)
def test_a_tar_with_anything_else_is_refused_whole(mounted, member, tmp_path):
    tar_of(mounted / 'checkpoint_run1.tar', GOOD, member)
    before = files(tmp_path)
    with pytest.raises(ValueError, match='checkpoint_run1.tar has .*, which is no file in checkp'):
        drive.copy_checkpoint_from_gdrive()
    after = files(tmp_path)
    assert after.pop('here/checkpoint_run1.tar')  # as it is on the Drive
    assert after == before and os.listdir('checkpoint') == ['run1']


def test_a_tar_made_by_hand(mounted):
    above = [(name, tarfile.DIRTYPE, '') for name in ('.', './checkpoint', './checkpoint/run1')]
    tar_of(mounted / 'checkpoint_run1.tar', *above, GOOD)
    drive.copy_checkpoint_from_gdrive()
    assert pathlib.Path('checkpoint/run1/counter').read_bytes() == GOOD[2]


def test_a_damaged_tar_is_told_and_the_run_stays(mounted, tmp_path):
    tar_of(mounted / 'checkpoint_run1.tar', (GOOD[0], GOOD[1], b'9' * 10**5))
    whole = (mounted / 'checkpoint_run1.tar').read_bytes()
    for content in (b'', b'no tar', whole[:300], whole[: 5 * 10**4], b'\xff' * 10**4):
        (mounted / 'checkpoint_run1.tar').write_bytes(content)
        with pytest.raises(ValueError, match='checkpoint_run1.tar is damaged, or no .tar: '):
            drive.copy_checkpoint_from_gdrive()
        assert pathlib.Path('checkpoint/run1/counter').read_text() == '3\n'
        assert os.listdir('checkpoint') == ['run1']
