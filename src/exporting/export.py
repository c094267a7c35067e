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
import copy
import dataclasses
import glob
import math
import os
import re
import shutil
import sys
import tempfile

from .. import encoder
from ..command_line import flags, quiet
from ..model_files import model_directory
from ..sampling import backends, litert

LARGEST = 2**31  # bytes of a .tflite, in which places are signed 32-bit numbers
OVERHEAD = 2**21  # the graph: not quite 20 kB for each layer
SCALE = 12  # bytes for each output of int8 weights: a float32 scale, an int64 zero


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
        ValueError: no such model, a damaged checkpoint, or a model too large for the format.
        OSError: the file could not be written; what was there before is still there.
    """
    directory, prefix = model_directory.checkpoint_of(config.model_name, config.models_dir)
    quiet.import_tensorflow()  # here: a wrong name is refused before it loads
    from ..model_files import checkpoint

    hparams = checkpoint.read_hparams(directory)
    if config.format == 'litert':
        require_room(hparams, config.dtype)
    ids = encoder.get_encoder('', directory).decoder
    model_directory.require_vocabulary(directory, ids, hparams.n_vocab)
    print('Loading checkpoint', prefix, file=sys.stderr)
    date = _date(f'{prefix}.index')  # before it is read: what is saved meanwhile is newer
    params = checkpoint.load(prefix, hparams)
    backends.require_finite(prefix, params)
    if config.format == 'savedmodel':
        path = f'{prefix}-savedmodel'  # with no dot: the trainer's files are model-N.*
        write_saved_model(path, hparams, params)
    else:
        path = litert.path_of(prefix, config.dtype)
        write_tflite(path, hparams, params, config.dtype, date)
    print('Wrote', path, file=sys.stderr)
    return path


def require_room(hparams, dtype):
    """Raises ValueError: a .tflite of that dtype would be too large; the message says what fits."""
    from .. import model

    shapes = model.by_name(model.parameter_shapes(hparams))
    sizes = {dtype: tflite_size(shapes, dtype) for dtype in litert.DTYPES}
    if sizes[dtype] < LARGEST:
        return
    fitting = [f'--dtype {other}' for other, size in sizes.items() if size < LARGEST]
    raise ValueError(
        f'in {dtype} this model has {sizes[dtype] / 2**30:.2f} GiB, and a .tflite at most 2; '
        f'what fits: {", ".join([*fitting, "--format savedmodel"])}'
    )


def tflite_size(shapes, dtype):
    """About how many bytes a .tflite has, of tensors of these shapes: {name: shape}."""
    size = OVERHEAD
    for name, shape in shapes.items():
        if dtype == 'int8' and len(shape) > 1 and name != 'model/wpe':
            size += math.prod(shape) + SCALE * max(shape[0], shape[-1])
        else:
            size += 4 * math.prod(shape)
    return size


def write_tflite(path, hparams, params, dtype, date):
    """Write the .tflite of a model. `date` is that of the weights, see litert.current."""
    import tensorflow as tf

    from . import litert_graph

    step = litert_graph.Step(hparams, params, dtype)
    with _staging(path) as stage:
        graph, new = os.path.join(stage, 'graph'), os.path.join(stage, 'tflite')
        first = litert.SIGNATURES[0]
        tf.saved_model.save(step, graph, signatures={first: step.signature()})
        converter = tf.lite.TFLiteConverter.from_saved_model(graph, signature_keys=[first])
        if dtype == 'int8':  # the weights; XNNPACK rounds activations as they come
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        with open(new, 'wb') as file:
            file.write(_under_all_signatures(converter.convert()))
            file.flush()
            os.fsync(file.fileno())
        os.utime(new, ns=(date, date))
        os.replace(new, path)


def _under_all_signatures(tflite):  # bytes -> bytes
    """The file's one graph by each of its names; the converter would make a graph for each."""
    from tensorflow.lite.tools import flatbuffer_utils

    tflite = flatbuffer_utils.convert_bytearray_to_object(tflite)
    (signature,) = tflite.signatureDefs
    tflite.signatureDefs = [copy.copy(signature) for _ in litert.SIGNATURES]
    for signature, name in zip(tflite.signatureDefs, litert.SIGNATURES, strict=True):
        signature.signatureKey = name
    return flatbuffer_utils.convert_object_to_bytearray(tflite)


def write_saved_model(path, hparams, params):
    """Write the SavedModel of a model, a folder."""
    import tensorflow as tf

    from .. import model

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
def _staging(path):
    """A folder beside `path` for what is not complete yet."""
    import tensorflow as tf

    directory, name = os.path.split(path)
    prefix = f'exporting-{name}-'
    for left in glob.glob(os.path.join(glob.escape(directory), f'{glob.escape(prefix)}*')):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    stage = tempfile.mkdtemp(prefix=prefix, dir=directory)
    try:
        yield stage
    except (tf.errors.OpError, OSError) as error:
        reason = re.sub(r'{{.*}} |.*; | \[Op:.*', '', str(error).partition('\n')[0])
        raise OSError(f'{path} could not be written: {reason}') from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


if __name__ == '__main__':
    flags.run(main)
