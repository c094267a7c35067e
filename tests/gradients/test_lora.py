import numpy as np
import pytest
import tensorflow as tf
from conftest import recorded

from src import model
from src.gradients import lean_block, lora
from src.model_files import checkpoint, model_directory
from src.training import train_config, train_step

TOKENS = np.random.default_rng(0).integers(0, 97, [1, 2, 16])


@pytest.fixture
def adapted(tiny_prefix):
    """The tiny model with adapters of rank 3 that are not zero, its scale being 2."""

    def adapted(dtype=tf.float32):
        prefix, hparams = tiny_prefix
        params = checkpoint.load(prefix, hparams, lora.frozen(dtype))
        lora.add_adapters(params, 3, seed=1)
        random = np.random.default_rng(2)
        for _, linear in lora.linear_layers(params):
            b = linear['lora']['b']
            b.assign(0.1 * random.normal(size=b.shape))
        return model.GPT2(hparams, params)

    return adapted


@pytest.fixture
def sampling():
    """The tiny model as it is loaded to sample."""
    return recorded(transposed=True)


@pytest.fixture
def tiny_prefix(models_dir):
    directory = str(models_dir / 'tiny')
    return model_directory.latest(directory), checkpoint.read_hparams(directory)


def whole(branches):
    return {key: value for branch in branches for key, value in branch.items()}


@pytest.fixture(autouse=True)
def steps_are_compiled_once():
    """Each is compiled anew, for that is what is tested."""


def config(**changes):
    settings = {'dataset': '', 'batch_size': 2, 'seed': 1, 'lora_rank': 3, 'lora_alpha': 6.0}
    return train_config.TrainConfig(**(settings | changes))


def start(lm, **changes):
    settings = config(**changes)
    state = train_step.TrainState(lm, settings, [np.arange(50, dtype=np.uint16)])
    return state, train_step.compiled(state, settings, 16)


def test_at_first_adapters_change_nothing(tiny_prefix, tiny):
    prefix, hparams = tiny_prefix
    params = checkpoint.load(prefix, hparams, lora.frozen(tf.float32))
    lora.add_adapters(params, 4)
    merged = model.by_name(whole(lora.merged(params, 2.0)))
    for name, value in model.by_name(tiny.params).items():
        assert np.array_equal(merged[name], value)


def test_a_block_with_adapters_is_the_block_of_the_merged_weights(adapted):
    lm = adapted()
    x = tf.constant(np.random.default_rng(3).normal(size=[2, 16, 24]), tf.float32)
    merged = whole(lora.merged(lm.params, 2.0))
    block = lean_block.lean_block(lora_scale=2.0)
    y, _ = block(x, lm.params['h1'], past=None, hparams=lm.hparams)
    expected, _ = model.block(x, merged['h1'], past=None, hparams=lm.hparams)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    plain, _ = model.block(
        x, whole(lora.merged(lm.params, 0.0))['h1'], past=None, hparams=lm.hparams
    )
    assert np.abs(y - plain).max() > 0.01


def test_the_gradients_are_those_of_the_merged_model(adapted):
    """By the chain rule: w = w0 + s a b, so da = s dw bᵀ and db = s aᵀ dw."""
    lm = adapted()
    merged = tf.nest.map_structure(tf.Variable, whole(lora.merged(lm.params, 2.0)))
    tokens = tf.constant(TOKENS[0], tf.int32)
    with tf.GradientTape() as tape:
        loss = model.lm_loss(model.model(lm.hparams, merged, tokens)['logits'], tokens)
    dw = tape.gradient(loss, model.by_name(merged))
    expected, before = {}, {n: v.numpy().copy() for n, v in model.by_name(lm.params).items()}
    for name, linear in lora.linear_layers(lm.params):
        d, a, b = dw[f'{name}/w'][0].numpy(), *(linear['lora'][k].numpy() for k in 'ab')
        expected |= {f'{name}/lora/a': 2 * d @ b.T, f'{name}/lora/b': 2 * a.T @ d}
    for memory_saving in (False, True):
        for name, variable in model.by_name(lm.params).items():
            variable.assign(before[name].copy())
        _, step = start(lm, optimizer='sgd', memory_saving_gradients=memory_saving)
        np.testing.assert_allclose(step(tf.constant(TOKENS, tf.int32), 1.0)[0], loss, rtol=1e-5)
        for name, variable in model.by_name(lm.params).items():
            change = before[name] - variable.numpy()
            np.testing.assert_allclose(change, expected.get(name, 0), atol=1e-5, err_msg=name)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_frozen_matrices_are_held_once_in_the_compute_dtype_and_it_learns(adapted, dtype):
    lm = adapted(tf.dtypes.as_dtype(dtype))
    for name, variable in model.by_name(lm.params).items():
        frozen_matrix = len(variable.shape) > 1 and '/lora/' not in name
        assert variable.dtype == (dtype if frozen_matrix else 'float32'), name
    state, step = start(lm, dtype=dtype)
    losses = [float(step(tf.constant(TOKENS, tf.int32), 0.01)[0]) for _ in range(40)]
    assert losses[-1] < losses[0] - 1
    assert len(state.optimizer.slots) == 2 * 2 * 4 * lm.hparams.n_layer


def test_adapters_are_saved_small_and_merged_into_their_base(adapted, sampling, tmp_path):
    lm, path = adapted(), str(tmp_path / 'model-1.adapters.npz')
    lora.write(path, lm.params, 6.0, 'models/tiny/model.ckpt')
    assert lora.read(path)['base'] == 'models/tiny/model.ckpt'
    expected = model.by_name(whole(lora.merged(lm.params, 2.0)))
    lora.merge_into(sampling.params, path)
    for name, variable in model.by_name(sampling.params).items():
        if name.endswith('/w_t'):
            variable, name = tf.transpose(variable)[None], name.removesuffix('_t')
        np.testing.assert_allclose(variable, expected[name], atol=1e-6)
    again = adapted()
    lora.add_adapters(again.params, 3, seed=9)
    lora.restore(again.params, path)
    for (name, a), (_, b) in zip(
        lora.linear_layers(again.params), lora.linear_layers(lm.params), strict=True
    ):
        assert np.array_equal(a['lora']['a'], b['lora']['a']), name


@pytest.mark.parametrize(
    'content, complaint',
    [
        (b'', 'does not hold adapters'),
        (b'text', 'does not hold adapters'),
        ({'x': np.zeros(2)}, 'does not hold adapters'),
        ({'alpha': 1.0, 'base': 'x'}, 'model/h0/attn/c_attn/lora/a is not there'),
        ({'alpha': np.array([object()]), 'base': 'x'}, 'does not hold adapters'),
    ],
)
def test_files_that_are_no_adapters_of_this_model_are_named(sampling, tmp_path, content, complaint):
    path = tmp_path / 'adapters.npz'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=f'adapters.npz .*{complaint}'):
        lora.merge_into(sampling.params, str(path))


def test_any_bit_of_adapters_may_be_wrong(adapted, sampling, tmp_path):
    whole = tmp_path / 'whole.npz'
    lora.write(str(whole), adapted().params, 4.0, 'base')
    content = whole.read_bytes()
    for bit in range(0, 8 * len(content), 397):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / 'x.npz').write_bytes(damaged)
        try:
            lora.can_go_on(lora.read(str(tmp_path / 'x.npz')), 2, 2.0)
            lora.merge_into(sampling.params, str(tmp_path / 'x.npz'))
        except ValueError as error:
            assert 'x.npz' in str(error)


@pytest.mark.parametrize('rank, alpha', [(0, 1.0), (2, [1.0, 2.0])])
def test_adapters_of_no_rank_or_several_alphas_are_refused(sampling, tmp_path, rank, alpha):
    arrays = {}
    for name, linear in lora.linear_layers(sampling.params):
        n_out, n_in = linear['w_t'].shape
        arrays |= {f'{name}/lora/a': np.zeros([n_in, rank], np.float32)}
        arrays |= {f'{name}/lora/b': np.zeros([rank, n_out], np.float32)}
    np.savez(tmp_path / 'x.npz', alpha=np.array(alpha), base=np.str_('base'), **arrays)
    with pytest.raises(ValueError, match='x.npz does not'):
        lora.merge_into(sampling.params, str(tmp_path / 'x.npz'))


def test_a_merged_checkpoint_in_branches_is_an_ordinary_one(adapted, tiny_prefix, tmp_path):
    lm = adapted()
    _, hparams = tiny_prefix
    checkpoint.save(
        str(tmp_path / 'run'), 7, lora.merged(lm.params, 2.0), {'x': 1}, {},
        write_more=lambda prefix: lora.write(prefix + lora.SUFFIX, lm.params, 6.0, ''),
    )  # fmt: skip
    loaded = model.by_name(checkpoint.load(model_directory.latest(str(tmp_path / 'run')), hparams))
    expected = model.by_name(whole(lora.merged(lm.params, 2.0)))
    assert all(np.array_equal(loaded[name], expected[name]) for name in loaded)
    assert (tmp_path / 'run' / 'model-7.adapters.npz').exists()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saver = tf.compat.v1.train.import_meta_graph(str(tmp_path / 'run' / 'model-7.meta'))
        saver.restore(session, str(tmp_path / 'run' / 'model-7'))
        assert np.array_equal(session.run('model/wte:0'), expected['model/wte'])
