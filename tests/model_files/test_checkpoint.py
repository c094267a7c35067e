import json
import os
import pathlib
import resource
import shutil
import signal
import time
import tracemalloc

import numpy as np
import programs
import pytest
import tensorflow as tf

from src import model
from src.model_files import checkpoint, model_directory

HPARAMS = model.HParams(97, n_ctx=32, n_embd=24, n_head=3, n_layer=3)


def numbered(offset=0.0):
    """A tree whose variables are filled with 0, 1, 2, … so that each element is told apart."""
    count = iter(range(10**6))

    def variable(name, shape):
        size = int(np.prod(shape))
        values = [next(count) for _ in range(size)]
        return tf.Variable(np.reshape(values, shape).astype(np.float32) + np.float32(offset))

    return model.map_tree(variable, model.parameter_shapes(HPARAMS))


def same(params, other):
    pairs = zip(model.by_name(params).values(), model.by_name(other).values(), strict=True)
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


def save(directory, counter, model_dir, params=None, **state):
    state = state or {'state': tf.constant(counter)}
    names = model_directory.ARCHITECTURE
    files = {name: pathlib.Path(model_dir, name).read_bytes() for name in names}
    checkpoint.save(str(directory), counter, params or numbered(counter), state, files)


@pytest.fixture
def model_dir(models_dir):
    return models_dir / 'tiny'


def test_what_is_saved_is_loaded(tmp_path, model_dir):
    params = numbered()
    save(tmp_path / 'run', 10, model_dir, params, step=tf.constant(3), text=tf.constant('x'))
    prefix = model_directory.latest(tmp_path / 'run')
    assert prefix == str(tmp_path / 'run' / 'model-10')
    assert same(checkpoint.load(prefix, HPARAMS), params)
    assert checkpoint.load_state(prefix) == {'step': 3, 'text': b'x'}
    assert checkpoint.counter_of(prefix) == 10


def test_matrices_are_transposed_for_who_samples(model_dir):
    prefix, hparams = str(model_dir / 'model.ckpt'), checkpoint.read_hparams(str(model_dir))
    plain = model.by_name(checkpoint.load(prefix, hparams))
    loaded = model.by_name(checkpoint.load(prefix, hparams, transposed=True))
    assert len(loaded) == len(plain)
    for name, value in loaded.items():
        matrix = name.endswith('/w_t')
        expected = plain[name.removesuffix('_t')]
        np.testing.assert_array_equal(value, tf.transpose(expected[0]) if matrix else expected)
        assert matrix == name.removesuffix('_t').endswith('/w') and value.name == f'{name}:0'


def test_names_and_shapes_are_openais(tmp_path, model_dir):
    save(tmp_path / 'run', 1, model_dir, state=tf.zeros([2]))
    ours = tf.train.load_checkpoint(str(tmp_path / 'run' / 'model-1'))
    openais = tf.train.load_checkpoint(str(model_dir / 'model.ckpt'))
    assert ours.get_variable_to_shape_map() == openais.get_variable_to_shape_map()
    assert set(ours.get_variable_to_dtype_map().values()) == {tf.float32}


def test_openais_checkpoint_needs_no_meta(model_dir):
    whole = checkpoint.load(model_directory.latest(model_dir), HPARAMS)
    (model_dir / 'model.ckpt.meta').unlink()
    assert same(checkpoint.load(model_directory.latest(model_dir), HPARAMS), whole)


def test_a_run_directory_has_the_files_of_shepperds_and_is_a_model_directory(tmp_path, model_dir):
    save(tmp_path / 'run', 1000, model_dir)
    assert (tmp_path / 'run' / 'checkpoint').read_text() == (
        'model_checkpoint_path: "model-1000"\nall_model_checkpoint_paths: "model-1000"\n'
    )
    assert (tmp_path / 'run' / 'counter').read_text() == '1000\n'
    for name in ('hparams.json', 'encoder.json', 'vocab.bpe'):
        assert (tmp_path / 'run' / name).read_bytes() == (model_dir / name).read_bytes()
    names = set(os.listdir(tmp_path / 'run'))
    assert {'model-1000.index', 'model-1000.data-00000-of-00001', 'model-1000.meta'} <= names
    assert not [name for name in names if name.startswith('saving-')]


def test_tensorflow_1_restores_it_from_its_meta(tmp_path, model_dir):
    params = numbered()
    save(tmp_path / 'run', 5, model_dir, params)
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        saver = v1.train.import_meta_graph(str(tmp_path / 'run' / 'model-5.meta'))
        saver.restore(session, v1.train.latest_checkpoint(str(tmp_path / 'run')))
        restored = {v.op.name: session.run(v) for v in v1.global_variables()}
    expected = model.by_name(params)
    assert set(restored) == set(expected)
    assert all(np.array_equal(restored[name], expected[name]) for name in expected)


def test_the_last_five_are_kept_and_the_newest_state(tmp_path, model_dir):
    run = tmp_path / 'run'
    for counter in (2, 4, 6, 8, 10, 12, 14):
        save(run, counter, model_dir, state=tf.constant(counter))
    kept = [f'model-{n}' for n in (6, 8, 10, 12, 14)]
    assert sorted(p.stem for p in run.glob('model-*.index')) == sorted(kept)
    assert [p.name for p in run.glob('state-*.index')] == ['state-14.index']
    state = tf.train.get_checkpoint_state(str(run))
    assert state.all_model_checkpoint_paths == [str(run / name) for name in kept]


def test_files_that_are_not_ours_stay(tmp_path, model_dir):
    run = tmp_path / 'run'
    run.mkdir()
    for name in ('model-1.index', 'model-1.data-00000-of-00001', 'notes.txt', 'hparams.json'):
        (run / name).write_text('mine')
    for counter in range(2, 10):
        save(run, counter, model_dir)
    for name in ('model-1.index', 'model-1.data-00000-of-00001', 'notes.txt', 'hparams.json'):
        assert (run / name).read_text() == 'mine'


def test_a_checkpoint_is_written_anew_under_its_own_name(tmp_path, model_dir):
    save(tmp_path / 'run', 10, model_dir, numbered(0.25), state=tf.constant(1))
    save(tmp_path / 'run', 10, model_dir, numbered(0.5), state=tf.constant(2))
    prefix = model_directory.latest(tmp_path / 'run')
    assert same(checkpoint.load(prefix, HPARAMS), numbered(0.5))
    assert checkpoint.load_state(prefix) == {'state': 2}
    assert not list((tmp_path / 'run').glob('*before*'))


def test_copied_files_are_found_whatever_path_checkpoint_names(tmp_path, model_dir):
    save(tmp_path / 'run', 1000, model_dir)
    save(tmp_path / 'run', 1003, model_dir)
    copy = tmp_path / 'copy'
    copy.mkdir()
    for path in (tmp_path / 'run').glob('model-1000.*'):
        shutil.copy(path, copy)
    text = (tmp_path / 'run' / 'checkpoint').read_text()
    (copy / 'checkpoint').write_text(text)
    assert model_directory.latest(copy) == str(copy / 'model-1000')
    (copy / 'checkpoint').write_text('model_checkpoint_path: "/elsewhere/run1/model-1000"\n')
    assert model_directory.latest(copy) == str(copy / 'model-1000')


def damaged(directory):
    """(how, what is done to the files, what the message must name)"""
    data, index = directory / 'model.ckpt.data-00000-of-00001', directory / 'model.ckpt.index'
    whole = data.read_bytes()
    return {
        'no data': (data.unlink, 'model.ckpt is not whole: there is no .data'),
        'no index': (index.unlink, 'model.ckpt is not whole: there is no .index'),
        'truncated': (
            lambda: data.write_bytes(whole[:40000]),
            'data-.* is cut off: it has 40,000 of 9',
        ),
        'empty data': (lambda: data.write_bytes(b''), 'data-.* is cut off: it has 0 of 9'),
        'one bit': (
            lambda: data.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]),
            'damaged at model/h0/attn/c_attn/w.*Checksum',
        ),
        'an error page': (lambda: index.write_text('<Error>NoSuchKey</Error>'), 'index is damaged'),
    }


@pytest.mark.parametrize(
    'how', ['no data', 'no index', 'truncated', 'empty data', 'one bit', 'an error page']
)
def test_damaged_files_are_named(model_dir, how):
    damage, message = damaged(model_dir)[how]
    prefix = model_directory.latest(model_dir)
    damage()
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load(prefix, HPARAMS)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['br[1]', 'a*b', 'what?', '[!x]', 'back\\slash', '{a,b}', 'ü 好'])
def test_a_path_is_no_pattern(tmp_path, model_dir, name):
    run, params = tmp_path / name / 'run', numbered()
    save(run, 3, model_dir, params)
    prefix = model_directory.latest(run)
    assert same(checkpoint.load(prefix, HPARAMS), params)
    assert checkpoint.load_state(prefix) == {'state': 3}


def test_a_checkpoint_that_was_renamed_has_no_state(tmp_path, model_dir):
    save(tmp_path / 'run', 3, model_dir)
    for path in (tmp_path / 'run').glob('model-3.*'):
        path.rename(path.with_name(path.name.replace('model-3', 'final')))
    assert checkpoint.load_state(str(tmp_path / 'run' / 'final')) is None


@pytest.mark.parametrize(
    'dtype, said', [(tf.int32, 'int32'), (tf.complex64, 'complex64'), (tf.string, 'string')]
)
def test_weights_that_are_no_floats_are_named(tmp_path, dtype, said):
    tensors = model.by_name(numbered())
    wpe = tensors['model/wpe']
    value = tf.fill(wpe.shape, 'x') if dtype == tf.string else tf.cast(wpe, dtype)
    checkpoint._write(str(tmp_path / 'x'), {**tensors, 'model/wpe': value})
    with pytest.raises(ValueError, match=f'x: model/wpe is {said}; weights are floats'):
        checkpoint.load(str(tmp_path / 'x'), HPARAMS)


@pytest.mark.parametrize('dtype', [tf.float16, tf.bfloat16, tf.float64])
def test_floats_of_other_widths_are_widened(tmp_path, dtype):
    params = numbered()
    tensors = {name: tf.cast(value / 2**17, dtype) for name, value in model.by_name(params).items()}
    checkpoint._write(str(tmp_path / 'x'), tensors)
    loaded = model.by_name(checkpoint.load(str(tmp_path / 'x'), HPARAMS))
    for name, value in tensors.items():
        assert np.array_equal(loaded[name], tf.cast(value, tf.float32))


@pytest.mark.parametrize('size', ['n_layer', 'n_ctx'])
def test_sizes_that_cannot_be_are_refused_at_once(tmp_path, model_dir, size):
    hparams = model.HParams(**{**vars(HPARAMS), size: 10**9})
    begin = time.time()
    with pytest.raises(ValueError, match='model.ckpt'):
        checkpoint.load(model_directory.latest(model_dir), hparams)
    assert time.time() - begin < 5


@pytest.mark.parametrize('text', ['-3', 'abc', '', '1e9', '9' * 50, '\x00'])
def test_a_counter_that_is_none_is_named(tmp_path, text):
    (tmp_path / 'counter').write_text(text)
    with pytest.raises(ValueError, match='counter holds .*; it should be the number of a step'):
        checkpoint.counter_of(str(tmp_path / 'model.ckpt'))


@pytest.mark.parametrize(
    'size, message',
    [
        ({'n_layer': 4}, 'model.ckpt has no tensor model/h3/ln_1/g'),
        ({'n_layer': 2}, 'model.ckpt has more than the 2 layers'),
        ({'n_ctx': 64}, r'model/wpe has shape \[32, 24\]; by hparams.json it should have \[64, 24'),
        ({'n_vocab': 98}, r'model/wte has shape \[97, 24\]'),
    ],
)
def test_shapes_that_disagree_with_hparams_are_named(model_dir, size, message):
    hparams = json.loads((model_dir / 'hparams.json').read_text())
    (model_dir / 'hparams.json').write_text(json.dumps({**hparams, **size}))
    with pytest.raises(ValueError, match=message):
        hparams = checkpoint.read_hparams(model_dir)
        checkpoint.load(model_directory.latest(model_dir), hparams)


@pytest.mark.parametrize(
    'text', ['', '[]', '{"n_ctx": 8}', '{"n_vocab": "97"}', '<Error/>', '[' * 100_000]
)
def test_hparams_that_cannot_be_read_are_named(tmp_path, text):
    (tmp_path / 'hparams.json').write_text(text)
    with pytest.raises(ValueError, match='hparams.json does not describe a model'):
        checkpoint.read_hparams(tmp_path)


def test_a_full_disk_loses_nothing(tmp_path, model_dir):
    params = numbered()
    save(tmp_path / 'run', 1, model_dir, params)
    before = {p.name: p.read_bytes() for p in (tmp_path / 'run').iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match='run could not be written'):
            save(tmp_path / 'run', 2, model_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {p.name: p.read_bytes() for p in (tmp_path / 'run').iterdir()} == before


SAVER = """
import sys
import test_checkpoint
directory, model_dir = sys.argv[1:]
for counter in range(1, 10**6):
    for again in range(2):
        test_checkpoint.save(directory, counter, model_dir, state=counter)
    print(counter, flush=True)
"""


def test_killed_at_any_moment_the_last_complete_checkpoint_is_restored(tmp_path, model_dir):
    saver = programs.Program(['-c', SAVER, tmp_path / 'run', model_dir], tmp_path)
    saver.stdout.readline()
    for delay in np.random.default_rng(0).uniform(0, 0.2, size=30):
        time.sleep(delay)
        saver.send_signal(signal.SIGSTOP)  # as good as killed: what is on disk is what is there
        prefix = model_directory.latest(tmp_path / 'run')
        counter = checkpoint.counter_of(prefix)
        assert same(checkpoint.load(prefix, HPARAMS), numbered(counter))
        assert checkpoint.load_state(prefix) == {'state': counter}
        saver.send_signal(signal.SIGCONT)
    saver.kill()
    saver.wait()
    saver.close()
    save(tmp_path / 'run', counter + 1000, model_dir)
    assert not list((tmp_path / 'run').glob('saving-*'))


def test_hparams_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / 'hparams.json').write_text('{"n_vocab": 97}', 'utf-8-sig')
    assert checkpoint.read_hparams(str(tmp_path)).n_vocab == 97
    assert model_directory.sizes(str(tmp_path)) == {'n_vocab': 97}


def test_of_a_huge_file_no_more_is_read_than_the_file_would_have(tmp_path):
    for name in ('hparams.json', 'counter'):
        with open(tmp_path / name, 'wb') as file:
            file.truncate(10**9)  # zeros, of which none is written
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match='hparams.json does not describe a model'):
            checkpoint.read_hparams(str(tmp_path))
        with pytest.raises(ValueError, match='counter holds .* should be the number of a step'):
            checkpoint.counter_of(str(tmp_path / 'model'))
        assert model_directory.sizes(str(tmp_path)) == {}
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
