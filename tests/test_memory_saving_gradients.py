import collections
import ctypes
import functools
import pathlib
import warnings

import numpy as np
import programs
import pytest
import tensorflow as tf

from src import memory_saving_gradients, model

ROOT = pathlib.Path(__file__).parent.parent
KINDS = ['list', 'collection', 'speed', 'memory']
TOKENS = np.random.default_rng(0).integers(0, 64, [2, 16]).astype(np.int32)


def plain(ys, xs, grad_ys=None, checkpoints=None):
    with warnings.catch_warnings():  # about embeddings that become dense
        warnings.simplefilter('ignore')
        found = tf.gradients(ys, xs, grad_ys)
        return [g if g is None else tf.convert_to_tensor(g) for g in found]


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def same(build, *arguments, jit_compile=False, atol=1e-6):
    """Gradients with checkpoints are tf.gradients'.

    `build(gradients, *arguments)` is traced twice and returns gradients; it may return other values
    too. None stands for itself.
    """

    def run(gradients):
        nones = []

        @tf.function(autograph=False, jit_compile=jit_compile)
        def function(*arguments):
            found = build(gradients, *arguments)
            nones[:] = [g is None for g in found]
            return [g for g in found if g is not None]

        return [g.numpy() for g in function(*arguments)], nones

    (found, nones), (expected, expected_nones) = run(memory_saving_gradients.gradients), run(plain)
    assert nones == expected_nones and found
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5)


@pytest.fixture(scope='module')
def gpt2():
    """A function to the loss of a small GPT-2 and its gradients, of a given kind; traced once."""
    hparams = model.HParams(n_vocab=64, n_ctx=16, n_embd=32, n_head=2, n_layer=4)
    params = model.init_params(hparams, seed=0)
    variables = list(model.by_name(params).values())

    def operations():
        return {op.name for op in tf.compat.v1.get_default_graph().get_operations()}

    def anew(gradients, checkpoints=None, jit_compile=False):
        @tf.function(autograph=False, jit_compile=jit_compile)
        def function(tokens):
            blocks, in_blocks = [], set()

            def block(x, params, **options):
                before = operations()
                x, _ = model.block(x, params, **options)
                tf.compat.v1.add_to_collection('checkpoints', x)
                blocks.append(x)
                in_blocks.update(operations() - before)
                return x, None

            h, _ = model.transformer(hparams, params, tokens, block=block)
            loss = model.lm_loss(model.logits_of(h, params), tokens)
            kind = blocks if checkpoints == 'list' else checkpoints
            function.forward, function.in_blocks = operations(), in_blocks
            function.blocks = [x.name for x in blocks]
            return [loss, *gradients(loss, variables, checkpoints=kind)]

        return function

    compiled = functools.cache(anew)
    compiled.expected, compiled.anew = compiled(plain)(TOKENS), anew
    return compiled


@pytest.mark.parametrize(
    'kind, jit_compile', [*((kind, False) for kind in KINDS), ('collection', True)]
)
def test_gradients_of_gpt2(gpt2, kind, jit_compile):
    expected = gpt2.expected
    found = gpt2(memory_saving_gradients.gradients, kind, jit_compile)(TOKENS)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)


def needed(graph):
    """The operations that the outputs of a function's graph need."""
    found, waiting = {}, [t.op for t in graph.outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [t.op for t in op.inputs]
    return list(found.values())


def test_matrix_products_run_as_often_as_they_should(gpt2):
    def products(*kind):
        graph = gpt2(*kind).get_concrete_function(TOKENS).graph
        types = collections.Counter(op.type for op in needed(graph))
        return types['MatMul'], types['BatchMatMulV2']

    ours = memory_saving_gradients.gradients
    # A layer has 4 linear layers and 2 products of attention; the logits are a product as well.
    # Each has two for its gradient.
    assert products(plain) == (3 * 4 * 4, 3 * (4 * 2 + 1))
    # Each block's are repeated, but the last linear layer, which makes the checkpoint that is kept.
    assert products(ours, 'collection') == (3 * 4 * 4 + 4 * 3, 3 * (4 * 2 + 1) + 4 * 2)
    assert products(ours, 'speed') == products(plain)


def test_the_gradient_needs_no_more_of_the_blocks_than_checkpoints(gpt2):
    def remembered(*kind):
        function = gpt2(*kind)
        graph = function.get_concrete_function(TOKENS).graph
        uses = [
            t
            for op in needed(graph)
            if op.name not in function.forward
            for t in op.inputs
            if t.op.name in function.in_blocks and t.op.type != 'ReadVariableOp'
        ]
        # Of the mask, which does not depend on the variables, nothing is computed again.
        return {
            t.name for t in uses if t.dtype == tf.float32 and t.shape not in ([], [1, 1, 16, 16])
        }, (function.blocks)

    uses, blocks = remembered(memory_saving_gradients.gradients, 'list')
    assert uses == set(blocks[:-1])  # of the last, the norm behind it remembers enough
    uses, _ = remembered(plain)
    assert len(uses) > 4 * 20


def residual_mlp(gradients, x, weights, kind, dtype=tf.float32):
    checkpoints = []
    for w in weights:
        w = tf.cast(w, dtype)
        x = x + tf.tanh(tf.matmul(tf.cast(x, dtype), w)) * tf.sigmoid(tf.matmul(x, w))
        checkpoints.append(x)
        tf.compat.v1.add_to_collection('checkpoints', x)
    chosen = checkpoints[::2] if kind == 'list' else kind
    return gradients(tf.reduce_sum(tf.sin(x)), [*weights, checkpoints[2]], checkpoints=chosen)


@pytest.mark.parametrize('jit_compile', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_a_residual_mlp(kind, jit_compile):
    weights = [tf.Variable(normal(5, 5, seed=i)) for i in range(6)]
    same(
        lambda gradients, x: residual_mlp(gradients, x, weights, kind),
        normal(3, 5),
        jit_compile=jit_compile,
        atol=1e-5,
    )


def test_a_compiler_leaves_the_repetitions_there():
    weights = [tf.Variable(normal(5, 5, seed=i)) for i in range(6)]

    def products(gradients, kind):
        @tf.function(autograph=False, jit_compile=True)
        def function(x):
            return residual_mlp(gradients, x, weights, kind)

        hlo = function.experimental_get_compiler_ir(normal(3, 5))(stage='optimized_hlo')
        return hlo.count(' dot('), hlo.count(' tanh(')

    ours = memory_saving_gradients.gradients
    dots, tanhs = products(plain, None)
    assert dots and tanhs
    # One product for two, as they are the same; the first one of all is remembered.
    assert products(ours, 'collection') == (dots + 5, tanhs + 6)
    assert products(ours, 'speed') == (dots, tanhs + 5)


@pytest.mark.parametrize('dtype', [tf.float64, tf.complex64])
def test_other_types_of_numbers(dtype):
    def build(gradients, a):
        b = tf.sin(tf.cast(a, dtype))
        c = tf.cast(tf.abs(tf.exp(b * b)), tf.float32)
        return gradients(tf.reduce_sum(c * a), a, checkpoints=[b, c])

    same(build, normal(7))


@pytest.mark.parametrize('jit_compile', [False, True])
def test_paths_that_lead_past_checkpoints(jit_compile):
    def build(gradients, a, b):
        early = tf.sin(a)
        c1 = tf.tanh(early * b)
        unused = tf.exp(c1)
        c2 = tf.sin(c1 + early)
        left, right = tf.split(tf.cos(c2) * b, 2)
        c3 = tf.exp(left) * tf.exp(-right)
        floor = tf.floor(c3)  # without a gradient
        y = tf.reduce_sum(c3 * tf.concat([early, floor], 0)[:2] + c2[:2] * right) + floor[0]
        other = tf.zeros(3)
        chosen = [c1, c2, c3, floor, unused, a, y, other]
        return gradients(y, [a, b, c2, early, y, other], checkpoints=chosen)

    same(build, normal(4), normal(4, seed=1), jit_compile=jit_compile)


def test_several_ys_and_their_gradients():
    def build(gradients, a, b):
        c = tf.sin(a) * b
        d = tf.exp(tf.cos(c))
        e = tf.tanh(d) * a
        ys = [e, c, tf.reduce_sum(d), a, e]
        upstream = [normal(4, seed=2), normal(4, seed=3), None, None, None]
        return gradients(ys, [b, a, d], upstream, checkpoints=[c, d])

    same(build, normal(4), normal(4, seed=1))


@pytest.mark.parametrize('kind', ['list', 'memory'])
def test_random_numbers_are_the_same_ones(kind):
    def build(gradients, x):
        a = tf.sin(x)
        noise = tf.random.normal(tf.shape(a), seed=1)  # depends on a, by its shape
        b = tf.exp(a * noise)
        dropped = tf.nn.dropout(tf.sin(b), 0.5, seed=2)
        c = tf.cos(dropped * b)
        chosen = [c] if kind == 'list' else kind
        found = gradients(tf.reduce_sum(tf.sin(c)), x, checkpoints=chosen)
        d = -tf.cos(c) * tf.sin(dropped * b)  # by hand, with the numbers of the forward pass
        by_hand = d * (dropped + b * tf.where(dropped == 0, 0.0, 2.0) * tf.cos(b))
        return [found[0] - by_hand * b * noise * tf.cos(x)]

    function = tf.function(lambda x: build(memory_saving_gradients.gradients, x), autograph=False)
    np.testing.assert_allclose(function(normal(100)), [np.zeros(100)], atol=1e-4)


def test_loops_branches_and_calls_are_remembered():
    v = tf.Variable(normal(4))

    @tf.function(autograph=False)
    def call(x):
        return tf.sin(x) * v

    def build(gradients, x):
        a = tf.exp(tf.sin(x))
        b = tf.while_loop(lambda i, _: i < 3, lambda i, a: (i + 1, tf.sin(a) * v), [0, a])[1]
        c = tf.cond(tf.reduce_sum(b) > 0, lambda: tf.sin(b), lambda: tf.cos(b))
        d = tf.nn.silu(call(tf.exp(c)))  # silu has a gradient of its own
        e = tf.tanh(d) * v
        return gradients(tf.reduce_sum(tf.cos(e)), [v, x], checkpoints=[a, c, e])

    same(build, normal(4, seed=1))


@pytest.mark.parametrize('jit_compile', [False, True])
def test_variables_that_are_looked_up(jit_compile):
    table = tf.Variable(normal(10, 4))

    def build(gradients, indices):
        a = tf.nn.embedding_lookup(table, indices)
        b = tf.sin(tf.gather(table, indices + 1) * a)
        c = tf.exp(tf.gather(b, [1, 1, 0]))  # an activation may be looked up as well
        d = tf.matmul(tf.sin(c), table, transpose_b=True)
        return gradients(tf.reduce_sum(tf.cos(d)), table, checkpoints=[b, c])

    same(build, tf.constant([1, 5, 1]), jit_compile=jit_compile)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('jit_compile', [False, True])
def test_a_gradient_that_is_no_number_spoils_only_its_own(value, jit_compile):
    upstream = tf.constant([value, 1.0, 2.0])

    def build(gradients, x, upstream):
        a = tf.sin(x)
        return gradients(tf.exp(tf.cos(a)) * a, x, upstream, checkpoints=[a])

    same(build, normal(3), upstream, jit_compile=jit_compile)


def test_nothing_to_differentiate():
    def build(gradients, a, b):
        c = tf.cos(tf.sin(a))
        return [*gradients(c, [b, a], checkpoints=[c.op.inputs[0]]), *gradients(b, [a, b])]

    same(build, normal(3), normal(3))


def test_empty_tensors_and_shapes_that_are_not_known():
    @tf.function(autograph=False, input_signature=[tf.TensorSpec(None), tf.TensorSpec([None, 3])])
    def difference(x, w):
        def build(gradients):
            a = tf.sin(x)
            b = tf.exp(tf.matmul(a, w, transpose_b=True)) * 0.1
            return gradients(tf.reduce_sum(tf.cos(b)), [x, w], checkpoints=[a, b])

        ours, theirs = build(memory_saving_gradients.gradients), build(plain)
        return [a - b for a, b in zip(ours, theirs, strict=True)]

    for rows in (0, 4):
        for value in difference(normal(rows, 3), normal(2, 3)):
            np.testing.assert_allclose(value, np.zeros(value.shape), atol=1e-6)


def test_a_graph_of_tensorflow_1():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v = tf.compat.v1.get_variable('v', initializer=[1.0, 2.0, 3.0, 4.0])
        a = tf.sin(tf.constant([4.0, 3.0, 2.0, 1.0]) * v)
        b = tf.exp(a)
        tf.compat.v1.add_to_collection('checkpoints', b)
        y = tf.cos(b) * a
        found = memory_saving_gradients.gradients_collection(y, [v])
        session.run(tf.compat.v1.global_variables_initializer())
        np.testing.assert_allclose(*session.run([found, tf.gradients(y, [v])]), atol=1e-6)


def test_deep_graphs():
    def build(gradients, x):
        y = x
        for _ in range(400):
            y = y + 0.001 * tf.sin(y)
        return gradients(y, x, checkpoints='memory')

    same(build, normal(2), atol=1e-5)


def test_the_same_program_gives_the_same_graph(gpt2):
    graphs = [
        compiled(memory_saving_gradients.gradients, 'speed').get_concrete_function(TOKENS).graph
        for compiled in (gpt2, gpt2.anew)
    ]
    first, second = ([(op.type, op.name) for op in graph.get_operations()] for graph in graphs)
    assert first == second


def in_a_function(**options):
    @tf.function(autograph=False)
    def function(x):
        a = tf.sin(x)
        tf.compat.v1.add_to_collection('of another name', a)
        return memory_saving_gradients.gradients(tf.exp(a), x, **options)

    function(normal(3))


@pytest.mark.parametrize(
    'options, message',
    [
        ({}, r'\(collection\): 0 tensors, and none lies between.*; give .* or add them with'),
        ({'checkpoints': []}, r'\(list\): 0 tensors'),
        ({'checkpoints': 'speed'}, r'\(speed\): 0 tensors'),
        ({'checkpoints': 'sped'}, "is 'sped'; it must be 'collection', 'speed', 'memory' or a"),
        ({'grad_ys': [None, None]}, 'there are 2 grad_ys; there must be 1'),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        in_a_function(**options)


def test_a_tensor_of_elsewhere_is_no_checkpoint():
    with pytest.raises(ValueError, match=r'\(list\): 1 tensors'):
        in_a_function(checkpoints=[tf.zeros(3)])


def test_eager_mode_is_refused():
    with pytest.raises(ValueError, match='call gradients inside a tf.function'):
        memory_saving_gradients.gradients(normal(3), normal(3))


def test_loops_of_tensorflow_1_are_refused():
    program = """
import tensorflow as tf
from src import memory_saving_gradients
tf.compat.v1.disable_control_flow_v2()
with tf.Graph().as_default():
    x = tf.constant(1.0)
    a = tf.sin(x)
    y = tf.compat.v1.while_loop(lambda a: a < 3, lambda a: a + 1, [a])
    try:
        memory_saving_gradients.gradients(y, x, checkpoints=[a])
    except ValueError as error:
        print(error)
"""
    result = programs.result_of(['-c', program], ROOT)
    assert 'call tf.compat.v1.enable_control_flow_v2()' in result.stdout, result.stderr


def give_back_at_once():
    """What is freed, or glibc's habits would be measured with it."""
    M_MMAP_THRESHOLD = -3
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)


DEEP_NETWORK = """
import os
import sys
import tensorflow as tf
from src import memory_saving_gradients

def status(key):
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024  # MiB

def needed(kind, mode):
    weights = [tf.Variable(tf.eye(64)) for _ in range(40)]

    def function(x, layers):
        for w in weights[:layers]:
            x = tf.tanh(tf.matmul(x, w))
        if kind == 'plain':
            return tf.gradients(x, weights[:layers])
        return memory_saving_gradients.gradients(x, weights[:layers], checkpoints=kind)

    function = tf.function(function, autograph=False, jit_compile=mode == 'jit')
    function(tf.ones([1024, 64]), 2)  # what it takes to run anything
    x = tf.ones([16 * 1024, 64])  # 4 MiB
    before = status('VmRSS')
    sum(float(tf.reduce_sum(g)) for g in function(x, 40))
    return status('VmHWM') - before

for arguments in sys.argv[1:]:
    if not os.fork():  # a process of its own, which need not import TensorFlow again
        print(arguments, needed(*arguments.split()), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope='module')
def memory_needed():
    cases = [f'{kind} {mode}' for kind in ('plain', 'memory') for mode in ('plain', 'jit')]
    result = programs.result_of(['-c', DEEP_NETWORK, *cases], ROOT, before=give_back_at_once)
    assert result.returncode == 0, result.stderr
    lines = map(str.split, result.stdout.splitlines())
    return {(kind, mode): float(size) for kind, mode, size in lines}


@pytest.mark.skipif(
    not pathlib.Path('/proc/self/status').exists(),
    reason='no /proc to say how much memory was needed',
)
@pytest.mark.parametrize('mode', ['plain', 'jit'])
def test_less_memory_is_used(memory_needed, mode):
    everything, some = (memory_needed[kind, mode] for kind in ('plain', 'memory'))
    assert everything > 40 * 4
    assert everything > 1.8 * some
