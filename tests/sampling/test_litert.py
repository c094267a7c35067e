"""A .tflite says what the model says, whatever is read at once, and TensorFlow stays out of it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from ai_edge_litert import interpreter
from conftest import ROOT, recorded

from src import sample
from src.sampling import litert, sample_numpy

MADE_BY_OTHERS = (
    r'^\S*\.tflite is damaged, or was not made by this version of: '
    'python -m src export --format litert$'
)
TOKENS = np.random.default_rng(0).integers(0, 97, 32)


@pytest.fixture(scope='module')
def exact(exported):
    return litert.LiteRT(exported('float32'), threads=1)


@pytest.fixture(scope='module')
def lm():
    return recorded()


@pytest.fixture(scope='module')
def expected(lm):
    """[sequence, vocab], what model.model says about TOKENS."""
    return lm(TOKENS[None].astype(np.int32))['logits'][0].numpy()


@pytest.fixture(params=[(128, 64), (5, 4), (4, 8), (1, 1)])
def pieces(request, monkeypatch):
    """Prompts read in pieces and windows that grow, as those of a large model do."""
    monkeypatch.setattr(litert, 'CHUNK', request.param[0])
    monkeypatch.setattr(litert, 'WINDOW_STEP', request.param[1])


def greedy(engine, prompt, length):
    logits, tokens = engine.start(prompt), list(prompt)
    for _ in range(length - 1):
        tokens.append(int(np.argmax(logits)))
        logits = engine.step(tokens[-1])
    return [*tokens, int(np.argmax(logits))]


@pytest.mark.parametrize('sequence', [1, 2, 3, 4, 5, 6, 15, 16, 17, 31, 32])
def test_the_likeliest_tokens_over_the_whole_window(exact, pieces, lm, sequence):
    prompt, length = TOKENS[:sequence].tolist(), 33 - sequence
    texts = sample.sample_sequence(lm=lm, length=length, context=[prompt], temperature=0)
    assert greedy(exact, prompt, length) == texts[0].tolist()
    assert exact.length == 32


def test_the_same_text_from_the_same_numbers(exact, lm):
    uniforms = sample_numpy.uniforms_for(1, [0], 30)
    options = {'temperature': 0.9, 'top_k': 20, 'top_p': 0.8}
    texts = sample.sample_sequence(
        lm=lm, length=30, context=[TOKENS[:3]], uniforms=uniforms, **options
    )
    logits, tokens = exact.start(TOKENS[:3]), TOKENS[:3].tolist()
    for uniform in uniforms[0]:
        tokens.append(sample_numpy.choose(logits, uniform, **options))
        logits = exact.step(tokens[-1]) if len(tokens) <= exact.hparams.n_ctx else None
    assert tokens == texts[0].tolist()


@pytest.mark.parametrize('sequence', [1, 4, 5, 31])
def test_the_same_logits(exact, pieces, expected, sequence):
    logits = [exact.start(TOKENS[:sequence]), *map(exact.step, TOKENS[sequence:])]
    assert np.allclose(logits, expected[sequence - 1 :], atol=1e-5)


def test_what_was_cut_is_forgotten(exact, pieces, expected):
    exact.start(TOKENS[:20])
    for length in (11, 8, 7, 0):
        exact.cut(length)
        assert exact.length == length
        assert np.allclose(exact.step(TOKENS[length]), expected[length], atol=1e-5)
        exact.step(96)
        exact.cut(length)


def test_logits_stay_as_they_were(exact, expected):
    first = exact.start(TOKENS[:3])
    exact.step(TOKENS[3])
    assert np.allclose(first, expected[2], atol=1e-5)


def test_int8_is_close(exported, pieces, expected):
    rounded = litert.LiteRT(exported('int8'), threads=1)
    logits = [rounded.start(TOKENS[:5]), *map(rounded.step, TOKENS[5:])]
    error = np.sqrt(np.mean((logits - expected[4:]) ** 2))
    assert 0 < error < 0.03 * np.std(expected)


def test_sizes(exact):
    assert (exact.hparams.n_ctx, exact.hparams.n_vocab) == (32, 97)


def test_the_window_has_an_end(exact):
    exact.start(TOKENS)
    with pytest.raises(ValueError, match='32 and 1 tokens do not fit into the window of 32'):
        exact.step(1)
    exact.cut(31)
    exact.step(1)


def test_prefill_and_decode_are_names_of_one_graph_with_one_cache(exported, expected):
    opened = interpreter.Interpreter(exported('float32'))
    assert sorted(opened.get_signature_list()) == ['decode', 'prefill']
    assert opened.num_subgraphs() == 1  # so each tensor of a name is the same tensor
    prefill, decode = map(opened.get_signature_runner, ('prefill', 'decode'))
    shapes = {name: d['shape_signature'] for name, d in prefill.get_input_details().items()}
    shapes = {name: shape for name, shape in shapes.items() if len(shape) == 3}
    past = {name: np.zeros([heads, 31, n], 'f4') for name, (heads, _, n) in shapes.items()}
    length = 0
    for runner, n in ((prefill, 9), (decode, 1), (decode, 1), (prefill, 20)):
        result = runner(
            tokens=TOKENS[length : length + n].astype(np.int32),
            positions=np.arange(length, length + n, dtype=np.int32),
            last=np.eye(n, dtype='f4')[-1:],
            mask_past=np.where(np.arange(31) < length, 0, litert.MASKED)[None].astype('f4'),
            mask_new=np.triu(np.full([n, n], litert.MASKED), 1),
            **past,
        )
        for name in past:
            past[name][:, length : length + n] = result[f'new_{name}']
        length += n
        assert np.allclose(result['logits'][0], expected[length - 1], atol=1e-5)


def test_only_what_is_as_new_as_the_weights_is_current(exported, tmp_path):
    prefix = str(tmp_path / 'model.ckpt')
    assert litert.current(prefix, 'int8') is None
    shutil.copyfile(exported('int8'), litert.path_of(prefix, 'int8'))
    assert litert.current(prefix, 'int8') is None  # of which weights is not known
    source = exported('int8').removesuffix('.int8.tflite')
    shutil.copyfile(f'{source}.index', f'{prefix}.index')
    for seconds, found in ((0, True), (-5, True), (5, False)):
        date = os.path.getmtime(litert.path_of(prefix, 'int8')) + seconds
        os.utime(f'{prefix}.index', (date, date))
        assert (litert.current(prefix, 'int8') is not None) == found
    assert litert.current(prefix, 'float32') is None
    path = exported('float32')
    assert litert.current(source, 'float32') == path


def test_weights_that_are_saved_while_it_is_written_are_newer(exported):
    prefix = exported('float32').removesuffix('.float32.tflite')
    assert os.path.getmtime(exported('float32')) == os.path.getmtime(f'{prefix}.index')
    assert os.path.getmtime(f'{prefix}.index') < time.time()


def test_what_is_no_such_file_is_said(exported, tmp_path):
    with pytest.raises(OSError, match='No such file'):
        litert.LiteRT(str(tmp_path / 'none.tflite'))
    whole = pathlib.Path(exported('int8')).read_bytes()
    others = [whole[:-16], whole.replace(b'decode', b'encode'), whole[:-8] + b'\xff' * 8]
    for content in (b'', b'x' * 1000, whole[:5000], *others):
        (tmp_path / 'bad.tflite').write_bytes(content)
        with pytest.raises(ValueError, match=MADE_BY_OTHERS):
            litert.LiteRT(str(tmp_path / 'bad.tflite'))


def test_any_bit_may_be_wrong(exported, tmp_path):
    """In the graph it is seen before that is read; in a weight it is another number."""
    whole = pathlib.Path(exported('int8')).read_bytes()
    length = litert.SEAL.unpack(whole[-16:])[2]
    path, refused = tmp_path / 'm.tflite', 0
    path.write_bytes(whole)
    bits = [*range(0, 8 * length, 997), *range(8 * length, 8 * len(whole), 49_999)]
    bits += range(8 * len(whole) - 128, 8 * len(whole))
    with open(path, 'r+b') as file:
        for bit in bits:
            place = bit // 8
            file.seek(place)
            file.write(bytes([whole[place] ^ 1 << bit % 8]))
            file.flush()
            try:
                litert.LiteRT(str(path), threads=1).start([1, 2])
            except ValueError as error:
                assert re.search(MADE_BY_OTHERS, str(error))
                refused += 1
            file.seek(place)
            file.write(whole[place : place + 1])
    assert refused == len([bit for bit in bits if not 8 * length <= bit < 8 * len(whole) - 128])


@pytest.mark.parametrize('method', ['allocate_tensors', 'resize_tensor_input', 'tensor'])
@pytest.mark.parametrize('error', [RuntimeError('Node 3 failed\nto prepare'), KeyError('logits')])
def test_damage_that_is_met_when_memory_is_planned_is_said(exported, monkeypatch, method, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(interpreter.Interpreter, method, fails)
    with pytest.raises(ValueError, match=r'int8\.tflite is damaged: .+') as told:
        litert.LiteRT(exported('int8'))
    assert '\n' not in str(told.value)


def test_a_missing_package_is_said(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ai_edge_litert', None)
    with pytest.raises(ValueError, match='pip install -r requirements-litert.txt$'):
        litert.LiteRT(exported('int8'))


FRESH = """
import sys
from src.sampling import litert, sample_numpy
logits = litert.LiteRT(sys.argv[1]).start([1, 2, 3])
print(sample_numpy.choose(logits, 0.5, temperature=None, top_k=0, top_p=None))
assert 'tensorflow' not in sys.modules
"""


def test_a_fresh_process_imports_no_tensorflow_and_says_nothing(exported, exact):
    result = subprocess.run(
        [sys.executable, '-c', FRESH, exported('float32')],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert not result.stderr
    assert int(result.stdout) == np.argmax(exact.start([1, 2, 3]))


def test_what_was_read_is_put_back_to_the_last_bit(exact, pieces):
    texts = [TOKENS[:7].tolist(), TOKENS[7:9].tolist(), TOKENS[::-1][:12].tolist()]
    alone = []
    for text in texts:
        exact.cut(0)
        alone.append([exact.read([token]) for token in text])
    pasts = [exact.empty_past() for _ in texts]
    for i in range(12):  # each reads its next token when its turn comes
        for text, past, expected in zip(texts, pasts, alone, strict=True):
            if i < len(text):
                exact.load(past, i)
                np.testing.assert_array_equal(exact.read([text[i]]), expected[i])
                exact.save(past, i)
    prompt = TOKENS[:3].tolist()
    exact.load(pasts[0], 3)  # of another text, but of the same length
    np.testing.assert_allclose(exact.start(prompt), alone[0][2], atol=1e-5)
