import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from src import generate_unconditional_samples, model
from src.exporting import export
from src.model_files import checkpoint
from src.model_files.model_directory import ARCHITECTURE as FILES
from src.sampling import (
    backends,
    generation,
    litert,
    sample_config,
    sample_numpy,
    token_logprobs,
)


@pytest.fixture
def directory(models_dir, exported):
    """The model tiny, with what was exported of it in float32."""
    prefix = str(models_dir / 'tiny' / 'model.ckpt')
    put(prefix, exported, 'float32')
    return models_dir / 'tiny'


def put(prefix, exported, dtype):
    shutil.copy(exported(dtype), litert.path_of(prefix, dtype))
    os.utime(litert.path_of(prefix, dtype), (os.path.getmtime(f'{prefix}.index'),) * 2)


def texts(engine, directory, prompt='Good', **options):
    loaded = generation.load(str(directory), engine=engine)
    return list(generation.generate(loaded, prompt, **options))


@pytest.mark.parametrize(
    'options',
    [
        {'temperature': 0, 'length': 10},
        {'temperature': 0.9, 'top_k': 40, 'nsamples': 3, 'batch_size': 2, 'length': 12},
        {'top_p': 0.9, 'nsamples': 2, 'length': 80},  # far beyond the window of 32
        {'length': 60, 'config': sample_config.SampleConfig(stop='a', include_prefix=True)},
        {'length': 20, 'config': sample_config.SampleConfig(repetition_penalty=1.5)},
        {'length': 70, 'config': sample_config.SampleConfig(no_repeat_ngram=2)},
        {'length': 20, 'config': sample_config.SampleConfig(logit_bias='{"a": 4, "e": -9.5}')},
    ],
)
def test_both_engines_say_the_same(directory, options):
    prompts = ['Good', 'The', 'x']
    by_tensorflow = texts('tensorflow', directory, prompts, seed=3, **options)
    assert texts('litert', directory, prompts, seed=3, **options) == by_tensorflow
    assert len(by_tensorflow) == 3 * options.get('nsamples', 1)


def test_neither_says_an_id_that_the_vocabulary_has_not(directory):
    both = []
    for engine in backends.ENGINES[1:]:
        loaded, options = generation.load(str(directory), engine=engine), {'length': 30, 'seed': 1}
        (plain,) = generation.samples(loaded, 'Good', **options)
        for unknown in plain.ids[:5]:
            loaded.encoder.decoder.pop(unknown, None)
        (said,) = generation.samples(loaded, 'Good', **options)
        assert not {*plain.ids[:5]} & {*said.ids}
        both.append([said.text, ''.join(generation.stream(loaded, 'Good', **options))])
    assert both[0] == both[1] == [both[0][0]] * 2


def test_both_leave_out_the_same_words(directory, tmp_path):
    plain = texts('tensorflow', directory, seed=1, length=20)[0]
    words = sorted(set(plain.split()))[:5] + [plain[3]]
    (tmp_path / 'words').write_text('\n'.join(words), 'utf-8')
    config = sample_config.SampleConfig(bad_words_file=str(tmp_path / 'words'))
    both = [texts(e, directory, seed=1, length=20, config=config) for e in backends.ENGINES[1:]]
    assert both[0] == both[1] != [plain]


def test_both_stream_the_same(directory):
    both = []
    for engine in ('tensorflow', 'litert'):
        loaded = generation.load(str(directory), engine=engine)
        both.append(''.join(generation.stream(loaded, 'Good', length=50, seed=2)))
    assert both[0] == both[1]


def test_a_sample_does_not_depend_on_what_was_read_before(directory):
    loaded = generation.load(str(directory), engine='litert')
    prompts = ['Good morning', 'Good', 'Good morning', 'x', 'Good morning']
    options = {'seed': 5, 'length': 15, 'nsamples': 2}
    together = list(generation.generate(loaded, prompts, **options))
    alone = [texts('litert', directory, prompt, **options) for prompt in prompts]
    assert together == list(itertools.chain(*alone))
    assert together[:2] == together[4:6]


def test_a_prompt_is_read_once_for_many_samples(directory, monkeypatch):
    read = []
    one = litert.LiteRT.read
    monkeypatch.setattr(
        litert.LiteRT, 'read', lambda self, tokens: read.append(len(tokens)) or one(self, tokens)
    )
    texts('litert', directory, 'Good morning', nsamples=3, length=2)
    assert read == [11, 1, 1] + [1, 1] * 2


def test_an_interrupted_reading_begins_anew(directory, monkeypatch):
    loaded = generation.load(str(directory), engine='litert')
    options = {'seed': 1, 'length': 5}
    expected = list(generation.generate(loaded, 'Good morning', **options))
    plan = litert.Graph.plan

    def interrupted(self, n, *sizes):
        self._interpreter.resize_tensor_input(self._index['tokens'], [n + 1])
        raise KeyboardInterrupt

    monkeypatch.setattr(litert.Graph, 'plan', interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(generation.generate(loaded, 'Good evening to you', **options))
    monkeypatch.setattr(litert.Graph, 'plan', plan)
    assert list(generation.generate(loaded, 'Good morning', **options)) == expected


def test_auto_takes_what_is_there_and_up_to_date(directory, exported, capsys):
    prefix = str(directory / 'model.ckpt')
    assert isinstance(generation.load(str(directory)).lm, litert.LiteRT)
    assert f'Loading {prefix}.float32.tflite' in capsys.readouterr().err
    assert isinstance(generation.load(str(directory), dtype='bfloat16').lm, model.GPT2)
    put(prefix, exported, 'int8')
    generation.load(str(directory))
    assert 'float32.tflite' in capsys.readouterr().err
    generation.load(str(directory), dtype='int8')
    assert 'int8.tflite' in capsys.readouterr().err
    os.remove(litert.path_of(prefix, 'float32'))
    assert isinstance(generation.load(str(directory)).lm, litert.LiteRT)
    os.utime(f'{prefix}.index')  # as if it had been trained since
    assert isinstance(generation.load(str(directory)).lm, model.GPT2)
    assert f'Loading checkpoint {prefix}\n' in capsys.readouterr().err


def test_without_its_package_auto_is_tensorflow(directory, monkeypatch, capsys):
    monkeypatch.setattr(backends.importlib.util, 'find_spec', lambda name: None)
    assert isinstance(generation.load(str(directory)).lm, model.GPT2)
    assert 'pip install -r requirements-litert.txt' in capsys.readouterr().err


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'engine': 'torch'}, "engine is 'torch'; it must be one of auto, tensorflow, litert"),
        ({'dtype': 'int4'}, "dtype is 'int4'; it must be one of float32, bfloat16, float16, int8"),
        ({'dtype': 'int8'}, 'no .tflite that is up to date. Make it: python -m src export .*int8'),
        ({'engine': 'litert', 'dtype': 'bfloat16'}, 'litert has no bfloat16; it has float32, int8'),
        ({'engine': 'tensorflow', 'dtype': 'int8'}, 'tensorflow has no int8; it has float32, bfl'),
        ({'engine': 'litert', 'adapters': 'a.npz'}, 'Adapters are for the engine tensorflow'),
    ],
)
def test_what_cannot_be_had_says_what_can(directory, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        generation.load(str(directory), **options)


def test_what_litert_cannot_do_is_named(directory, monkeypatch):
    loaded = generation.load(str(directory), engine='litert')
    with pytest.raises(ValueError, match='num_beams is for the engine tensorflow'):
        texts('litert', directory, config=sample_config.SampleConfig(num_beams=2))
    (one,) = generation.samples(loaded, 'Good', length=2)
    with pytest.raises(ValueError, match='logprobs is for the engine tensorflow'):
        token_logprobs.of_sample(loaded, one, 2)
    monkeypatch.setattr(sample_numpy.Rows, 'grow', None)  # it is refused before anything is drawn
    with pytest.raises(ValueError, match='logprobs is for the engine tensorflow'):
        generate_unconditional_samples.sample_model(
            str(directory), engine='litert', nsamples=1, out=str(directory / 'new'), logprobs=2
        )


@pytest.mark.parametrize('dtype, error', [('bfloat16', 3e-2), ('float16', 3e-3)])
def test_rounded_weights_give_rounded_logits(directory, dtype, error):
    exact, rounded = (
        generation.load(str(directory), engine='tensorflow', dtype=d).lm for d in ('float32', dtype)
    )
    assert {v.dtype.name for v in model.by_name(rounded.params).values()} == {'float32', dtype}
    tokens = np.arange(30)[None]
    one, two = (lm(tokens)['logits'].numpy() for lm in (exact, rounded))
    assert two.dtype == np.float32
    assert 0 < np.abs(one - two).max() < error * np.abs(one).max()


def test_the_prompt_without_tensorflow(directory, tmp_path):
    """As a user would, with TensorFlow made impossible to import."""
    (tmp_path / 'tensorflow.py').write_text('raise ImportError("it is not needed")')
    command = [sys.executable, str(ROOT / 'src' / 'interactive_conditional_samples.py')]
    command += ['--model_name', str(directory), '--length', '5', '--seed', '1']
    result = subprocess.run(
        command, input='Good\n', capture_output=True, text=True, check=True,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)}, cwd=tmp_path,
    )  # fmt: skip
    expected = texts('tensorflow', directory, seed=1, length=5)[0]
    assert f' SAMPLE 1 {"=" * 40}\n{expected}\n{"=" * 80}\n' in result.stdout


def with_weights(models_dir, change):
    """The directory of a model like tiny, whose weights went through `change`."""
    hparams = checkpoint.read_hparams(str(models_dir / 'tiny'))
    params = checkpoint.load(str(models_dir / 'tiny' / 'model.ckpt'), hparams)
    params['h1']['mlp']['c_fc']['w'].assign(change(params['h1']['mlp']['c_fc']['w']))
    files = {name: (models_dir / 'tiny' / name).read_bytes() for name in FILES}
    checkpoint.save(str(models_dir / 'other'), 1, params, {}, files)
    return models_dir / 'other'


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_weights_that_are_no_numbers_are_named(models_dir, dtype):
    other = with_weights(models_dir, lambda w: w * np.nan)
    with pytest.raises(ValueError, match='other/model-1: model/h1/mlp/c_fc/w has weights that are'):
        generation.load(str(other), dtype=dtype)


def test_logits_that_are_no_numbers_are_told_however_they_are_asked_for(models_dir):
    """Weights so large that they overflow: what a run leaves that has diverged."""
    other = with_weights(models_dir, lambda w: tf.ones_like(w) * 1e38)
    export.export(export.ExportConfig(model_name=str(other)))
    for engine in ('tensorflow', 'litert'):
        loaded = generation.load(str(other), engine=engine)
        with pytest.raises(ValueError, match='^The logits are NaN, no numbers: the weights are'):
            list(generation.generate(loaded, 'Good', length=3))
        with pytest.raises(ValueError, match='^The logits are NaN'):
            list(generation.stream(loaded, 'Good', length=3))
    with pytest.raises(ValueError, match='^The logits are NaN'):
        texts('tensorflow', other, config=sample_config.SampleConfig(num_beams=2), length=3)


def test_a_vocabulary_of_another_model_is_told_with_both_sizes(directory):
    shutil.copy(ROOT / 'models' / 'shakespeare' / 'encoder.json', directory)
    for engine in ('tensorflow', 'litert'):
        with pytest.raises(ValueError) as error:
            generation.load(str(directory), engine=engine)
        assert 'tiny/encoder.json has 1024 tokens, up to 1023, and the model' in str(error.value)
        assert 'beside it has 97: they are of two models' in str(error.value)


def test_a_tflite_of_another_model_is_told_with_both_sizes(directory):
    hparams = json.loads((directory / 'hparams.json').read_text())
    (directory / 'hparams.json').write_text(json.dumps({**hparams, 'n_vocab': 50257}))
    with pytest.raises(ValueError, match='of another model: its n_vocab is 97, and by .* is 50257'):
        generation.load(str(directory), engine='litert')
