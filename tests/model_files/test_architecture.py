"""Sizes and vocabularies of new models, and runs of the trainer with them."""

import functools
import json
import pathlib
import shutil

import numpy as np
import pytest
import runs
import tensorflow as tf
from conftest import ROOT

from src import encoder, model
from src.model_files import architecture, checkpoint, model_directory
from src.sampling import generation, sample_config
from src.training import initial_model, train_config

TEXT = '<BOS>All the world is a stage<EOS>\n<BOS>And all the men and women<EOS>\n' * 20
TOKENS = '<BOS>,<EOS>,<PAD>'
train = functools.partial(runs.train, steps=2, learning_rate=1e-9)
SMALL = {'n_layer': 2, 'n_head': 2, 'n_embd': 8, 'n_ctx': 16}


@pytest.fixture
def place(place):
    """A working directory with the model `tiny`, of one layer, and a text."""
    pathlib.Path('text').write_text(TEXT)
    return place


def weights(directory):
    params = checkpoint.load(model_directory.latest(directory), checkpoint.read_hparams(directory))
    return {name: variable.numpy() for name, variable in model.by_name(params).items()}


def described(directory):
    hparams = json.loads(pathlib.Path(directory, 'hparams.json').read_text())
    return hparams, json.loads(pathlib.Path(directory, 'encoder.json').read_text())


def test_rows_are_added_near_the_mean_of_the_old_ones():
    old = tf.Variable(np.random.default_rng(0).normal(3, 1, [50, 400]).astype(np.float32))
    wte = architecture.with_rows(old, 53, seed=1)
    assert wte.dtype == np.float32 and np.array_equal(wte[:50], old.numpy())
    noise = wte[50:] - old.numpy().mean(axis=0)
    assert abs(noise.std() - 0.02) < 0.001 and abs(noise.mean()) < 0.003
    assert len(np.unique(noise, axis=0)) == 3
    assert np.array_equal(wte, architecture.with_rows(old, 53, seed=1))


def test_a_new_token_is_no_likelier_than_the_mean_one(tiny):
    """By Jensen's inequality, where its row is the mean: exp of the mean is at most mean of exp."""
    tokens = np.random.default_rng(0).integers(0, 97, [4, 32])
    tiny.params['wte'] = tf.Variable(architecture.with_rows(tiny.params['wte'], 100, seed=1))
    p = tf.nn.softmax(tiny(tf.constant(tokens, tf.int32))['logits']).numpy()
    assert np.mean(p[..., 97:]) < 1 / 97


def test_special_tokens_are_learnt_and_known_to_the_run(place):
    train(special_tokens=TOKENS)
    hparams, tokens = described('checkpoint/run1')
    old_hparams, old_tokens = described('models/tiny')
    assert hparams == {**old_hparams, 'n_vocab': 100}
    assert tokens == {**old_tokens, '<BOS>': 97, '<EOS>': 98, '<PAD>': 99}
    before, after = weights('models/tiny'), weights('checkpoint/run1')
    assert after['model/wte'].shape == (100, 24)
    np.testing.assert_allclose(after['model/wte'][:97], before['model/wte'], atol=1e-7)
    assert np.array_equal(
        (place / 'checkpoint/run1/vocab.bpe').read_bytes(),
        (place / 'models/tiny/vocab.bpe').read_bytes(),
    )
    gpt2 = generation.load('checkpoint/run1')
    assert gpt2.encoder.encode('<BOS>a<EOS>') == [97, *gpt2.encoder.encode('a'), 98]


def test_old_rows_are_the_same_to_the_last_bit(place):
    hparams = checkpoint.read_hparams('models/tiny')
    larger = model.HParams(**{**vars(hparams), 'n_vocab': 100})
    config = train_config.TrainConfig(dataset='text')
    initial = initial_model.InitialModel('models/tiny', larger, None, [])
    lm, _ = initial.restored('models/tiny/model.ckpt', config)
    before = weights('models/tiny')
    for name, variable in model.by_name(lm.params).items():
        assert np.array_equal(variable[:97] if name == 'model/wte' else variable, before[name])


def test_a_vocabulary_that_is_not_the_models_is_refused(place):
    shutil.copy(ROOT / 'tests' / 'vocabulary' / 'encoder.json', 'models/tiny')
    shutil.copy(ROOT / 'tests' / 'vocabulary' / 'vocab.bpe', 'models/tiny')
    with pytest.raises(ValueError, match='encoder.json has 50257 tokens, .* beside it has 97: the'):
        train()
    assert not pathlib.Path('checkpoint').exists()


def test_sampling_stops_at_a_special_token(place):
    train(special_tokens=TOKENS, learning_rate=0.01, steps=150, batch_size=4)
    gpt2 = generation.load('checkpoint/run1')
    options = {'length': 60, 'nsamples': 4, 'batch_size': 4, 'seed': 1, 'temperature': 0.5}
    config = sample_config.SampleConfig(stop='<EOS>')
    whole = list(generation.generate(gpt2, '<BOS>', **options))
    stopped = list(generation.generate(gpt2, '<BOS>', config=config, **options))
    assert [text.partition('<EOS>')[0] for text in whole] == stopped != whole


@pytest.mark.parametrize('again', [{}, {'special_tokens': TOKENS}])
def test_a_run_goes_on_whether_they_are_named_again_or_not(place, again, capsys):
    train(special_tokens=TOKENS, steps=4, run_name='whole', learning_rate=0.01)
    train(special_tokens=TOKENS, learning_rate=0.01)
    train(learning_rate=0.01, steps=4, **again)
    assert 'its optimizer starts anew' not in capsys.readouterr().err
    whole, parts = weights('checkpoint/whole'), weights('checkpoint/run1')
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert described('checkpoint/whole') == described('checkpoint/run1')


def test_a_run_begins_from_another_with_more_tokens(place):
    train(special_tokens='<BOS>', run_name='first', learning_rate=0.01)
    shutil.rmtree('models')
    train(special_tokens='<BOS>,<EOS>', restore_from='checkpoint/first', steps=1)
    hparams, tokens = described('checkpoint/run1')
    assert hparams['n_vocab'] == 99 and (tokens['<BOS>'], tokens['<EOS>']) == (97, 98)
    first, second = weights('checkpoint/first'), weights('checkpoint/run1')
    np.testing.assert_allclose(second['model/wte'][:98], first['model/wte'], atol=1e-7)


def test_rows_without_tokens_are_used_before_rows_are_added(place):
    hparams, tokens = described('models/tiny')
    assert tokens.pop('<|endoftext|>') == 96 and tokens.pop('Ċ') == 95
    pathlib.Path('models/tiny/encoder.json').write_text(json.dumps(tokens))
    pathlib.Path('text').write_text(TEXT.replace('\n', ' '))
    train(special_tokens='<BOS>')
    assert described('checkpoint/run1')[0] == hparams
    assert described('checkpoint/run1')[1]['<BOS>'] == 95
    before, after = weights('models/tiny'), weights('checkpoint/run1')
    np.testing.assert_allclose(after['model/wte'], before['model/wte'], atol=1e-7)
    train(special_tokens=TOKENS, run_name='more')
    assert described('checkpoint/more')[0]['n_vocab'] == 98


def test_files_are_the_models_own_where_nothing_is_new(place):
    pathlib.Path('models/tiny/hparams.json').write_text(
        '{"n_layer": 1, "n_head": 3, "n_embd": 24, "n_ctx": 32,\n "n_vocab": 97}'
    )
    train(special_tokens='<|endoftext|>', steps=1)
    for name in ('hparams.json', 'encoder.json', 'vocab.bpe'):
        there = pathlib.Path('checkpoint/run1', name).read_bytes()
        assert there == pathlib.Path('models/tiny', name).read_bytes()


def test_a_folder_that_describes_another_model_is_set_aside(place, capsys):
    pathlib.Path('checkpoint/run1').mkdir(parents=True)
    pathlib.Path('checkpoint/run1/hparams.json').write_text('mine')
    train(steps=1)
    assert pathlib.Path('checkpoint/run1.1/hparams.json').read_text() == 'mine'
    assert described('checkpoint/run1') == described('models/tiny')


@pytest.mark.parametrize('flag', [{'lora_rank': 2}, {'only_train_transformer_layers': True}])
def test_what_leaves_the_embedding_alone_refuses_new_tokens(place, flag):
    with pytest.raises(ValueError, match=f'--{next(iter(flag))} would leave .* <BOS>, <EOS>, <PAD'):
        train(special_tokens=TOKENS, **flag)
    assert not pathlib.Path('checkpoint').exists()
    train(special_tokens=TOKENS)
    train(special_tokens=TOKENS, steps=1, **flag)  # nothing is new any more
    assert weights('checkpoint/run1')['model/wte'].shape == (100, 24)


def test_a_run_keeps_its_vocabulary(place):
    train()
    with pytest.raises(ValueError, match='The vocabulary of checkpoint/run1 has no <BOS>, .*_name'):
        train(special_tokens='<BOS>')
    assert described('checkpoint/run1') == described('models/tiny')


def test_an_npz_with_special_tokens_asks_for_them(place):
    np.savez('tokens.npz', np.array([1, 98] * 30))
    with pytest.raises(ValueError, match='tokens from 1 to 98, .* --special_tokens of encode.py'):
        train(dataset='tokens.npz')
    train(dataset='tokens.npz', special_tokens='<BOS>,<EOS>')


def test_a_dry_run_counts_new_rows_and_new_sizes(place, capsys):
    def weights_of(**flags):
        train(dry_run=True, **flags)
        line = next(x for x in capsys.readouterr().out.splitlines() if x.endswith('  weights'))
        return float(line.split()[0])

    wide = {'restore_from': 'scratch', 'n_embd': 30000}
    rows = 4 * 30000 * 1000 / 1e9
    assert weights_of() == 0
    names = ','.join(f'<{n}>' for n in range(1000))
    assert weights_of(special_tokens=names, **wide) - weights_of(**wide) == pytest.approx(
        rows, abs=0.02
    )


def test_a_new_model_needs_a_vocabulary_and_sizes(place):
    for path in pathlib.Path('models/tiny').iterdir():
        if path.name not in ('encoder.json', 'vocab.bpe'):
            path.unlink()
    with pytest.raises(
        ValueError, match='has no hparams.json. Give .*--restore_from scratch --n_la'
    ):
        train()
    with pytest.raises(ValueError, match='has no hparams.json'):
        train(restore_from='scratch', n_layer=2, n_head=2, n_embd=8)
    train(restore_from='scratch', learning_rate=0.01, **SMALL)
    assert described('checkpoint/run1')[0] == {'n_vocab': 97, **SMALL}
    assert weights('checkpoint/run1')['model/wpe'].shape == (16, 8)
    train(learning_rate=0.01, steps=4)  # goes on, with the sizes of the run
    assert model_directory.latest('checkpoint/run1').endswith('model-4')
    assert isinstance(generation.load('checkpoint/run1').encoder, encoder.Encoder)


def test_flags_replace_sizes_of_hparams_json(place):
    train(restore_from='scratch', n_layer=2, special_tokens=TOKENS, seq_length=1024, steps=1)
    hparams, _ = described('models/tiny')
    assert described('checkpoint/run1')[0] == {**hparams, 'n_layer': 2, 'n_vocab': 100}
    with pytest.raises(ValueError, match='n_embd 25 is not a multiple of n_head 3'):
        train(restore_from='scratch', n_embd=25)


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ({'n_layer': 2}, '--n_layer would make a new model: --restore_from scratch'),
        ({'n_ctx': 9, 'n_embd': 8, 'restore_from': 'fresh'}, '--n_embd and --n_ctx would make a'),
        ({'n_head': 0, 'restore_from': 'scratch'}, '--n_head is 0; it must be 1 or more'),
    ],
)
def test_sizes_that_are_none_are_told(flags, complaint):
    with pytest.raises(ValueError, match=complaint):
        train_config.TrainConfig(dataset='x', **flags)
