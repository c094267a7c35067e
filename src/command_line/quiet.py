"""TensorFlow without what it says on stderr at each start, wherever nothing is wrong.

Most of it ignores every setting, since it is written before settings are read: so the file
descriptor itself leads elsewhere meanwhile. Where it fails, or finds no GPU though one is there,
what it wrote is shown.
"""

import contextlib
import glob
import logging
import os
import platform
import shutil
import sys
import tempfile


def import_tensorflow():
    """Import TensorFlow, with oneDNN, and let it look for GPUs.

    To be called before a module that needs it.
    """
    if 'tensorflow' in sys.modules:
        return
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    if platform.machine() in ('x86_64', 'AMD64'):
        # oneDNN's products and its allocator, which TensorFlow by itself takes only where there is
        # AVX-512 VNNI: with AVX2 a step of training takes a fifth less with them.
        os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    with held() as written:
        import tensorflow as tf

        found = tf.config.list_physical_devices('GPU')
    logging.getLogger('tensorflow').setLevel(logging.ERROR)  # each new shape is traced: so be it
    if not found and has_gpu():
        show(written)
        print('There is a GPU, and TensorFlow does not see it: see above', file=sys.stderr)


@contextlib.contextmanager
def held():
    """What is written to file descriptor 2 goes into a list of bytes; an error shows it."""
    written = []
    try:
        before = os.dup(2)
    except OSError:  # it is closed: nothing can be seen anyway
        yield written
        return
    try:
        with tempfile.TemporaryFile() as file:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(file.fileno(), 2)
            try:
                yield written
            finally:
                os.dup2(before, 2)
                file.seek(0)
                written.append(file.read())
    except BaseException:
        show(written)
        raise
    finally:
        os.close(before)


def show(written):
    if sys.stderr is not None:
        print(b''.join(written).decode('utf-8', 'replace'), end='', file=sys.stderr)


def has_gpu():
    """Whether one is there that TensorFlow could use, and nobody has hidden it."""
    if os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1'):
        return False
    return bool(glob.glob('/dev/nvidia[0-9]*') or shutil.which('nvidia-smi'))
