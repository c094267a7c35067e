"""Runs of the trainer in this process; test_stopping.py starts train.py itself."""

import csv
import gc
import json
import os
import pathlib
import re
import shutil

import matplotlib.image
import numpy as np
import oracle
import pytest
import shared_steps
import tensorflow as tf
from conftest import TEXT
from runs import same, scalars, train, weights

from src import encoder, load_dataset, model
from src.gradients import small_model
from src.model_files import checkpoint, model_directory
from src.sampling import generation
from src.training import dataset, train_config, train_step, training, training_loop


def untimed(printed):
    return re.sub(r'\| \d+\.\d\d\]', '| t]', printed)


def test_it_prints_what_shepperds_prints(place, capsys):
    train()
    out, err = capsys.readouterr()
    losses = [f'{loss:2.2f}' for loss in scalars('loss').values()]
    first, second, third = map(float, scalars('loss').values())
    averages = [
        first,
        (0.99 * first + second) / 1.99,
        (0.99 * (0.99 * first + second) + third) / (0.99 * 1.99 + 1),
    ]
    assert untimed(out) == (
        'Loading checkpoint models/tiny/model.ckpt\n'
        'Loading dataset...\n'
        f'dataset has {len(TEXT) + 1} tokens\n'
        'Training...\n'
        f'[1 | t] loss={losses[0]} avg={averages[0]:2.2f}\n'
        f'[2 | t] loss={losses[1]} avg={averages[1]:2.2f}\n'
        f'[3 | t] loss={losses[2]} avg={averages[2]:2.2f}\n'
        'Saving checkpoint/run1/model-3\n'
    )


@pytest.mark.parametrize('widest', [0, 1024])  # layer by layer, and as one program
def test_a_run_that_has_ended_holds_no_memory(place, monkeypatch, widest):
    def graphs():  # each holds the weights and the optimizer's variables
        gc.collect()
        return sum(isinstance(each, tf.Graph) for each in gc.get_objects())

    monkeypatch.setattr(small_model, 'WIDEST', widest)
    monkeypatch.setattr(train_step, 'compiled', shared_steps.anew)
    train(run_name='first')  # what TensorFlow keeps for its own operations
    before = graphs()
    train(run_name='second')
    assert graphs() <= before


def test_it_learns(place):
    train(steps=60, learning_rate=0.01)
    losses = list(scalars('loss').values())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1


@pytest.mark.parametrize(
    'flags',
    [
        {'sample_every': 3, 'sample_length': 5},
        {'optimizer': 'sgd', 'noise': 0.2, 'dropout': 0.2},
        {'accumulate_gradients': 2, 'optimizer': 'muon', 'noise': 0.2},
        {'lora_rank': 2, 'memory_saving_gradients': True, 'optimizer': 'muon'},
        {'pack': True, 'document_mask': True, 'dropout': 0.1, 'memory_saving_gradients': True},
    ],
)
def test_ten_steps_and_ten_more_are_twenty(place, flags):
    train(run_name='whole', steps=20, **flags)
    train(run_name='parts', steps=10, save_every=3, **flags)
    train(run_name='parts', steps=20, **{**flags, 'seed': 2})
    whole, parts = scalars('loss', 'whole'), scalars('loss', 'parts')
    assert whole == parts and list(whole) == list(range(1, 21))
    assert same(weights('checkpoint/whole/model-20'), weights('checkpoint/parts/model-20'))
    state = checkpoint.load_state('checkpoint/whole/model-20')
    assert same(state, checkpoint.load_state('checkpoint/parts/model-20'))


def test_every_step_is_a_line_of_loss_csv_and_a_point_of_loss_png(place):
    train(steps=2, val_every=1, val_batch_count=2, sample_every=2, sample_length=3)
    train(steps=3)
    with open('checkpoint/run1/loss.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['step'], bool(row['loss']), bool(row['val_loss'])) for row in rows] == [
        ('1', False, True), ('1', True, False), ('2', False, True), ('2', True, False),
        ('3', True, False),
    ]  # fmt: skip
    for tag in ('loss', 'val_loss', 'learning_rate', 'gradient_norm', 'tokens_per_second'):
        there = {int(row['step']): float(row[tag]) for row in rows if row[tag]}
        assert there == pytest.approx(scalars(tag)), tag
    assert matplotlib.image.imread('checkpoint/run1/loss.png').shape[:2] == (500, 800)


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(place, capsys):
    before = sorted(pathlib.Path().rglob('*'))
    train(dry_run=True)
    out = capsys.readouterr().out
    assert re.search(r'^ *\d\.\d\d GB in all, about; there are', out, re.MULTILINE)
    assert sorted(pathlib.Path().rglob('*')) == before


def test_adapters_on_their_base_say_what_the_merged_checkpoint_says(place):
    train(lora_rank=2, steps=5, learning_rate=0.1, sample_every=2, sample_length=4)
    merged = generation.load('checkpoint/run1')
    beside = generation.load('tiny', adapters='checkpoint/run1/model-5.adapters.npz')
    for name, variable in model.by_name(beside.lm.params).items():
        np.testing.assert_allclose(variable, model.by_name(merged.lm.params)[name], atol=1e-6)
    before = weights('models/tiny/model.ckpt')
    changed = {name for name, value in before.items() if not np.array_equal(
        value, weights('checkpoint/run1/model-5')[name])}  # fmt: skip
    linear = {'attn/c_attn', 'attn/c_proj', 'mlp/c_fc', 'mlp/c_proj'}
    assert changed == {f'model/h0/{name}/w' for name in linear}


@pytest.mark.parametrize('flags', [{'lora_rank': 3}, {'lora_rank': 2, 'lora_alpha': 1.0}, {}])
def test_other_adapters_or_none_go_on_from_the_merged_weights(place, flags, capsys):
    train(lora_rank=2, steps=2, learning_rate=0.1)
    merged = weights('checkpoint/run1/model-2')
    train(steps=3, learning_rate=1e-9, **flags)
    assert 'its optimizer starts anew' in capsys.readouterr().err
    for name, value in weights('checkpoint/run1/model-3').items():
        np.testing.assert_allclose(value, merged[name], atol=1e-6)


def test_the_counter_goes_on_and_the_average_too(trained, capsys):
    train(steps=4)
    out = untimed(capsys.readouterr().out)
    assert 'Loading checkpoint checkpoint/run1/model-2\n' in out
    assert re.findall(r'^\[(\d) \|', out, re.MULTILINE) == ['3', '4']
    losses = list(scalars('loss').values())
    decay = 0.99 ** np.arange(3, -1, -1)
    assert out.endswith(
        f'avg={np.sum(decay * losses) / decay.sum():2.2f}\nSaving checkpoint/run1/model-4\n'
    )


def test_a_checkpoint_on_the_way_holds_the_steps_before_it(place):
    train(steps=5, save_every=2)
    train(steps=3, run_name='three')
    assert same(weights('checkpoint/run1/model-4'), weights('checkpoint/three/model-3'))
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-5'


def test_fresh_begins_anew_and_keeps_what_was(place, capsys):
    train(steps=2, sample_every=1, sample_length=3)
    train(steps=1, restore_from='fresh', sample_every=1, sample_length=3)
    out, err = capsys.readouterr()
    assert out.count('Loading checkpoint models/tiny/model.ckpt\n') == 2
    assert out.count('[1 | ') == 2
    assert 'checkpoint/run1 is kept as checkpoint/run1.1\n' in err
    assert 'samples/run1 is kept as samples/run1.1\n' in err
    assert model_directory.latest('checkpoint/run1.1') == 'checkpoint/run1.1/model-2'
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-1'
    assert sorted(os.listdir('samples/run1.1')) == ['samples-1', 'samples-2']


def test_samples_of_a_run_that_was_never_saved_are_kept(place):
    os.makedirs('samples/run1')
    pathlib.Path('samples/run1/samples-1').write_text('mine')
    train(steps=1, sample_every=1, sample_length=3)
    assert pathlib.Path('samples/run1.1/samples-1').read_text() == 'mine'
    assert pathlib.Path('samples/run1/samples-1').read_text() != 'mine'


@pytest.mark.parametrize(
    'where',
    [
        'checkpoint/other',
        'checkpoint/other/model-2',
        'checkpoint/other/model-2.index',
        'models/tiny',
    ],
)
def test_restoring_from_elsewhere_begins_a_run(trained, capsys, where):
    os.rename('checkpoint/run1', 'checkpoint/other')
    train(steps=1, restore_from=where, learning_rate=1e-9)
    out = capsys.readouterr().out
    prefix = 'models/tiny/model.ckpt' if where == 'models/tiny' else 'checkpoint/other/model-2'
    assert f'Loading checkpoint {prefix}\n' in out
    assert '[1 | ' in out.rpartition('Training...')[2]
    after, before = weights('checkpoint/run1/model-1'), weights(prefix)
    assert all(np.allclose(after[name], before[name], atol=1e-6) for name in before)


def test_shepperds_checkpoint_is_continued_though_it_has_no_state(trained, capsys):
    for path in pathlib.Path('checkpoint/run1').glob('state-*'):
        path.unlink()
    train(steps=3)
    out, err = capsys.readouterr()
    assert '[3 | ' in out
    assert 'checkpoint/run1/model-2 has no state; the optimizer starts anew\n' in err


def test_another_optimizer_may_take_over(trained, capsys):
    train(steps=4, optimizer='sgd')
    out, err = capsys.readouterr()
    assert 'its optimizer starts anew' in err and '[4 | ' in out
    train(steps=5)
    assert np.isfinite(scalars('loss')[5])


def test_scratch_needs_no_checkpoint(place, capsys):
    for path in pathlib.Path('models/tiny').glob('*ckpt*'):
        path.unlink()
    pathlib.Path('models/tiny/checkpoint').unlink()
    train(restore_from='scratch', learning_rate=1e-9, steps=1)
    values = weights('checkpoint/run1/model-1')
    assert abs(values['model/wte'].std() - 0.02) < 0.001
    assert abs(values['model/wpe'].std() - 0.01) < 0.001
    np.testing.assert_allclose(values['model/ln_f/g'], 1, atol=1e-6)
    assert abs(scalars('loss')[1] - np.log(97)) < 0.05  # as good as not knowing anything
    with pytest.raises(ValueError, match='--restore_from scratch'):
        train(run_name='other')


def test_samples_are_printed_and_written(place, capsys):
    train(steps=2, sample_every=2, sample_num=3, sample_length=6)
    out = capsys.readouterr().out
    written = pathlib.Path('samples/run1/samples-2').read_text()
    samples = re.findall(r'======== SAMPLE (\d) ========\n(.*?)\n(?=\n=|$)', written, re.DOTALL)
    assert [number for number, _ in samples] == ['1', '2', '3']
    assert len({text for _, text in samples}) > 1
    assert {text[0] for _, text in samples} == {samples[0][1][0]}  # one token begins all of them
    assert all(len(text) >= 7 or '<|endoftext|>' in text for _, text in samples)
    assert 'Generating samples...\n' + written.replace('\n\n=', '\n\n=') in out
    assert not pathlib.Path('samples/run1/samples-1').exists()


def test_what_is_not_to_be_learnt_is_not_and_samples_begin_with_it(place, monkeypatch):
    tokens = np.arange(40, 80, dtype=np.int32)
    monkeypatch.setattr(dataset, '_tokens', lambda *_: [~tokens])
    train(steps=1, sample_every=1, sample_num=1, sample_length=2, val_every=1, val_batch_count=1)
    assert scalars('loss') == scalars('val_loss') == {1: 0.0}
    first = pathlib.Path('samples/run1/samples-1').read_text().split('\n')[1][0]
    assert first in encoder.get_encoder('tiny', 'models').decode(tokens.tolist())


def test_samples_do_not_disturb_the_training(place):
    train(steps=4, run_name='silent')
    train(steps=4, run_name='talkative', sample_every=1, sample_length=4, val_every=2)
    assert scalars('loss', 'silent') == scalars('loss', 'talkative')


def test_a_seed_repeats_a_run(place):
    for run, seed in (('a', 1), ('b', 1), ('c', 2)):
        train(run_name=run, seed=seed, noise=0.1, sample_every=3, sample_length=9)
    samples = [pathlib.Path(f'samples/{run}/samples-3').read_text() for run in 'abc']
    assert scalars('loss', 'a') == scalars('loss', 'b') != scalars('loss', 'c')
    assert samples[0] == samples[1] != samples[2]


def test_validation_is_at_the_first_step_and_then_every_n(place, capsys):
    pathlib.Path('other').write_text('Quite another text, with numbers: 0123456789.\n' * 9)
    train(steps=4, val_every=2, val_batch_count=3, val_dataset='other')
    out = untimed(capsys.readouterr().out)
    recorded = scalars('val_loss')
    assert list(recorded) == [1, 2, 4]
    lines = [
        f'Calculating validation loss...\n[{n} | t] validation loss = {loss:2.2f}\n[{n} | t] loss='
        for n, loss in recorded.items()
    ]
    assert all(line in out for line in lines)
    enc = encoder.get_encoder('tiny', 'models')
    sampler = load_dataset.Sampler(load_dataset.load_dataset(enc, 'other', 50000), seed=1)
    tokens = np.stack([sampler.sample(16) for _ in range(6)])  # 3 batches of 2
    hparams = checkpoint.read_hparams('models/tiny')
    params = checkpoint.load('models/tiny/model.ckpt', hparams)
    params = model.map_tree(lambda name, variable: variable.numpy(), params)
    expected = oracle.loss(oracle.model(hparams, params, tokens)['logits'], tokens)
    assert recorded[1] == pytest.approx(expected, rel=1e-5)


def test_what_is_recorded_for_tensorboard(place):
    train(steps=2, learning_rate=0.002)
    assert list(scalars('loss')) == [1, 2]
    assert scalars('learning_rate') == {1: pytest.approx(0.002), 2: pytest.approx(0.002)}


def test_rows_of_a_table_are_trained_on(place, capsys):
    pathlib.Path('rows.csv').write_text('number,text\n' + '1,All the world\n' * 20)
    train(dataset='rows.csv', column='text')
    row = '<|startoftext|>All the world<|endoftext|>'
    tokens = encoder.get_encoder('tiny').encode_to_numpy(row)
    assert f'dataset has {20 * len(tokens)} tokens\n' in capsys.readouterr().out


def test_packed_texts_are_learnt_and_may_take_over_from_windows(trained, capsys):
    pathlib.Path('text').write_text('<|endoftext|>'.join(TEXT.split()))
    train(steps=42, pack=True, learning_rate=0.01)
    assert 'packed otherwise so far; its windows start anew\n' in capsys.readouterr().err
    losses = list(scalars('loss').values())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1
    sampler = json.loads(checkpoint.load_state('checkpoint/run1/model-42')['numbers'])['sampler']
    assert sampler == {'seed': 1, 'epoch': 0, 'drawn': 80}


def test_the_end_of_texts_is_one_token(place):
    enc = encoder.get_encoder('tiny', 'models')
    assert dataset.end_of_texts(enc, '<|endoftext|>') == enc.encoder['<|endoftext|>']
    with pytest.raises(ValueError, match=r'xyz is 3 tokens in this vocabulary; --pack'):
        dataset.end_of_texts(enc, 'xyz')


def test_a_text_shorter_than_a_window_is_used_as_it_is(place, capsys):
    pathlib.Path('text').write_text('Short.')
    train(steps=1)
    err = capsys.readouterr().err
    assert 'longest training text has 7 tokens; training windows have as many instead of 16' in err


def test_a_window_is_never_longer_than_the_models(place, capsys):
    train(seq_length=1024, steps=1, sample_every=1, sample_num=1)
    text = pathlib.Path('samples/run1/samples-1').read_text()
    assert len(text) > 32


def test_samples_on_the_way_have_no_ids_that_the_vocabulary_has_not(place, capsys):
    path = pathlib.Path('models/tiny/hparams.json')
    path.write_text(json.dumps({**json.loads(path.read_text()), 'n_vocab': 400}))
    train(restore_from='scratch', steps=1, sample_every=1, sample_num=2, sample_length=20)
    assert 'Training goes on' not in capsys.readouterr().err
    assert pathlib.Path('samples/run1/samples-1').read_text().count('SAMPLE') == 2


def test_deep_models_save_memory_by_themselves(capsys):
    hparams = model.HParams(97, n_ctx=32, n_embd=24, n_head=3, n_layer=13)
    config = train_config.TrainConfig(dataset='x')
    assert training._fitted(config, hparams).memory_saving_gradients
    assert 'turning on --memory_saving_gradients' in capsys.readouterr().err


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ({'dataset': 'none'}, 'There is no text at none'),
        ({'dataset': 'empty'}, 'There is no text in empty'),
        ({'dataset': 'one'}, 'no two tokens in a row'),
        ({'dataset': 'foreign'}, "no token 'Ä'"),
        (
            {'model_name': 'none'},
            'There is no models/none. Choose one with --model_name: tiny',
        ),
        ({'restore_from': 'none'}, '--restore_from none: no checkpoint is there. It may be'),
        ({'restore_from': 'checkpoint/empty'}, 'no checkpoint is there'),
        ({'sample_length': 33}, "Can't get samples longer than window size: 32"),
        ({'encoding': 'klingon'}, "There is no encoding 'klingon'"),
        ({'val_every': 1, 'val_dataset': 'none'}, 'There is no text at none'),
        ({'dataset': 'one', 'pack': True}, 'The training text has no two tokens in a row'),
        ({'val_every': 1, 'val_dataset': 'one.npz'}, 'The validation text has no two tokens in a'),
    ],
)
def test_mistakes_are_told_and_change_nothing(trained, flags, complaint):
    pathlib.Path('empty').write_text('')
    pathlib.Path('one').write_bytes(b'')
    np.savez('one.npz', np.array([5]))
    pathlib.Path('foreign').write_text('ÄÄÄÄÄÄ')
    os.makedirs('checkpoint/empty')
    before = {p: p.stat().st_mtime_ns for p in trained.rglob('*')}
    if flags.get('dataset') == 'one':
        flags = {'dataset': 'one.npz'}
    with pytest.raises(ValueError, match=complaint) as error:
        train(**{'restore_from': 'fresh', **flags})
    assert '\n' not in str(error.value)
    assert {p: p.stat().st_mtime_ns for p in trained.rglob('*')} == before


def test_a_checkpoint_that_cannot_be_written_on_the_way_does_not_end_the_run(
    place, capsys, monkeypatch
):
    save = checkpoint.save

    def full(directory, counter, *others, **options):
        if counter == 2:
            raise OSError(28, 'No space left on device')
        save(directory, counter, *others, **options)

    monkeypatch.setattr(checkpoint, 'save', full)
    train(steps=3, save_every=2)
    out, err = capsys.readouterr()
    assert 'No space left on device. Training goes on\n' in err
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-3'


def test_steps_that_cannot_be_made_are_skipped_and_end_the_run(trained, capsys):
    before = weights('checkpoint/run1/model-2')
    with pytest.raises(ValueError, match='not a number in 5 steps in a row.*--learning_rate'):
        train(steps=9, learning_rate=1e38, optimizer='sgd')  # one step, and all is infinite
    assert 'is skipped: its loss or gradient is not a number\n' in capsys.readouterr().err
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-2'
    assert same(weights('checkpoint/run1/model-2'), before)


def test_a_schedule_goes_through_the_steps(place):
    train(steps=4, learning_rate=0.001, schedule='linear', warmup_steps=2)
    assert list(scalars('learning_rate').values()) == pytest.approx([0.0005, 0.001, 0.0005, 0])
    assert all(norm > 0 for norm in scalars('gradient_norm').values())


@pytest.mark.parametrize(
    'owner, name',
    [(training_loop.Run, 'step'), (checkpoint, 'load'), (train_step.TrainState, '__init__')],
)
def test_too_little_memory_is_told_wherever_it_ends(place, monkeypatch, owner, name):
    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor\nHint: …')

    monkeypatch.setattr(owner, name, exhausted)
    with pytest.raises(ValueError, match='The memory is too small .*: --memory_saving_gradients'):
        train()


def test_the_run_directory_is_a_model_directory(trained):
    shutil.rmtree('models')
    train(steps=1, model_name='checkpoint/run1', run_name='next', learning_rate=1e-9)
    shutil.copytree('checkpoint/run1', 'models/tiny')
    after, before = weights('checkpoint/next/model-1'), weights('checkpoint/run1/model-2')
    assert all(np.allclose(after[name], before[name], atol=1e-6) for name in before)
