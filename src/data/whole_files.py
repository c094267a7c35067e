"""Files and folders that have their names only when they are complete.

A file is written by one process at once.

What a killed process left is removed by the next that writes the same file. Names of what is not
complete begin with a dot, and no one can guess them: nothing is written through somebody's link.
"""

import contextlib
import os
import re
import secrets
import shutil

from . import processes, text_files


@contextlib.contextmanager
def complete(path):
    """A file to write, in bytes, that will be `path`.

    Raises:
        ValueError: another process is writing it.
        OSError: it cannot be written; what had that name before is still there.
    """
    directory, name = os.path.split(os.path.abspath(path))
    lock = os.path.join(directory, f'.{name}.lock')
    part = os.path.join(directory, f'.{name}.{secrets.token_hex(8)}.part')
    try:
        with processes.locked(lock) as holder:
            if holder:
                raise ValueError(
                    f'{text_files.shown(path)} is being written by {holder}; wait for it, or write '
                    'another file'
                )
            try:
                _remove_parts(directory, name)
                with open(part, 'xb') as file:
                    yield file
                os.replace(part, path)
            finally:
                for left in (part, lock):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(left)
    except OSError as error:
        if not error.errno or error.filename not in (None, part, lock):
            raise
        raise OSError(error.errno, error.strerror, path) from None


@contextlib.contextmanager
def complete_folder(path):
    """A new folder that will be `path`, where nothing is, or an empty folder, or a link to one.

    Raises OSError: it cannot be made, or something has that name by then.
    """
    directory, name = os.path.split(os.path.realpath(path))
    part = os.path.join(directory, f'.{name}.{secrets.token_hex(8)}.part')
    try:
        with processes.locked(f'{part}.lock'):  # who looks for folders of dead processes sees it
            try:
                _remove_dead_folders(directory, name)
                os.mkdir(part)
                yield part
                os.rename(part, os.path.join(directory, name))
            finally:
                shutil.rmtree(part, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f'{part}.lock')
    except OSError as error:
        if not error.errno or error.filename not in (None, part, f'{part}.lock'):
            raise
        raise OSError(error.errno, error.strerror, path) from None


def _remove_dead_folders(directory, name):
    """Remove what is not complete of processes that are dead: nobody holds its lock."""
    if os.name != 'posix':  # there are no locks
        return
    for entry in os.listdir(directory):
        if re.fullmatch(rf'\.{re.escape(name)}\.[0-9a-f]+\.part', entry):
            lock = os.path.join(directory, f'{entry}.lock')
            with processes.locked(lock) as holder:
                if not holder:
                    shutil.rmtree(os.path.join(directory, entry), ignore_errors=True)
                    os.remove(lock)


def _remove_parts(directory, name):
    """Remove what is not complete. Who wrote it is dead, or would have the lock."""
    if os.name != 'posix':  # there are no locks
        return
    for entry in os.listdir(directory):
        if re.fullmatch(rf'\.{re.escape(name)}\.[0-9a-f]+\.part', entry):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(directory, entry))
