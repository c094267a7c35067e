"""Sessions: handles of models, several at once, one after the other."""

import gc
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from src import model
from src.model_files import checkpoint
from src.simple import generating, session


def say(sess):
    return generating.generate(sess, length=6, seed=1, return_as_list=True)[0]


@pytest.fixture
def runs(tmp_path, shallow, monkeypatch):
    """Three runs: two of the recorded model, and one with other weights, which has two of them."""
    monkeypatch.chdir(tmp_path)
    for name in ('run1', 'same', 'other'):
        shutil.copytree(shallow, f'checkpoint/{name}')
    hparams = checkpoint.read_hparams('checkpoint/other')
    for number in (1, 2):
        checkpoint.save('checkpoint/other', number, model.init_params(hparams, number), None, {})
    return tmp_path


@pytest.fixture
def made(monkeypatch):
    """A list that grows with each model that is made."""
    made, of_a_session = [], model.GPT2
    monkeypatch.setattr(session, '_free', [])
    monkeypatch.setattr(model, 'GPT2', lambda *_: made.append(of_a_session(*_)) or made[-1])
    return made


def test_several_at_once_and_a_model_for_several_one_after_the_other(runs, made, capsys):
    first, second = session.start_tf_sess(), session.start_tf_sess()
    session.load_gpt2(first)
    session.load_gpt2(second, run_name='other', checkpoint='model-1')
    text, other = say(first), say(second)
    assert text != other and say(first) == text and len(made) == 2
    second.close()
    third = session.start_tf_sess()
    session.load_gpt2(third, run_name='same')  # in the variables that were the second's
    assert say(third) == text and len(made) == 2
    session.load_gpt2(third, run_name='other')
    assert say(third) not in (text, other)  # model-2
    session.load_gpt2(third, run_name='other', checkpoint='model-1')
    assert say(third) == other and say(first) == text and len(made) == 2
    third = session.reset_session(third)  # what was not closed is given back, too
    first = None
    gc.collect()
    assert len(session._free) == 2
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'Loading checkpoint checkpoint/run1/model.ckpt'
    assert out[1] == 'Loading checkpoint checkpoint/other/model-1'


def test_a_damaged_file_leaves_its_place_to_the_next(runs, made):
    sess = session.start_tf_sess()
    session.load_gpt2(sess)
    data = runs / 'checkpoint' / 'same' / 'model.ckpt.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(ValueError, match='checkpoint/same/model.ckpt.data-'):
        session.load_gpt2(sess, run_name='same')
    assert len(session._free) == 1
    session.load_gpt2(sess)
    weights = sess.loaded().lm.params['wte']  # of the part that was not there
    hparams = checkpoint.read_hparams('checkpoint/run1')
    params = checkpoint.load('checkpoint/run1/model.ckpt', hparams)
    np.testing.assert_array_equal(weights, params['wte'])
    assert len(made) == 1


def test_weights_that_are_no_numbers_are_refused(runs, made):
    params = model.init_params(checkpoint.read_hparams('checkpoint/run1'), 1)
    params['wpe'].assign(params['wpe'] * np.nan)
    checkpoint.save('checkpoint/run1', 3, params, None, {})
    sess = session.start_tf_sess()
    with pytest.raises(ValueError, match='model-3: model/wpe has weights that are no finite'):
        session.load_gpt2(sess)


def test_openais_models_are_loaded_by_name(place, capsys):
    sess = session.start_tf_sess()
    session.load_gpt2(sess, model_name='tiny')
    assert capsys.readouterr().out == 'Loading pretrained model models/tiny/model.ckpt\n'
    assert sess.directory == 'models/tiny'
    with pytest.raises(
        FileNotFoundError, match=r'There is no models/9M.*download_gpt2\(model_name='
    ):
        session.load_gpt2(sess, model_name='9M')
    assert sess.directory == 'models/tiny'


def test_mistakes_are_told_in_one_line(runs):
    sess = session.start_tf_sess()
    with pytest.raises(ValueError, match=r'no model yet: gpt2.load_gpt2\(sess\), or gpt2.finet'):
        say(sess)
    with pytest.raises(FileNotFoundError, match='no model in checkpoint/no; .* other, run1, same'):
        session.load_gpt2(sess, run_name='no')
    with pytest.raises(
        ValueError, match='checkpoint/other has no model-9; it has model-1, model-2'
    ):
        session.load_gpt2(sess, 'model-9', 'other')
    sess.close()
    for function in (session.load_gpt2, say):
        with pytest.raises(
            ValueError, match=r'closed; start another: sess = gpt2.start_tf_sess\(\)'
        ):
            function(sess)
    with pytest.raises(ValueError, match=r"sess is 'run1'; it must be what gpt2.start_tf_sess"):
        session.load_gpt2('run1')
    with pytest.raises(ValueError, match='server must be None'):
        session.start_tf_sess(server='grpc://host')


def test_threads_are_set_while_tensorflow_has_not_begun(monkeypatch, capsys):
    threading = tf.config.threading
    number = threading.get_intra_op_parallelism_threads()
    tf.zeros([])  # it has
    session.start_tf_sess(threads=number)
    assert capsys.readouterr().err == ''
    session.start_tf_sess(threads=number + 1)
    assert (
        capsys.readouterr().err == f'threads={number + 1} comes too late: TensorFlow is at work\n'
    )


def test_what_tensorflow_1_had_is_there_for_programs_that_import_it(monkeypatch):
    monkeypatch.delattr(tf, 'reset_default_graph', raising=False)
    session.start_tf_sess()
    sys.modules['tensorflow'].reset_default_graph()


def test_gpus_have_the_names_that_tensorflow_1_gave_them(monkeypatch):
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [kind, kind])
    assert session.get_available_gpus() == ['/device:GPU:0', '/device:GPU:1']


VERSION_1 = """
import sys
import tensorflow.compat.v1 as tf
{how}
import gpt_2_simple as gpt2
with tf.Graph().as_default(), gpt2.start_tf_sess() as sess:
    gpt2.load_gpt2(sess, model_name='tiny')
    texts = gpt2.generate(sess, length=3, prefix='All', return_as_list=True)
    gpt2.finetune(sess, 'text', steps=1, model_name='tiny', sample_every=0, seed=1)
    assert not tf.executing_eagerly() and texts[0].startswith('All') and sess.directory
    assert tf.TensorShape([1])[0].__class__.__name__ == {dimension!r}
assert sess.closed
"""


@pytest.mark.parametrize(
    'how, dimension',
    [('tf.disable_eager_execution()', 'int'), ('tf.disable_v2_behavior()', 'Dimension')],
)
def test_programs_that_have_chosen_tensorflow_1(place, how, dimension):
    program = VERSION_1.format(how=how, dimension=dimension)
    done = subprocess.run(
        [sys.executable, '-c', program], env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
