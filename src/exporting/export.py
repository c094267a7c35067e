"""A checkpoint to files that other programs serve: python -m src export --help.

The .tflite is for LiteRT on CPUs; litert.py says what its graph reads and gives, and runs it. The
SavedModel is for TensorFlow Serving and everything else that loads one; it has two signatures, for
tokens [batch, sequence] int32 of any batch and sequence:

    serving_default    logits [batch, vocab], for the token after the last
    all                logits [batch, sequence, vocab], for the token after each
"""

if not __package__:  # started by its path: belong to the package all the same
    import importlib.util
    import os
    import sys

    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..')))
    __spec__ = importlib.util.find_spec('src.exporting.export')
    __package__ = __spec__.parent

import contextlib
import dataclasses
import glob
import os
import re
import shutil
import sys
import tempfile

from .. import encoder
from ..command_line import flags, quiet
from ..data import processes, whole_files
from ..model_files import model_directory
from ..sampling import backends, litert


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(model_directory.ModelConfig):
    """Write a model for serving, beside its checkpoint."""

    format: str = flags.flag(
        'litert', choices=['litert', 'savedmodel'], help='For CPUs, or for TensorFlow Serving'
    )
    dtype: str = flags.flag(
        'float32',
        choices=litert.DTYPES,
        help='Of the weights of litert; int8 is a quarter of the size and faster, and rounds',
    )

    def __post_init__(self):
        """Raises ValueError: a format that does not have this dtype."""
        flags.check(self)
        if self.format == 'savedmodel' and self.dtype != 'float32':
            raise ValueError('--format savedmodel is float32; --dtype is for --format litert')


def main():
    export(flags.parse(ExportConfig))


def export(config):
    """Write what `config` says, and name it on stderr; returns its path.

    Raises:
        ValueError: no such model, or a damaged checkpoint.
        OSError: the file could not be written; what was there before is still there.
    """
    directory, prefix = model_directory.checkpoint_of(config.model_name, config.models_dir)
    quiet.import_tensorflow()  # here: a wrong name is refused before it loads
    from ..model_files import checkpoint

    hparams = checkpoint.read_hparams(directory)
    ids = encoder.get_encoder('', directory).decoder
    model_directory.require_vocabulary(directory, ids, hparams.n_vocab)
    print('Loading checkpoint', prefix, file=sys.stderr)
    date = _date(f'{prefix}.index')  # before it is read: what is saved meanwhile is newer
    with checkpoint.reading(prefix, hparams) as read:

        def finite(name):
            weights = read(name)
            backends.require_finite(prefix, {name: weights})
            return weights

        if config.format == 'savedmodel':
            path = f'{prefix}-savedmodel'  # with no dot: the trainer's files are model-N.*
            write_saved_model(path, hparams, finite)
        else:
            path = litert.path_of(prefix, config.dtype)
            write_tflite(path, hparams, config.dtype, lambda name: finite(name).numpy(), date)
    print('Wrote', path, file=sys.stderr)
    return path


def write_tflite(path, hparams, dtype, read, date):
    """Write the .tflite of a model, whose weights read(name) gives one by one.

    Args:
        date: that of the weights, see litert.current.
    """
    from . import tflite_file

    with _told_as(path), tempfile.TemporaryDirectory() as stage, whole_files.complete(path) as file:
        tflite_file.write(file, stage, hparams, dtype, read)
        file.flush()
        os.fsync(file.fileno())
        os.utime(file.fileno(), ns=(date, date))


def write_saved_model(path, hparams, read):
    """Write the SavedModel of a model, a folder; read(name) gives its weights one by one."""
    import tensorflow as tf

    from .. import model

    params = model.map_tree(
        lambda name, shape: tf.Variable(read(name), name=name), model.parameter_shapes(hparams)
    )
    lm = model.GPT2(hparams, params)
    tokens = tf.TensorSpec([None, None], tf.int32, name='tokens')

    @tf.function(autograph=False, input_signature=[tokens])
    def every(tokens):
        return {'logits': lm(tokens)['logits']}

    @tf.function(autograph=False, input_signature=[tokens])
    def following(tokens):
        h, _ = model.transformer(hparams, params, tokens)
        return {'logits': model.logits_of(h[:, -1], params)}

    with _staging(path) as stage:
        new = os.path.join(stage, 'new')
        tf.saved_model.save(lm, new, signatures={'serving_default': following, 'all': every})
        if os.path.exists(path):  # a folder is replaced only by way of another name
            os.rename(path, os.path.join(stage, 'before'))
        os.rename(new, path)


def _date(path):  # in nanoseconds; that a file is missing is said by whoever reads it
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


@contextlib.contextmanager
def _told_as(path):
    """What cannot be written is an OSError of one line that names `path`."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        reason = re.sub(r'{{.*}} |.*; | \[Op:.*', '', str(error).partition('\n')[0])
        raise OSError(f'{path} could not be written: {reason}') from None


@contextlib.contextmanager
def _staging(path):
    """A folder beside the folder `path` for what is not complete yet.

    Raises ValueError: another process is writing it.
    """
    directory, name = os.path.split(path)
    prefix, lock = f'exporting-{name}-', os.path.join(directory, f'.{name}.lock')
    with _told_as(path), processes.locked(lock) as holder:
        if holder:
            raise ValueError(f'{path} is being written by {holder}; wait for it')
        for left in glob.glob(os.path.join(glob.escape(directory), f'{glob.escape(prefix)}*')):
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        stage = tempfile.mkdtemp(prefix=prefix, dir=directory)
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            os.remove(lock)


if __name__ == '__main__':
    flags.run(main)
