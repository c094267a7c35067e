import numpy as np
import oracle
import pytest
import tensorflow as tf

from src import model

ATOL = 1e-5  # float32 against the recording and the oracle


def arrays(params, dtype=np.float64):
    return model.map_tree(lambda _, variable: variable.numpy().astype(dtype), params)


def random_model(hparams, seed=0):
    """Weights far from the usual initialisation, so that every term shows."""
    random = np.random.default_rng(seed)

    def variable(name, shape):
        return tf.Variable(random.normal(0, 0.2, shape).astype(np.float32))

    return model.GPT2(hparams, model.map_tree(variable, model.parameter_shapes(hparams)))


def test_logits_and_present_are_those_of_openais_graph(tiny, golden):
    recorded = golden('golden_logits.npz')
    outputs = tiny(tf.constant(recorded['tokens'], tf.int32))
    np.testing.assert_allclose(outputs['logits'], recorded['logits'], atol=ATOL)
    np.testing.assert_allclose(outputs['present'], recorded['present'], atol=ATOL)


def test_with_a_past_they_are_those_of_openais_graph(tiny, golden):
    recorded = golden('golden_logits.npz')
    past, logits = None, []
    for tokens in np.split(recorded['tokens'], np.cumsum(recorded['slices'])[:-1], axis=1):
        outputs = tiny(tf.constant(tokens, tf.int32), past)
        logits.append(outputs['logits'])
        present = outputs['present']
        past = present if past is None else tf.concat([past, present], axis=-2)
    np.testing.assert_allclose(tf.concat(logits, axis=1), recorded['sliced_logits'], atol=ATOL)
    np.testing.assert_allclose(past, recorded['sliced_present'], atol=ATOL)


@pytest.mark.parametrize('sizes', [(7, 9, 8, 1, 1), (11, 16, 12, 4, 2), (300, 5, 64, 8, 3)])
def test_logits_are_the_oracles(sizes):
    lm = random_model(model.HParams(*sizes))
    tokens = np.random.default_rng(1).integers(0, sizes[0], [3, sizes[1]])
    expected = oracle.model(lm.hparams, arrays(lm.params), tokens)
    outputs = lm(tf.constant(tokens, tf.int32))
    np.testing.assert_allclose(outputs['logits'], expected['logits'], atol=ATOL)
    loss = model.lm_loss(outputs['logits'], tf.constant(tokens))
    np.testing.assert_allclose(loss, oracle.loss(expected['logits'], tokens), atol=ATOL)


@pytest.mark.parametrize('n_vocab, n_embd', [(97, 8), (11, 12), (62, 48)])
@pytest.mark.parametrize('batch, sequence', [(1, 1), (2, 1), (8, 1), (1, 64), (5, 13), (5, 30)])
def test_transposed_matrices_give_the_same(n_vocab, n_embd, batch, sequence):
    lm = random_model(model.HParams(n_vocab, 64, n_embd, n_head=4, n_layer=2))
    shapes, plain = model.parameter_shapes(lm.hparams, transposed=True), model.by_name(lm.params)

    def transposed(name, _):
        return tf.transpose(plain[name[:-2]][0]) if name.endswith('/w_t') else plain[name]

    other = model.GPT2(lm.hparams, model.map_tree(transposed, shapes))
    assert {name: shape for name, shape in model.by_name(shapes).items() if 'c_fc' in name} == {
        f'model/h{i}/mlp/c_fc/{name}': shape
        for i in range(2) for name, shape in (('w_t', [4 * n_embd, n_embd]), ('b', [4 * n_embd]))
    }  # fmt: skip
    tokens = np.random.default_rng(1).integers(0, n_vocab, [batch, sequence])
    expected = oracle.model(lm.hparams, arrays(lm.params), tokens)['logits']
    unknown = tf.function(lambda X: other(X)['logits'], autograph=False).get_concrete_function(
        tf.TensorSpec([None, None], tf.int32)
    )
    for of in (lambda X: other(X)['logits'], tf.function(unknown, jit_compile=True), unknown):
        np.testing.assert_allclose(of(tf.constant(tokens, tf.int32)), expected, atol=ATOL)


@pytest.mark.parametrize('slices', [[12], [1] * 12, [5, 1, 1, 5], [11, 1]])
def test_a_cache_of_fixed_shape_gives_what_the_growing_past_gives(slices):
    lm = random_model(model.HParams(11, n_ctx=16, n_embd=12, n_head=4, n_layer=2))
    tokens = tf.constant(np.random.default_rng(2).integers(0, 11, [2, 12]), tf.int32)
    past = lm.empty_cache(2, 12)
    logits = []
    for part in tf.split(tokens, slices, axis=1):
        outputs = lm(part, past)
        past = outputs['present']
        logits.append(outputs['logits'])
    np.testing.assert_allclose(tf.concat(logits, 1), lm(tokens)['logits'], atol=ATOL)


def test_what_is_cut_from_a_cache_leaves_no_trace():
    lm = random_model(model.HParams(11, n_ctx=16, n_embd=12, n_head=4, n_layer=2))
    tokens = tf.constant([[1, 2, 3, 4, 5, 6]])
    past = lm(tf.constant([[1, 2, 3, 9, 9, 9]]), lm.empty_cache(1, 8))['present']
    past = [layer._replace(length=tf.constant([3])).widened(16) for layer in past]
    logits = lm(tokens[:, 3:], past)['logits']
    np.testing.assert_allclose(logits, lm(tokens)['logits'][:, 3:], atol=ATOL)


def test_in_a_graph_the_layers_are_calls_of_one_that_was_traced_once():
    lm = random_model(model.HParams(11, n_ctx=16, n_embd=12, n_head=4, n_layer=3))
    past = lm.empty_cache(1, 8)
    traced = tf.function(lm, autograph=False).get_concrete_function(tf.constant([[1, 2]]), past)
    operations = traced.graph.get_operations()
    layers = [each.get_attr('f').name for each in operations if 'PartitionedCall' in each.type]
    assert len(layers) == 3 and len(set(layers)) == 1
    outputs, eager = traced(tf.constant([[1, 2]]), past), lm(tf.constant([[1, 2]]), past)
    np.testing.assert_allclose(outputs['logits'], eager['logits'], atol=ATOL)


def test_a_token_does_not_see_those_behind_it(tiny):
    tokens = np.random.default_rng(3).integers(0, 97, [1, 20])
    changed = np.where(np.arange(20) < 10, tokens, (tokens + 1) % 97)
    logits, other = (tiny(tf.constant(t, tf.int32))['logits'][0] for t in (tokens, changed))
    np.testing.assert_array_equal(logits[:10], other[:10])
    assert np.abs(logits[10:] - other[10:]).min(-1).max() > 0


def test_without_weights_all_tokens_are_equally_likely():
    hparams = model.HParams(50257, n_ctx=8, n_embd=4, n_head=2, n_layer=1)
    zeros = model.map_tree(lambda _, shape: tf.zeros(shape), model.parameter_shapes(hparams))
    tokens = tf.constant([[1, 2, 3]])
    loss = model.lm_loss(model.model(hparams, zeros, tokens)['logits'], tokens)
    np.testing.assert_allclose(loss, np.log(50257), rtol=1e-6)


@pytest.mark.parametrize(
    'sizes, parameters',
    [
        ((768, 12, 12), 124_439_808),
        ((1024, 16, 24), 354_823_168),
        ((1280, 20, 36), 774_030_080),
        ((1600, 25, 48), 1_557_611_200),
    ],
)
def test_the_sizes_that_openai_published(sizes, parameters):
    shapes = model.by_name(model.parameter_shapes(model.HParams(50257, 1024, *sizes)))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters
    assert len(shapes) == 12 * sizes[2] + 4


def test_the_initialisation_is_openais_and_repeatable():
    hparams = model.HParams(500, n_ctx=200, n_embd=64, n_head=4, n_layer=2)
    params, again = (model.by_name(model.init_params(hparams, seed=5)) for _ in range(2))
    for name, variable in params.items():
        value = variable.numpy()
        np.testing.assert_array_equal(value, again[name])
        leaf = name.rpartition('/')[2]
        if leaf in 'gb':
            assert (value == (leaf == 'g')).all()
        else:
            stddev = 0.01 if leaf == 'wpe' else 0.02
            assert abs(value.std() / stddev - 1) < 0.05 and abs(value.mean()) < stddev / 20


@pytest.mark.parametrize(
    'values, complaint',
    [
        ({'n_vocab': 0}, 'n_vocab is 0'),
        ({'n_layer': 2.5}, 'n_layer is 2.5'),
        ({'n_layer': True}, 'n_layer is True'),
        ({'dropout': 1}, "no size 'dropout'"),
        ({'n_embd': 100, 'n_head': 12}, 'n_embd 100 is not a multiple of n_head 12'),
    ],
)
def test_hparams_that_are_no_model_are_refused(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        model.default_hparams().override_from_dict(values)
