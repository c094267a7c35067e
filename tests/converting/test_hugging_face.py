"""Folders of transformers, recorded, in and out; they compute what transformers computed."""

import json
import shutil

import damage
import numpy as np
import pytest
import safetensors.numpy
from conftest import GOLDEN
from conversions import (
    RECORDED,
    converted,
    every_weight,
    loaded,
    odd_ones,
    require_logits,
    same,
    weights,
)

from src.converting import hugging_face

FOLDER = RECORDED / 'huggingface'
TINY = GOLDEN / 'openai_checkpoint'


@pytest.fixture(scope='module')
def golden():
    return np.load(RECORDED / 'logits.npz')


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    """The recorded folder as a model directory; nobody may change it."""
    return converted(FOLDER, tmp_path_factory.mktemp('converted') / 'a [b] 中')


@pytest.fixture
def folder(tmp_path):
    """The recorded folder, to be changed."""
    return shutil.copytree(FOLDER, tmp_path / 'folder')


def configure(folder, **settings):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**config, **settings}))


def test_logits_are_those_of_transformers(ours, golden):
    require_logits(ours, golden['logits'], golden['tokens'])
    assert {path.name for path in ours.iterdir()} == {
        'checkpoint', 'counter', 'encoder.json', 'hparams.json', 'vocab.bpe',
        'model-0.data-00000-of-00001', 'model-0.index', 'model-0.meta',
    }  # fmt: skip


def test_shards_without_the_prefix_in_bfloat16(tmp_path, golden):
    folder = shutil.copytree(RECORDED / 'sharded', tmp_path / 'folder')
    shutil.copytree(RECORDED / 'vocabulary', folder, dirs_exist_ok=True)
    directory = converted(folder, tmp_path / 'out')
    require_logits(directory, golden['bfloat16_logits'], golden['tokens'])
    (folder / 'model-00002-of-00002.safetensors').unlink()
    with pytest.raises(ValueError, match='index.json names model-00002-of-00002.safetensors'):
        converted(folder, tmp_path / 'other')


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'pytorch_model_2019.bin'])
def test_weights_of_pytorch_are_the_same(folder, ours, tmp_path, name):
    (folder / 'model.safetensors').unlink()
    shutil.copy(RECORDED / name, folder / 'pytorch_model.bin')
    assert same(weights(converted(folder, tmp_path / 'out')), weights(ours))


@pytest.mark.parametrize(
    'flag, value', [('scale_attn_by_inverse_layer_idx', True), ('scale_attn_weights', False)]
)
def test_scales_of_attention_go_into_the_weights(folder, tmp_path, golden, flag, value):
    configure(folder, **{flag: value}, reorder_and_upcast_attn=True)
    require_logits(converted(folder, tmp_path / 'out'), golden[flag], golden['tokens'])


def test_a_narrow_mlp_is_filled_up(tmp_path, golden):
    folder = shutil.copytree(RECORDED / 'narrow', tmp_path / 'folder')
    shutil.copy(FOLDER / 'tokenizer.json', folder)
    require_logits(converted(folder, tmp_path / 'out'), golden['narrow'], golden['tokens'])


def test_float16_is_widened_and_an_equal_head_is_none(folder, ours, tmp_path):
    half = {name: array.astype(np.float16) for name, array in of(folder).items()}
    configure(folder, tie_word_embeddings=False, activation_function='gelu_pytorch_tanh')
    half['lm_head.weight'] = half['transformer.wte.weight']
    safetensors.numpy.save_file(half, folder / 'model.safetensors')
    expected = {n: array.astype(np.float16) for n, array in weights(ours).items()}
    assert same(weights(converted(folder, tmp_path / 'out')), expected)
    half['lm_head.weight'] = half['lm_head.weight'] + np.float16(1)
    safetensors.numpy.save_file(half, folder / 'model.safetensors')
    with pytest.raises(ValueError, match='an lm_head other than wte'):
        converted(folder, tmp_path / 'other')


def of(folder):
    return safetensors.numpy.load_file(folder / 'model.safetensors')


@pytest.fixture(scope='module')
def back(ours, tmp_path_factory):
    """The recorded folder, converted and converted back; nobody may change it."""
    return converted(ours, tmp_path_factory.mktemp('back') / 'folder')


def test_what_is_written_has_the_layout_of_transformers(back):
    assert same(of(back), of(FOLDER))
    config, theirs = (json.loads((f / 'config.json').read_text()) for f in (back, FOLDER))
    assert config.pop('n_ctx') == 16  # which llama.cpp's converter wants
    assert config == {name: theirs[name] for name in config}
    left_out = {name for name in theirs if name not in config}
    assert all(name.startswith(('summary_', 'transformers_')) for name in left_out)
    tokenizer, theirs = (json.loads((f / 'tokenizer.json').read_text()) for f in (back, FOLDER))
    for token in theirs['added_tokens']:
        token |= {'special': True, 'normalized': False}  # here all are alike
    assert tokenizer == theirs
    settings, theirs = (
        json.loads((f / 'tokenizer_config.json').read_text()) for f in (back, FOLDER)
    )
    for name in ('add_prefix_space', 'bos_token', 'eos_token', 'unk_token', 'tokenizer_class'):
        assert settings[name] == theirs[name]
    for name in ('vocab.json', 'added_tokens.json'):
        recorded = json.loads((RECORDED / 'vocabulary' / name).read_text())
        assert json.loads((back / name).read_text()) == recorded
    assert (back / 'merges.txt').read_text() == (RECORDED / 'vocabulary/merges.txt').read_text()
    assert 'parameters' in (back / 'README.md').read_text()


def test_there_and_back_is_bit_for_bit_the_same(ours, back, tmp_path):
    again = converted(back, tmp_path / 'again')
    for name in ('model-0.data-00000-of-00001', 'model-0.index', 'encoder.json', 'vocab.bpe'):
        assert (again / name).read_bytes() == (ours / name).read_bytes()
    folder = converted(TINY, tmp_path / 'tiny')  # a vocabulary of characters
    assert json.loads((folder / 'tokenizer.json').read_text())['model']['type'] == 'WordLevel'
    tiny = converted(folder, tmp_path / 'tiny again')
    assert same(weights(tiny), weights(TINY))
    for name in ('encoder.json', 'vocab.bpe'):
        assert (tiny / name).read_bytes() == (TINY / name).read_bytes()


def test_shards_are_listed(ours, back, tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face, 'LARGEST_SHARD', 5000)
    folder = converted(ours, tmp_path / 'folder')
    index = json.loads((folder / 'model.safetensors.index.json').read_text())
    paths = sorted(folder.glob('model-*.safetensors'))
    assert [path.name for path in paths] == sorted(set(index['weight_map'].values()))
    assert len(paths) > 2 and paths[-1].name.endswith(f'-of-{len(paths):05}.safetensors')
    tensors = {}
    for path in paths:
        there = safetensors.numpy.load_file(path)
        assert set(there) == {n for n, file in index['weight_map'].items() if file == path.name}
        assert len(there) == 1 or sum(array.nbytes for array in there.values()) <= 5000
        tensors |= there
    assert same(tensors, of(back))
    assert index['metadata']['total_size'] == sum(array.nbytes for array in tensors.values())
    assert same(weights(converted(folder, tmp_path / 'again')), weights(ours))


def test_the_run_is_in_the_model_card(ours, tmp_path):
    run = shutil.copytree(ours, tmp_path / 'poems')
    for path in run.glob('model-0.*'):
        path.rename(run / path.name.replace('model-0', 'model-1200'))
    (run / 'checkpoint').write_text('model_checkpoint_path: "model-1200"\n')
    (run / 'loss.csv').write_text(
        'step,loss,average,val_loss\n1000,3,3.21,3.5\n1200,3,3.11,\n1300,2,2.11,2.5\n'
    )
    text = (converted(run, tmp_path / 'folder') / 'README.md').read_text()
    assert 'trained for 1,200 steps' in text
    assert 'training loss at step 1,200 was 3.11' in text
    assert 'validation loss at step 1,000 was 3.50' in text


@pytest.mark.parametrize(
    'settings, complaint',
    [
        ({'model_type': 'llama'}, 'config.json has the model_type llama; only gpt2'),
        ({'activation_function': 'gelu'}, "activation_function gelu; OpenAI's GPT-2 has gelu_new"),
        ({'add_cross_attention': True}, 'add_cross_attention True'),
        ({'layer_norm_epsilon': 1e-6}, 'layer_norm_epsilon 1e-06'),
        ({'n_inner': 33}, 'n_inner 33; GPT-2 has 4 n_embd, which is 32'),
        ({'n_inner': 31}, r'h.0.mlp.c_fc.weight has shape \[8, 32\]; it should have \[8, 31\]'),
        ({'n_layer': 3}, 'has 2 layers, and says that it has 3'),
        ({'n_head': 3}, 'n_embd 8 is not a multiple of n_head 3'),
        ({'n_positions': 'many'}, "n_ctx is 'many'; it must be a whole number"),
        ({'n_embd': 'x', 'n_inner': 3}, "config.json .* n_embd is 'x'"),
        ({'n_layer': 10**9}, 'has 2 layers, and says that it has 1000000000'),
    ],
)
def test_what_is_not_gpt2_is_named(folder, tmp_path, settings, complaint):
    configure(folder, **settings)
    with pytest.raises(ValueError, match=complaint) as error:
        converted(folder, tmp_path / 'out')
    assert '\n' not in str(error.value) and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'name, content, complaint',
    [
        ('config.json', '[]', 'config.json is damaged'),
        ('config.json', '{"n_embd"', 'config.json is damaged'),
        ('config.json', '\xff', 'config.json is damaged'),
        ('tokenizer.json', '{"model": {"type": "BPE"}}', 'tokenizer.json is damaged'),
        ('tokenizer.json', '[' * 99_999, 'tokenizer.json is damaged'),
        ('model.safetensors', 'x' * 99, 'is not a safetensors file'),
        ('model.safetensors', None, 'folder has no model.safetensors and no pytorch_model.bin'),
    ],
)
def test_damaged_and_missing_files(folder, tmp_path, name, content, complaint):
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content, 'latin-1')
    with pytest.raises(ValueError, match=complaint) as error:
        converted(folder, tmp_path / 'out')
    assert '\n' not in str(error.value) and sorted(p.name for p in tmp_path.iterdir()) == ['folder']


def test_a_folder_without_a_vocabulary_is_told_whose_it_has(folder, tmp_path, ours):
    (folder / 'tokenizer.json').unlink()
    with pytest.raises(ValueError, match='Say whose vocabulary it has: --vocabulary 124M'):
        converted(folder, tmp_path / 'out')
    _, enc = loaded(converted(folder, tmp_path / 'out', vocabulary=str(ours)))
    assert enc.encoder == loaded(ours)[1].encoder


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors.index.json'])
def test_damage_and_lies_are_told_in_one_line(tmp_path, name):
    folder = tmp_path / 'folder'
    shutil.copytree(RECORDED / ('sharded' if 'index' in name else 'huggingface'), folder)
    shutil.copytree(RECORDED / 'vocabulary', folder, dirs_exist_ok=True)
    whole = (folder / name).read_bytes()
    lies = [(where, json.dumps(odd).encode()) for where, odd in odd_ones(json.loads(whole))]
    versions = [*damage.flipped(whole, 5), *damage.cut(whole, 5), *lies]
    versions += [('nested', b'[' * 100_000), ('spaces', b' ' * 2**26)]

    def read():
        return every_weight(hugging_face.opened(str(folder), None))

    found = damage.read_each(folder / name, versions, read, str(folder))
    assert 100 < len(found) < len(versions) - 500
    assert {hparams.n_embd for _, hparams in found} == {8}  # which the weights have


@pytest.mark.parametrize('place', ['.', ''])
def test_a_model_is_not_written_in_the_place_of_this_folder(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"DESTINATION is '{place}', this folder; name a new one"):
        converted(RECORDED / 'huggingface', place)
