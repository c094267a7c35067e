import threading

import numpy as np
import pytest
import tensorflow as tf

from src import load_dataset, model
from src.gradients import small_model
from src.training import distribution, train_config, train_step, validation

RUNS = {
    'adam': {'learning_rate': 0.001},
    'adam_default_rate': {},
    'sgd': {'optimizer': 'sgd', 'learning_rate': 0.05},
    'adam_transformer_layers': {'learning_rate': 0.001, 'only_train_transformer_layers': True},
    'adam_accumulated': {'learning_rate': 0.001, 'accumulate_gradients': 2},
}


def config(**changes):
    return train_config.TrainConfig(**{'dataset': 'none', 'batch_size': 2, 'seed': 1, **changes})


def start(lm, window=32, dtype_of_tokens=np.uint16, end=None, **changes):
    settings = config(**changes)
    chunks = [np.arange(50, dtype=dtype_of_tokens)]
    state = train_step.TrainState(lm, settings, chunks, end=end)
    step = train_step.compiled(state, settings, window)

    def loss_of(batches, learning_rate=settings.learning_rate):
        return step(batches, learning_rate)[0]

    loss_of.compiled = step
    return state, loss_of


@pytest.mark.parametrize('memory_saving, widest', [(False, 128), (False, 0), (True, 128)])
@pytest.mark.parametrize('run', RUNS)
def test_ten_steps_follow_shepperds(tiny, golden, run, memory_saving, widest, monkeypatch):
    monkeypatch.setattr(small_model, 'WIDEST', widest)
    theirs = golden('golden_losses.npz')
    state, step = start(tiny, memory_saving_gradients=memory_saving, **RUNS[run])
    number = RUNS[run].get('accumulate_gradients', 1)
    batches = theirs['batches'][: 10 * number].reshape(10, number, 2, 32)
    losses = [float(step(tf.constant(batch, tf.int32))) for batch in batches]
    np.testing.assert_allclose(losses, theirs[f'{run}/losses'], atol=1e-5)
    for name, variable in model.by_name(tiny.params).items():
        if f'{run}/{name}' in theirs:
            # Adam turns the rounding of a gradient near 0 into a difference that can be seen
            np.testing.assert_allclose(variable, theirs[f'{run}/{name}'], atol=5e-5)
    assert step.compiled.experimental_get_tracing_count() == 1
    assert int(state.updates) == 10


@pytest.mark.parametrize('memory_saving', [False, True])
def test_accumulated_small_batches_are_the_large_one(two_layers, memory_saving):
    weights = {name: v.numpy().copy() for name, v in model.by_name(two_layers.params).items()}
    tokens = np.random.default_rng(0).integers(0, 97, [1, 4, 16])
    results = []
    for number in (1, 2, 4):
        for name, variable in model.by_name(two_layers.params).items():
            variable.assign(weights[name].copy())  # it may keep the array, and change it
        _, step = start(
            two_layers, 16, optimizer='sgd', learning_rate=1.0, batch_size=4 // number,
            accumulate_gradients=number, memory_saving_gradients=memory_saving,
        )  # fmt: skip
        loss = step(tf.constant(tokens.reshape(number, 4 // number, 16), tf.int32))
        results.append([loss.numpy(), *(v.numpy().copy() for v in two_layers.trainable_variables)])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize(
    'dtype, tolerance', [('float32', 2e-6), ('float16', 3e-3), ('bfloat16', 3e-2)]
)
@pytest.mark.parametrize('number', [1, 2])
@pytest.mark.parametrize('memory_saving', [False, True])
def test_every_combination_takes_the_gradient_of_the_plain_model(
    two_layers, memory_saving, number, dtype, tolerance
):
    tokens = np.random.default_rng(0).integers(0, 97, [4, 16]).astype(np.int32)
    variables = model.by_name(two_layers.params)
    with tf.GradientTape() as tape:
        expected_loss = model.lm_loss(two_layers(tokens)['logits'], tf.constant(tokens))
    expected = tape.gradient(expected_loss, variables)
    before = {name: v.numpy().copy() for name, v in variables.items()}
    _, step = start(
        two_layers, 16, optimizer='sgd', batch_size=4 // number, accumulate_gradients=number,
        memory_saving_gradients=memory_saving, dtype=dtype,
    )  # fmt: skip
    loss = step(tf.constant(tokens.reshape(number, 4 // number, 16)), 1.0)
    np.testing.assert_allclose(loss, expected_loss, rtol=tolerance)
    for name, variable in variables.items():  # with SGD at this rate, a step is the gradient
        gradient, step_made = tf.convert_to_tensor(expected[name]), before[name] - variable
        distance = tf.norm(step_made - gradient) / tf.norm(gradient)
        assert distance < max(tolerance, 1e-5), name


def sparse_tokens(shape):
    """Tokens of which more are to be learnt in some batches than in others."""
    random = np.random.default_rng(0)
    learnt = random.random(shape) < np.linspace(0.1, 0.9, shape[0])[:, None]
    tokens = random.integers(0, 97, shape)
    return np.where(learnt, tokens, ~tokens).astype(np.int32)


def loss_of_learnt(lm, marked):  # by the plain model, one token after the other
    tokens = np.maximum(marked, ~marked)
    logits = lm(tokens)['logits'][:, :-1]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
    return tf.reduce_mean(tf.boolean_mask(losses, marked[:, 1:] >= 0))


@pytest.mark.parametrize('number', [1, 2, 4])
@pytest.mark.parametrize('memory_saving', [False, True])
def test_only_what_is_to_be_learnt_is(two_layers, memory_saving, number):
    marked = sparse_tokens([4, 16])
    variables = model.by_name(two_layers.params)
    with tf.GradientTape() as tape:
        expected_loss = loss_of_learnt(two_layers, marked)
    expected = tape.gradient(expected_loss, variables)
    before = {name: v.numpy().copy() for name, v in variables.items()}
    _, step = start(
        two_layers, 16, np.int32, optimizer='sgd', batch_size=4 // number,
        accumulate_gradients=number, memory_saving_gradients=memory_saving,
    )  # fmt: skip
    loss = step(tf.constant(marked.reshape(number, 4 // number, 16)), 1.0)
    np.testing.assert_allclose(loss, expected_loss, rtol=2e-6)
    for name, variable in variables.items():  # with SGD at this rate, a step is the gradient
        gradient = tf.convert_to_tensor(expected[name])
        np.testing.assert_allclose(before[name] - variable, gradient, atol=2e-6, err_msg=name)


@pytest.mark.parametrize('memory_saving', [False, True])
def test_where_nothing_is_to_be_learnt_nothing_changes(two_layers, memory_saving):
    before = [v.numpy().copy() for v in two_layers.trainable_variables]
    _, step = start(two_layers, 16, np.int32, memory_saving_gradients=memory_saving)
    marked = ~np.random.default_rng(0).integers(0, 97, [1, 2, 16])
    loss, norm = step.compiled(tf.constant(marked, tf.int32), 0.1)
    assert (float(loss), float(norm)) == (0, 0)
    assert all(map(np.array_equal, before, two_layers.trainable_variables))


def test_noise_comes_where_nothing_is_to_be_learnt_as_well(two_layers):
    marked = sparse_tokens([2, 16])
    _, step = start(two_layers, 16, np.int32, noise=0.5)
    inputs = train_step.with_noise(
        tf.constant(np.maximum(marked, ~marked)[None]), 0.5, 97, tf.constant([1, 0], tf.int64)
    )
    logits = two_layers(inputs[0])['logits'][:, :-1]
    labels = np.maximum(marked, ~marked)[:, 1:]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    expected = tf.reduce_mean(tf.boolean_mask(losses, marked[:, 1:] >= 0))
    np.testing.assert_allclose(step(tf.constant(marked[None])), expected, rtol=1e-5)


def loss_of_texts(lm, windows, inputs, end):  # by the plain model, each text alone
    losses = []
    for window, shown in zip(windows, inputs, strict=True):
        tokens = np.maximum(window, ~window)
        behind_ends = np.flatnonzero(tokens == end) + 1
        for text in np.split(np.arange(len(window)), behind_ends):
            if len(text) > 1:
                logits = lm(shown[None, text])['logits'][0, :-1]
                labels = tokens[text][1:]
                all_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                losses.append(tf.boolean_mask(all_losses, window[text][1:] >= 0))
    return tf.reduce_mean(tf.concat(losses, axis=0))


@pytest.mark.parametrize('number, saving', [(1, True), (2, False)])
def test_packed_texts_are_learnt_as_if_alone_whatever_the_noise(two_layers, number, saving):
    end, variables = 96, model.by_name(two_layers.params)
    texts = np.random.default_rng(0).integers(0, 90, 54, np.uint16)
    texts[[1, 4, 5, 11, 30, 37, 41, 45]] = end
    settings = config(pack=True)
    sampler = train_step.TrainState(two_layers, settings, [texts], end=end).sampler
    packed = np.stack([sampler.sample(16) for _ in range(4)])
    assert (packed < 0).any() and (packed == end).sum() > 6
    inputs = train_step.with_noise(
        tf.constant(np.maximum(packed, ~packed).reshape(number, 4 // number, 16)),
        0.3, 97, tf.constant([1, 0], tf.int64),
    )  # fmt: skip
    with tf.GradientTape() as tape:
        expected_loss = loss_of_texts(two_layers, packed, tf.reshape(inputs, [4, 16]).numpy(), end)
    expected = tape.gradient(expected_loss, variables)
    before = {name: v.numpy().copy() for name, v in variables.items()}
    _, step = start(
        two_layers, 16, end=end, optimizer='sgd', batch_size=4 // number,
        accumulate_gradients=number, memory_saving_gradients=saving, noise=0.3, pack=True,
        document_mask=True,
    )  # fmt: skip
    loss = step(tf.constant(packed.reshape(number, 4 // number, 16)), 1.0)
    np.testing.assert_allclose(loss, expected_loss, rtol=2e-6)
    for name, variable in variables.items():  # with SGD at this rate, a step is the gradient
        gradient = tf.convert_to_tensor(expected[name])
        np.testing.assert_allclose(before[name] - variable, gradient, atol=2e-6, err_msg=name)


@pytest.mark.parametrize('end', [None, 96])
def test_validation_is_of_what_training_learns(two_layers, end):
    marked = sparse_tokens([4, 16])
    marked[1, 7] = 96
    validating = validation.Validation(
        two_layers, config(val_batch_count=2), load_dataset.Sampler([marked[0]]), 16, end
    )
    validating.windows = [(row, 15) for row in marked]
    expected = loss_of_texts(
        two_layers, marked, np.maximum(marked, ~marked), -1 if end is None else end
    )
    np.testing.assert_allclose(validating.loss(threading.Event()), expected, rtol=1e-6)


def test_what_is_not_trained_stays_bit_for_bit(two_layers):
    before = {name: v.numpy().copy() for name, v in model.by_name(two_layers.params).items()}
    _, step = start(two_layers, 16, learning_rate=0.1, only_train_transformer_layers=True)
    step(tf.constant(np.random.default_rng(0).integers(0, 97, [1, 2, 16]), tf.int32))
    for name, variable in model.by_name(two_layers.params).items():
        assert np.array_equal(before[name], variable) == ('/h' not in name)


def test_noise_replaces_as_many_tokens_as_it_says():
    batches = tf.zeros([2, 10, 1000], tf.int32)
    noisy = train_step.with_noise(batches, 0.3, 97, tf.constant([1, 2], tf.int64)).numpy()
    assert abs((noisy != 0).mean() - 0.3 * 96 / 97) < 0.01
    assert set(noisy.ravel()) == set(range(97))
    assert not np.array_equal(noisy[0], noisy[1])
    other = train_step.with_noise(batches, 0.3, 97, tf.constant([1, 3], tf.int64)).numpy()
    assert not np.array_equal(noisy, other)


def test_noise_is_put_on_the_input_and_not_on_the_labels(two_layers):
    tokens = np.tile(np.arange(16), [1, 2, 1])
    _, step = start(two_layers, 16, noise=1.0, learning_rate=1e-9)
    inputs = train_step.with_noise(
        tf.constant(tokens, tf.int32), 1.0, 97, tf.constant([1, 0], tf.int64)
    )
    logits = two_layers(inputs[0])['logits']
    expected = model.lm_loss(logits, tf.constant(tokens[0], tf.int32))
    np.testing.assert_allclose(step(tf.constant(tokens, tf.int32)), expected, rtol=1e-5)


def test_adams_second_moments_forget_as_fast_as_they_are_told(two_layers):
    for flags, beta2 in (({}, 0.999), ({'adam_beta2': 0.9, 'optimizer': 'adamw'}, 0.9)):
        state, step = start(two_layers, 16, learning_rate=1e-9, batch_size=4, **flags)
        moments = []
        for _ in range(2):  # the same gradient twice
            step(tokens_of([1, 4, 16]))
            moments.append(state.optimizer.slots['adam/v/model/h1/mlp/c_fc/w'].numpy().copy())
        ratio = np.sum(moments[1]) / np.sum(moments[0])
        np.testing.assert_allclose(ratio, 1 + beta2, rtol=1e-4)


def tokens_of(shape):
    return tf.constant(np.random.default_rng(0).integers(0, 97, shape), tf.int32)


def test_the_norm_of_the_gradient_is_told_and_clipped(two_layers):
    batch = tokens_of([1, 4, 16])
    steps = {}
    weights = [v.numpy().copy() for v in two_layers.trainable_variables]
    for clip in (0.0, 0.5):
        for variable, value in zip(two_layers.trainable_variables, weights, strict=True):
            variable.assign(value.copy())
        _, step = start(two_layers, 16, optimizer='sgd', batch_size=4, clip_gradients=clip)
        _, norm = step.compiled(batch, 1.0)  # with SGD at this rate, a step is the gradient
        steps[clip] = [w - v for w, v in zip(weights, two_layers.trainable_variables, strict=True)]
        np.testing.assert_allclose(norm, tf.linalg.global_norm(steps[0.0]), rtol=1e-4)
    assert norm > 0.5
    for whole, clipped in zip(steps[0.0], steps[0.5], strict=True):
        np.testing.assert_allclose(clipped, whole * (0.5 / norm), atol=1e-6)


def test_a_state_may_have_a_seed_that_numpy_drew(two_layers):
    state, _ = start(two_layers, seed=np.int64(7))
    assert train_step.numbers_in(state.tensors()['numbers'])['seed'] == 7


@pytest.mark.parametrize('optimizer', ['adam', 'muon', 'adafactor', 'sgd'])
def test_a_gradient_that_is_no_number_changes_nothing(two_layers, optimizer):
    state, step = start(two_layers, 16, optimizer=optimizer, batch_size=4)
    step(tokens_of([1, 4, 16]))
    gain = two_layers.params['h1']['ln_1']['g']
    gain.assign(gain * float('nan'))
    before = [
        v.numpy().copy() for v in (*two_layers.trainable_variables, *state.optimizer.slots.values())
    ]
    loss, norm = step.compiled(tokens_of([1, 4, 16]), 0.1)
    assert not np.isfinite(loss + norm)
    after = [*two_layers.trainable_variables, *state.optimizer.slots.values()]
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(after, before, strict=True))
    assert int(state.updates) == 1


def test_updated_at_once_what_is_above_a_gradient_that_is_no_number_has_changed(two_layers):
    state, _ = start(two_layers, optimizer='sgd', memory_saving_gradients=True)
    names = [f'model/h{layer}/ln_1/b' for layer in (1, 0)]
    parts = [{name: tf.fill([24], bad)} for name, bad in zip(names, (1.0, np.nan), strict=True)]
    before = [state.trained[name].numpy().copy() for name in names]
    assert np.isnan(state.update_at_once(tf.constant(1.0), parts, 0.1))
    changed = [np.any(state.trained[n] != b) for n, b in zip(names, before, strict=True)]
    assert changed == [True, False] and int(state.updates) == 0


@pytest.mark.parametrize('optimizer', ['adamw', 'muon', 'adafactor'])
def test_other_optimizers_learn(two_layers, optimizer):
    _, step = start(two_layers, 16, optimizer=optimizer, batch_size=4)
    losses = [float(step(tokens_of([1, 4, 16]), 0.01)) for _ in range(30)]
    assert losses[-1] < losses[0] - 1


def test_muon_makes_the_same_steps_one_layer_after_the_other(two_layers):
    before = [v.numpy().copy() for v in two_layers.trainable_variables]
    after = []
    for saving in (False, True):
        for variable, value in zip(two_layers.trainable_variables, before, strict=True):
            variable.assign(value.copy())
        _, step = start(two_layers, 16, optimizer='muon', memory_saving_gradients=saving)
        step(tokens_of([1, 2, 16]), 0.001)
        after.append({v.name: v.numpy().copy() for v in two_layers.trainable_variables})
    for name, value in after[0].items():
        if '/h' in name and value.ndim > 1:  # Adam turns rounding into what can be seen
            np.testing.assert_allclose(value, after[1][name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize('memory_saving', [False, True])
def test_bfloat16_is_float32_but_for_its_precision(tiny, golden, memory_saving):
    theirs = golden('golden_losses.npz')
    _, step = start(
        tiny, dtype='bfloat16', learning_rate=0.001, memory_saving_gradients=memory_saving
    )
    losses = [
        float(step(tf.constant(b.reshape(1, 2, 32), tf.int32))) for b in theirs['batches'][:10]
    ]
    assert 1e-5 < np.abs(losses - theirs['adam/losses']).max() < 0.05  # of 5 to 8
    assert {v.dtype for v in tiny.trainable_variables} == {tf.float32}


@pytest.mark.parametrize('changes', [{}, {'memory_saving_gradients': True}])
def test_float16_is_float32_but_for_its_precision(tiny, golden, changes):
    theirs = golden('golden_losses.npz')
    state, step = start(tiny, dtype='float16', learning_rate=0.001, **changes)
    losses = [
        float(step(tf.constant(b.reshape(1, 2, 32), tf.int32))) for b in theirs['batches'][:10]
    ]
    assert 1e-6 < np.abs(losses - theirs['adam/losses']).max() < 0.01
    assert int(state.updates) == 10
    assert float(state.loss_scale) == train_step.FIRST_SCALE


def test_a_loss_scale_that_is_too_large_is_halved_until_the_step_can_be_made(
    two_layers, monkeypatch
):
    monkeypatch.setattr(train_step, 'FIRST_SCALE', 2.0**30)
    monkeypatch.setattr(train_step, 'STEPS_TO_DOUBLE', 3)
    batch = tokens_of([1, 4, 16])
    expected_norm = start(two_layers, 16, batch_size=4)[1].compiled(batch, 0.0)[1]
    state, step = start(two_layers, 16, batch_size=4, dtype='float16')
    scales = []
    while not int(state.updates):
        before = [v.numpy().copy() for v in two_layers.trainable_variables]
        _, norm = step.compiled(batch, 0.0 if scales else 0.1)
        scales.append(float(state.loss_scale))
        assert len(scales) < 25
    assert len(scales) > 3
    assert scales[:-1] == [2.0 ** (29 - i) for i in range(len(scales) - 1)]
    assert all(map(np.array_equal, before, two_layers.trainable_variables))
    np.testing.assert_allclose(norm, expected_norm, rtol=0.01)
    step.compiled(batch, 0.0)
    step.compiled(batch, 0.0)  # the third step that went well
    assert float(state.loss_scale) == 2 * scales[-1]


@pytest.mark.parametrize('scale', [64.0, 1.0])
def test_the_loss_scale_is_resumed(two_layers, scale):
    state, _ = start(two_layers, dtype='float16')
    state.loss_scale.assign(scale)
    state.steps_at_scale.assign(7)
    again, _ = start(two_layers, dtype='float16')
    again.restore(state.tensors(), 'model-1')
    assert (float(again.loss_scale), int(again.steps_at_scale)) == (scale, 7)


@pytest.mark.parametrize('number', [1, 2])
def test_dropout_is_the_same_where_layers_are_computed_again(two_layers, number):
    batch = tokens_of([number, 4 // number, 16])
    weights = [v.numpy().copy() for v in two_layers.trainable_variables]
    results = {}
    for saving, rate in ((False, 0.2), (True, 0.2), (False, 0.0)):
        for variable, value in zip(two_layers.trainable_variables, weights, strict=True):
            variable.assign(value.copy())
        _, step = start(
            two_layers, 16, optimizer='sgd', dropout=rate, memory_saving_gradients=saving,
            batch_size=4 // number, accumulate_gradients=number,
        )  # fmt: skip
        losses = [step(batch, 0.1).numpy() for _ in range(2)]
        results[saving, rate] = [
            losses,
            *(v.numpy().copy() for v in two_layers.trainable_variables),
        ]
    for a, b in zip(results[False, 0.2], results[True, 0.2], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    assert abs(results[False, 0.2][0][0] - results[False, 0.0][0][0]) > 1e-3


def test_every_batch_on_every_device_has_dropout_of_its_own_in_every_step(two_layers):
    settings = config(dropout=0.1, accumulate_gradients=3)
    state = train_step.TrainState(two_layers, settings, [np.arange(50, dtype=np.uint16)])
    seeds = set()
    for _ in range(2):
        for replica in range(2):
            devices = distribution.Devices()
            devices.replicas = 2
            devices.share = lambda batches, replica=replica: batches[:, replica : replica + 1]
            parts = train_step._parts(state, settings, tokens_of([3, 4, 16]), devices)
            seeds |= {tuple(seed) for seed in parts['seed'].numpy().tolist()}
        state.updates.assign_add(1)
    assert len(seeds) == 2 * 2 * 3


@pytest.mark.parametrize(
    'changes, complaint',
    [
        ({'batch_size': 0}, '--batch_size is 0; it must be 1 or more'),
        ({'noise': 1.5}, '--noise is 1.5'),
        ({'learning_rate': 0.0}, '--learning_rate is 0.0'),
        ({'learning_rate': float('inf')}, '--learning_rate is inf; it must be a finite number'),
        ({'epochs': float('inf')}, '--epochs is inf; it must be a finite number'),
        ({'seed': 2**63}, '--seed is 9223372036854775808; it must be below 2'),
        ({'run_name': '../mine'}, '--run_name'),
        ({'seed': -1}, '--seed is -1'),
        ({'dropout': 1.0}, '--dropout is 1.0; it must be 0 or more, below 1'),
        ({'adam_beta2': 1.0}, '--adam_beta2 is 1.0; it must be 0 or more, below 1'),
    ],
)
def test_values_out_of_range_are_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        config(**changes)
