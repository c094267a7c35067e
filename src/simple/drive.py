"""Copies in Google Drive, or in another folder that outlives the machine of a notebook."""

import os
import shutil
import sys
import tarfile

from ..data import text_files, whole_files
from ..model_files import model_directory
from ..training import run_directory
from . import session

COLAB = '/content/drive'  # where Colab has it
_mounted = None  # the folder that mount_gdrive was told, in place of that


def mount_gdrive(folder=None):
    """Mount the user's Google Drive in Colab; elsewhere, take a folder that is there as the Drive.

    Args:
        folder: by default /content/drive.

    Raises Refused: this is not Colab, and there is no such folder.
    """
    global _mounted
    folder = folder or COLAB
    if 'google.colab' in sys.modules:
        from google.colab import drive

        drive.mount(folder)
    elif not os.path.isdir(folder):
        raise session.Refused(
            f'There is no {folder}, and this is not Colab. Say which folder shall be the Drive: '
            'gpt2.mount_gdrive("/path/of/a/folder")'
        )
    _mounted = folder


def is_mounted():
    """True. Raises Refused where the Drive is not mounted."""
    folder = _mounted or COLAB
    if not os.path.isdir(folder):
        raise session.Refused(f'{folder} is not there; mount it first: gpt2.mount_gdrive()')
    return True


def get_tarfile_name(checkpoint_folder):
    """'checkpoint/run1' -> 'checkpoint_run1.tar'"""
    return checkpoint_folder.replace(os.path.sep, '_') + '.tar'


def copy_checkpoint_to_gdrive(run_name='run1', copy_folder=False):
    """Copy checkpoint/run_name to the Drive, in a .tar, which is left here too, or as it is.

    Raises:
        Refused: the Drive is not mounted.
        OSError: there is no such run, the Drive has that folder already, or it cannot be written.
    """
    is_mounted()
    folder = _run(run_name)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'There is no {folder} to copy; run_name names another run')
    if not copy_folder:
        path = get_tarfile_name(folder)
        with whole_files.complete(path) as file:
            with tarfile.open(fileobj=file, mode='w', dereference=True) as tar:
                tar.add(folder)
        _copy(path, _on_drive(path))
        return
    copy = _on_drive(folder)
    if os.path.exists(copy):
        raise FileExistsError(f'{copy} is there already; give it another name, or remove it')
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    with whole_files.complete_folder(copy) as part:
        shutil.copytree(folder, part, dirs_exist_ok=True)


def copy_checkpoint_from_gdrive(run_name='run1', copy_folder=False):
    """Copy checkpoint/run_name from the Drive, as copy_checkpoint_to_gdrive put it there.

    A run of that name that is here gets another one, run1.1.

    Raises:
        Refused: the Drive is not mounted.
        ValueError: the .tar is damaged, or has something else than files in checkpoint/run_name.
        OSError: it is not there, or cannot be written.
    """
    is_mounted()
    folder = _run(run_name)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    path = get_tarfile_name(folder)
    if not copy_folder:
        _copy(_on_drive(path), path)
    with whole_files.complete_folder(folder) as part:
        if copy_folder:
            shutil.copytree(_on_drive(folder), part, dirs_exist_ok=True)
        else:
            _unpack(path, folder, part)
        if os.path.exists(folder):
            run_directory.rename(folder)


def copy_file_to_gdrive(file_path):
    """Copy a file to the Drive, in whose place a file of that name goes.

    Raises: as copy_file_from_gdrive.
    """
    is_mounted()
    _copy(file_path, _on_drive(_inside(file_path)))


def copy_file_from_gdrive(file_path):
    """Copy a file from the Drive to the working directory, or a folder in it, in the same way.

    Raises:
        Refused: the Drive is not mounted.
        ValueError: the path leads out of the Drive.
        OSError: it is not there, or cannot be written.
    """
    is_mounted()
    path = _inside(file_path)
    _copy(_on_drive(path), path)


def _run(run_name):
    return os.path.join(model_directory.RUNS, run_name)


def _on_drive(path):
    """Where something is that has this path here."""
    folder = _mounted or COLAB
    own = [os.path.join(folder, name) for name in ('My Drive', 'MyDrive')]
    return os.path.join(next(filter(os.path.isdir, own), folder), path)


def _inside(path):
    """A path below the working directory, and so in the Drive; of an absolute one, its name."""
    path = os.path.normpath(os.fspath(path))
    path = os.path.basename(path) if os.path.isabs(path) else path
    if path.split(os.path.sep)[0] in (os.pardir, os.curdir, ''):
        raise ValueError(f'{path!r} is not the path of a file in this folder, nor in the Drive')
    return path


def _copy(source, target):
    with open(source, 'rb') as read:
        os.makedirs(os.path.dirname(target) or os.curdir, exist_ok=True)
        with whole_files.complete(target) as file:
            shutil.copyfileobj(read, file, 2**20)


def _unpack(path, folder, into):
    """Write what a .tar has of `folder` into the folder `into`.

    Nothing but its files and folders is in the .tar of a run: links, devices and paths that lead
    elsewhere are refused, before anything is written.
    """
    try:
        with tarfile.open(path, 'r:') as tar:
            for member, place in [(each, _place(path, each, folder)) for each in tar.getmembers()]:
                if place is None:
                    continue
                place = os.path.join(into, place)
                os.makedirs(place if member.isdir() else os.path.dirname(place), exist_ok=True)
                if member.isreg():
                    with open(place, 'wb') as file:
                        shutil.copyfileobj(tar.extractfile(member), file, 2**20)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f'{path} is damaged, or no .tar: {error}') from None


def _place(path, member, folder):
    """The path of a member below `folder`, or None for a folder in which that lies.

    Raises ValueError: it is no file or folder there.
    """
    name = member.name
    place = os.path.relpath(os.path.join(os.path.sep, name), os.path.join(os.path.sep, folder))
    if member.isdir() and not os.path.isabs(name) and {*place.split(os.path.sep)} == {os.pardir}:
        return None  # which `tar cf checkpoint_run1.tar checkpoint` has, too
    leads_out = os.path.isabs(name) or place.split(os.path.sep)[0] == os.path.pardir
    if leads_out or not (member.isdir() or member.isreg() and place != os.path.curdir):
        name = text_files.shown(name)
        raise ValueError(f'{path} has {name}, which is no file in {folder}; nothing is unpacked')
    return place
