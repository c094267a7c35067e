"""What gpt-2-simple's programs hold in `sess`: a light handle of a model. There may be several.

Its own is a session of TensorFlow 1 with a graph, of which a process has one.
"""

import contextlib
import os
import sys
import weakref

from .. import encoder
from ..command_line import quiet
from ..model_files import model_directory
from ..sampling import backends, generation

_free = []  # models that no session has any more; see _model


class Refused(ValueError, AssertionError):
    """What gpt-2-simple asserts, so that programs which expect that go on; its text is one line."""


class Session:
    """One model at a time, or none.

    Attributes:
        directory: of the model; None where there is none.
    """

    def __init__(self):
        self.closed = False
        self.directory = self._prefix = self._loaded = None
        self._give_back = lambda: None

    def hold(self, directory, prefix):
        """Be the model of a checkpoint, which is read when it is needed."""
        self.release()
        self.directory, self._prefix = directory, prefix

    def release(self):
        """Have no model; what the one that was there takes in memory, another may have."""
        self._give_back()
        self.directory = self._prefix = self._loaded = None

    def loaded(self):
        """The model, a generation.Loaded. Raises ValueError where there is none."""
        if not self.directory:
            raise ValueError(
                'This session has no model yet: gpt2.load_gpt2(sess), or gpt2.finetune(sess, …)'
            )
        if not self._loaded:
            self._loaded = _load(self.directory, self._prefix)
            self._give_back = weakref.finalize(self, _free.append, self._loaded.lm)
            self._give_back.atexit = False
        return self._loaded

    def close(self):
        self.release()
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def eagerly():
    """TensorFlow works as in version 2 here, also in a program that has made it work as in 1.

    gpt-2-simple does that itself, and its programs do, or hold a graph of their own.
    """
    quiet.import_tensorflow()
    import tensorflow as tf
    from tensorflow.python.eager import context  # nothing public ends the work on a graph

    of_version_1 = not isinstance(tf.TensorShape([1])[0], int)
    if of_version_1:
        tf.compat.v1.enable_v2_tensorshape()
    try:
        with context.eager_mode():
            yield
    finally:
        if of_version_1:
            tf.compat.v1.disable_v2_tensorshape()


def _load(directory, prefix):
    quiet.import_tensorflow()
    from ..model_files import checkpoint

    enc = encoder.get_encoder('', directory)
    lm = _model(prefix, checkpoint.read_hparams(directory))
    model_directory.require_vocabulary(directory, enc.decoder, lm.hparams.n_vocab)
    return generation.Loaded(lm, enc)


def _model(prefix, hparams):
    """The model.GPT2 of a checkpoint: one that no session has any more, filled anew, or a new one.

    What TensorFlow has compiled for a model stays in memory with its weights as long as the process
    does. So a program that loads its model again and again, as gpt-2-cloud-run's does, neither
    grows nor compiles again.
    """
    from .. import model
    from ..model_files import checkpoint

    lm = next((lm for lm in _free if lm.hparams == hparams), None)
    if lm is None:
        lm = model.GPT2(hparams, checkpoint.load(prefix, hparams, transposed=True))
    else:
        variables = model.by_name(lm.params)
        checkpoint.load(
            prefix, hparams, lambda value, name: variables[name].assign(value), transposed=True
        )
    backends.require_finite(prefix, model.by_name(lm.params))
    if lm in _free:  # until now: it may be filled again if a file is damaged
        _free.remove(lm)
    return lm


def start_tf_sess(threads=-1, server=None):
    """A Session.

    Args:
        threads: above 0, how many TensorFlow works with, unless it has begun to work already.
        server: None; there is no graph that another process could hold.
    """
    if server is not None:
        raise ValueError('server must be None: machines train together by TF_CONFIG and multi_gpu')
    if tf := sys.modules.get('tensorflow'):
        # gpt-2-cloud-run calls it before each new session, as programs did in TensorFlow 1.
        if not hasattr(tf, 'reset_default_graph'):
            tf.reset_default_graph = tf.compat.v1.reset_default_graph
    if threads > 0:
        _use_threads(threads)
    return Session()


def _use_threads(number):
    quiet.import_tensorflow()
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)
    except RuntimeError:
        print(f'threads={number} comes too late: TensorFlow is at work', file=sys.stderr)


def reset_session(sess, threads=-1, server=None):
    """Close a session, whose model is gone then, and start another."""
    sess.close()
    return start_tf_sess(threads, server)


def require(sess):
    """Raise ValueError where `sess` is no session, or a closed one."""
    if not isinstance(sess, Session):
        raise ValueError(f'sess is {sess!r}; it must be what gpt2.start_tf_sess() gives')
    if sess.closed:
        raise ValueError('This session is closed; start another: sess = gpt2.start_tf_sess()')


def get_available_gpus():
    """The names of the GPUs that TensorFlow sees: ['/device:GPU:0', …]."""
    quiet.import_tensorflow()
    import tensorflow as tf

    return [f'/device:GPU:{n}' for n in range(len(tf.config.list_physical_devices('GPU')))]


def load_gpt2(
    sess,
    checkpoint='latest',
    run_name='run1',
    checkpoint_dir='checkpoint',
    model_name=None,
    model_dir='models',
    multi_gpu=False,
    reuse=False,
):
    """Let a session have the model of a run, or OpenAI's.

    Args:
        checkpoint: latest, or the name of one that is kept, as model-500.
        run_name: the folder of the run in `checkpoint_dir`.
        model_name: above it, a model in `model_dir`.
        multi_gpu: means nothing here: a text is made on one device.
        reuse: means nothing here: what the session had before is replaced.

    Raises:
        FileNotFoundError: there is no such run, or no such model.
        ValueError: no such checkpoint, or files that are damaged or do not fit together.
    """
    require(sess)
    directory = find(model_name, model_dir) if model_name else run(run_name, checkpoint_dir)
    prefix = _prefix(directory, checkpoint)
    print('Loading pretrained model' if model_name else 'Loading checkpoint', prefix, flush=True)
    sess.hold(directory, prefix)
    with eagerly():
        sess.loaded()


def find(model_name, model_dir, needs=model_directory.WHOLE):
    """The directory of a model, as model_directory.find; where there is none, FileNotFoundError."""
    try:
        return model_directory.find(model_name, model_dir, needs)
    except ValueError as error:
        raise FileNotFoundError(
            f'{error}. In Python: gpt2.download_gpt2(model_name={model_name!r})'
        ) from None


def run(run_name, checkpoint_dir):
    """The directory of a run that has a model. Raises FileNotFoundError where there is none."""
    directory = os.path.join(checkpoint_dir, run_name)
    if not model_directory.has(directory, model_directory.WHOLE):
        there = ', '.join(model_directory.names(checkpoint_dir)) or 'none'
        raise FileNotFoundError(
            f'There is no model in {directory}; the runs in {checkpoint_dir} are: {there}. Make '
            'one: gpt2.finetune(sess, …), or load another: gpt2.load_gpt2(sess, model_name="124M")'
        )
    return directory


def _prefix(directory, checkpoint):
    if checkpoint == 'latest':
        return model_directory.latest(directory)
    prefix = os.path.join(directory, checkpoint)
    if not os.path.isfile(f'{prefix}.index'):
        names = sorted(os.listdir(directory))
        there = [name.removesuffix('.index') for name in names if name.endswith('.index')]
        there = [name for name in there if name.startswith('model')]
        raise ValueError(f'{directory} has no {checkpoint}; it has {", ".join(there) or "none"}')
    return prefix
