"""train.py as processes of its own that need not import TensorFlow each: one did, and forks."""

import multiprocessing
import os
import pathlib
import runpy
import sys

TRAIN = str(pathlib.Path(__file__).parents[1] / 'train.py')
forking = multiprocessing.get_context('forkserver')
forking.set_forkserver_preload(['tensorflow'])


def started(directory, environment, flags, written):
    """A process that does what `train.py *flags` does in `directory`.

    Its output goes to the files out and err in `written`.
    """
    arguments = directory, environment, flags, written
    process = forking.Process(target=train, args=arguments, daemon=True)  # ended with the tests
    process.start()
    return process


def train(directory, environment, flags, written):
    for number, name in ((1, 'out'), (2, 'err')):
        os.dup2(os.open(written / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(n, 'w', buffering=1, closefd=False) for n in (1, 2))
    os.chdir(directory)
    os.environ.update(environment)
    sys.argv = [TRAIN, *flags]
    runpy.run_path(TRAIN, run_name='__main__')
