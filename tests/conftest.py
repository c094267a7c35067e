"""What several tests start from: a real model directory, and a model that is no model."""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import json
import os
import pathlib
import re
import shutil
import signal

# Before NumPy and TensorFlow are loaded, here and in the programs that tests start: two files of
# tests take two cores; and what is compiled runs for milliseconds, and need not be fast.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')  # as quiet.import_tensorflow has it
os.environ['XLA_FLAGS'] = ' '.join(
    (
        os.environ.get('XLA_FLAGS', ''),
        '--xla_backend_optimization_level=0',
        '--xla_llvm_disable_expensive_passes=true',
        '--xla_cpu_use_fusion_emitters=false',
    )
)

import in_children
import numpy as np
import programs
import pytest
import runs
import shared_steps
import started
import tensorflow as tf

from src import encoder, model
from src.exporting import export
from src.gradients import custom_gradients, small_model
from src.model_files import checkpoint, model_directory
from src.training import train_step

GOLDEN = pathlib.Path(__file__).parent / 'golden'
ROOT = GOLDEN.parent.parent
TEXT = 'All the world is a stage, and all the men and women merely players;\n' * 20


# In the background a shell lets SIGINT be ignored, nohup SIGHUP, and so would all programs that
# tests start: a signal that is handled here has its default in them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, lambda *_: None)

pytest_addoption, pytest_runtestloop = in_children.pytest_addoption, in_children.pytest_runtestloop


def pytest_collection_finish():
    # One thread adds in one order, so that what is equal is equal to the last bit. An error here is
    # of a file of tests that lets TensorFlow begin when it is imported, with which none could fork.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    programs.begin()
    # It takes a tenth of the time, for graphs that run once; programs have it, as for their users.
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
    # What is traced is garbage by the thousands; and nothing that is there before the first test
    # is looked at whenever it is collected.
    gc.set_threshold(50_000)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def steps_of_large_models(monkeypatch):
    """Tiny models are trained as large ones are, whose steps do not take seconds to compile."""
    monkeypatch.setattr(small_model, 'WIDEST', 0)


@pytest.fixture(autouse=True)
def steps_are_compiled_once(monkeypatch):
    """Runs that only differ in their files and numbers of steps need not be compiled each."""
    monkeypatch.setattr(train_step, 'compiled', shared_steps.compiled)


@pytest.fixture(autouse=True)
def gradients_are_forgotten():
    """Those that a test took itself as well, or they would stay in memory to the end."""
    with custom_gradients.forgotten_afterwards():
        yield


@pytest.fixture(autouse=True, scope='module')
def memory_is_given_back():
    """What the tests of a file have left: graphs, which lie in circles, and what held them."""
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # where the C library is another one
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope='session')
def golden():
    """Read one of the recorded files."""

    def read(name):
        path = GOLDEN / name
        return np.load(path) if path.suffix == '.npz' else json.loads(path.read_text('utf-8'))

    return read


@pytest.fixture(scope='session')
def openais():
    """The encoder with OpenAI's own vocabulary."""
    return encoder.get_encoder('vocabulary', str(GOLDEN.parent))


@pytest.fixture(scope='session')
def small():
    """The encoder with the 1,024 tokens of the demo."""
    return encoder.get_encoder('shakespeare', str(ROOT / 'models'))


@pytest.fixture
def models_dir(tmp_path):
    """A folder with one model, `tiny`: OpenAI's format, 97 tokens, a window of 32, 3 layers."""
    shutil.copytree(GOLDEN / 'openai_checkpoint', tmp_path / 'models' / 'tiny')
    return tmp_path / 'models'


@pytest.fixture(scope='session')
def shallow(tmp_path_factory):
    """The directory of the recorded model with its first layer alone, traced in half the time."""
    recorded, directory = GOLDEN / 'openai_checkpoint', tmp_path_factory.mktemp('shallow')
    for name in ('checkpoint', 'encoder.json', 'vocab.bpe'):
        shutil.copy(recorded / name, directory)
    hparams = json.loads((recorded / 'hparams.json').read_text())
    (directory / 'hparams.json').write_text(json.dumps({**hparams, 'n_layer': 1}))
    reader = tf.train.load_checkpoint(str(recorded))
    names = [n for n in reader.get_variable_to_shape_map() if not re.match('model/h[^0]', n)]
    tf.raw_ops.SaveV2(
        prefix=str(directory / 'model.ckpt'), tensor_names=names,
        shape_and_slices=[''] * len(names), tensors=[reader.get_tensor(name) for name in names],
    )  # fmt: skip
    return directory


@pytest.fixture
def shallow_models_dir(tmp_path, shallow):
    """As `models_dir`, but `tiny` has one layer."""
    shutil.copytree(shallow, tmp_path / 'models' / 'tiny')
    return tmp_path / 'models'


@pytest.fixture
def place(shallow_models_dir, monkeypatch):
    """A working directory with the model `tiny`, of one layer, and a text."""
    monkeypatch.chdir(shallow_models_dir.parent)
    pathlib.Path('text').write_text(TEXT)
    return shallow_models_dir.parent


@pytest.fixture
def run(place, monkeypatch, capfd):
    """Do what a program does that is started in `place`, but in this process."""
    return lambda command, typed='': started.captured(monkeypatch, capfd, command, typed)


@pytest.fixture(scope='session')
def after_two_steps(tmp_path_factory, shallow):
    """The directory `checkpoint` after train(steps=2) in `place`."""
    directory = tmp_path_factory.mktemp('after_two_steps')
    shutil.copytree(shallow, directory / 'models' / 'tiny')
    (directory / 'text').write_text(TEXT)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)
        monkeypatch.setattr(small_model, 'WIDEST', 0)
        monkeypatch.setattr(train_step, 'compiled', shared_steps.compiled)
        runs.train(steps=2)
    return directory / 'checkpoint'


@pytest.fixture
def trained(place, after_two_steps):
    """The same as `place`, with a run of two steps, `run1`."""
    shutil.copytree(after_two_steps, place / 'checkpoint')
    return place


@pytest.fixture
def tiny():
    """The recorded model, loaded."""
    return recorded()


@pytest.fixture
def two_layers():
    """The recorded model with two of its layers: a first and a last one, and less to trace."""
    lm = recorded()
    params = {name: part for name, part in lm.params.items() if name != 'h2'}
    return model.GPT2(dataclasses.replace(lm.hparams, n_layer=2), params)


def recorded(transposed=False):
    """The recorded model; transposed: as it is loaded to sample."""
    directory = str(GOLDEN / 'openai_checkpoint')
    hparams = checkpoint.read_hparams(directory)
    params = checkpoint.load(model_directory.latest(directory), hparams, transposed=transposed)
    return model.GPT2(hparams, params)


@pytest.fixture(scope='session')
def letters():
    """The encoder of the recorded model: 96 characters from '!' on, and <|endoftext|>."""
    return encoder.get_encoder('openai_checkpoint', str(GOLDEN))


@pytest.fixture(scope='session')
def side_by_side():
    """The server's Slots of the recorded model, with pages and pieces of a few tokens, compiled."""
    from src.serving import slots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, 'BLOCK', 8)
        patch.setattr(slots.Slots, 'piece', 4)
        made = slots.Slots(recorded(), 4)
        made.warm_up()
        yield made


@pytest.fixture(scope='session')
def exported(tmp_path_factory):
    """The path of the recorded model's .tflite of some dtype; nobody may change it."""
    models_dir = tmp_path_factory.mktemp('exported')
    shutil.copytree(GOLDEN / 'openai_checkpoint', models_dir / 'tiny')

    @functools.cache
    def path(dtype):
        config = {'model_name': 'tiny', 'models_dir': str(models_dir), 'dtype': dtype}
        return export.export(export.ExportConfig(**config))

    return path


def traced(lm):
    """How often a function was compiled for a model."""
    functions = vars(lm).get('_compiled', {}).values()
    return sum(function.experimental_get_tracing_count() for function in functions)


class Successor(tf.Module):
    """A language model that expects the token after each token: 5 is followed by 6.

    It counts how often it was run, and what it is asked for it takes from the tokens in its past.
    """

    def __init__(self, n_vocab=50, n_ctx=1024):
        super().__init__()
        self.hparams = model.HParams(n_vocab, n_ctx=n_ctx, n_embd=1, n_head=1, n_layer=1)
        self.tokens_read = tf.Variable(0)

    def empty_cache(self, batch_size, window):
        return model.empty_cache(hparams=self.hparams, batch_size=batch_size, window=window)

    def __call__(self, tokens, past):
        self.tokens_read.assign_add(tf.size(tokens))
        seen = tf.cast(tokens, tf.float32)[:, None, :, None]  # as if it were keys and values
        (present,) = [layer.extended(seen, seen) for layer in past]
        last = tf.range(present.k.shape[-2]) == present.length[:, None] - 1  # [batch, window]
        token = tf.reduce_sum(tf.where(last, present.k[:, 0, :, 0], 0.0), axis=-1)
        expected = (tf.cast(token, tf.int32) + 1) % self.hparams.n_vocab
        return {
            'logits': 10 * tf.one_hot(expected, self.hparams.n_vocab)[:, None],
            'present': [present],
        }


@pytest.fixture
def successor():
    return Successor()
