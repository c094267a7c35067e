"""Which checkpoints stay in a run's directory, and which files there are ours to remove.

The file `checkpoint` names those that are there, oldest first. Only files with the names that
checkpoint.save gives are ever removed: whatever else lies in the directory is somebody's.
"""

import contextlib
import os
import re
import shutil
import tempfile

from . import model_directory

KEEP = 5  # checkpoints in a run directory, as Shepperd's Saver kept
STAGE, ASIDE = 'saving-', '-before'
NEW = '.new'  # in the folder of a save: names of files that make its directory a model's
EXTENSIONS = r'(index|meta|data-\d{5}-of-\d{5}|adapters\.npz)'
# Folders that a process leaves when it is killed while it saves, or writes `checkpoint`.
LEFTOVER = re.compile(rf'{STAGE}(model-\d+)-\w{{8}}|\.checkpoint-\w{{8}}')


def kept(directory):
    """The names of this directory's own checkpoints, oldest first."""
    return [name for name in model_directory.named(directory)[1:] if os.sep not in name]


def state_of(name):
    """'model-N' -> 'state-N'"""
    return re.sub('^model', 'state', name)


def rotate(directory, keep=KEEP, protected=()):
    """Remove all but the last `keep` checkpoints, 0 for all, and those `protected` by name.

    Of the states, the last one alone stays.
    """
    names = kept(directory)
    staying = [name for name in names if name in names[-keep:] or name in protected]
    for name in names:
        if name not in staying:
            remove(directory, name)
        if name != names[-1]:
            remove(directory, state_of(name))
    if staying != names:
        point_to(directory, staying)


def withdraw(directory, name):
    """Take the latest checkpoint `name` back; gives the name of the one before, or None."""
    names = [other for other in kept(directory) if other != name]
    if not names:
        return None
    point_to(directory, names)
    for other in (name, state_of(name)):
        remove(directory, other)
    return names[-1]


def point_to(directory, names):
    """Make the last of `names` the latest checkpoint of `directory`, in one step."""
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    stage = tempfile.mkdtemp(prefix='.checkpoint-', dir=directory)
    try:
        path = os.path.join(stage, 'checkpoint')
        write_file(path, ('\n'.join(lines) + '\n').encode())
        os.replace(path, os.path.join(directory, 'checkpoint'))
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    sync(directory)


def write_file(path, content):
    with open(path, 'xb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_aside(directory, name):
    """Copy the checkpoint `name`, for the time in which it is written anew; gives the copy's name.

    The trainer saves before step N, and once more under the same name if it is stopped in that
    step.
    """
    for prefix in (name, state_of(name)):
        for file in _files_of(directory, prefix):
            path = os.path.join(directory, f'{prefix}{ASIDE}{file[len(prefix) :]}')
            shutil.copyfile(os.path.join(directory, file), path)
    return f'{name}{ASIDE}'


def remove(directory, name):
    """Remove the files of the checkpoint or the state of that name."""
    for file in _files_of(directory, name):
        os.remove(os.path.join(directory, file))


def _files_of(directory, name):
    pattern = re.compile(rf'{re.escape(name)}\.{EXTENSIONS}')
    return [file for file in os.listdir(directory) if pattern.fullmatch(file)]


def remove_leftovers(directory):
    """Remove what processes left behind that were killed while they saved."""
    names = kept(directory)
    for folder in os.listdir(directory):
        if not (killed := LEFTOVER.fullmatch(folder)):
            continue
        for name in (killed[1], f'{killed[1]}{ASIDE}'):
            if killed[1] and name not in names:
                remove(directory, name)
                remove(directory, state_of(name))
        if (
            not names
        ):  # the first save was cut off: what it wrote of its model is not the next one's
            for file in _lines(os.path.join(directory, folder, NEW)):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(directory, file))
        shutil.rmtree(os.path.join(directory, folder), ignore_errors=True)


def _lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as file:
        return file.read().splitlines()


def sync(directory):
    """Let names that were changed reach the disk, where directories can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
