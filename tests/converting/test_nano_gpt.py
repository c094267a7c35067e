"""nanoGPT's checkpoint of its own training, recorded, comes in; what goes out is its layout."""

import contextlib
import functools
import io
import json
import pickle
import shutil
import zipfile

import damage
import numpy as np
import pytest
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

from src import encoder, model
from src.converting import nano_gpt, portable, torch_files, vocabularies
from src.data import pickles, token_files

FOLDER = RECORDED / 'nanogpt'
TEXT = 'Größe: 中文!\nFirs'


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    """The recorded checkpoint as a model directory; nobody may change it."""
    return converted(FOLDER, tmp_path_factory.mktemp('converted') / 'ours')


def test_logits_are_those_of_nanogpt_with_the_gelu_of_openai(ours, capfd):
    golden = np.load(FOLDER / 'logits.npz')
    require_logits(ours, golden['tanh_logits'], golden['tokens'])
    lm, enc = loaded(ours)
    assert enc.encode_to_numpy(TEXT).tolist() == golden['tokens'][0].tolist()
    difference = np.abs(lm(np.int32(golden['tokens']))['logits'] - golden['logits']).max()
    assert 1e-5 < difference < 1e-2  # which is said: see GELU
    assert {path.name for path in ours.iterdir()} >= {'model-6.index'}  # its iter_num


def test_what_is_read_and_what_differs_is_said(tmp_path, capsys):
    converted(FOLDER / 'ckpt.pt', tmp_path / 'out')
    said = capsys.readouterr().err
    assert f'Its vocabulary is {FOLDER / "meta.pkl"}\n' in said and nano_gpt.GELU in said


def test_the_vocabulary_is_looked_for_where_nanogpt_has_it(tmp_path, ours, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'out-tiny').mkdir()
    shutil.copy(FOLDER / 'ckpt.pt', tmp_path / 'out-tiny')
    with pytest.raises(ValueError, match='has 57 tokens; .* none was found .*data/tiny/meta.pkl'):
        converted('out-tiny', 'no')
    meta = tmp_path / 'data' / 'tiny' / 'meta.pkl'
    meta.parent.mkdir(parents=True)
    shutil.copy(FOLDER / 'meta.pkl', meta)
    assert same(weights(converted('out-tiny', tmp_path / 'one')), weights(ours))
    meta.rename(tmp_path / 'meta.pkl')
    other = converted('out-tiny', tmp_path / 'two', vocabulary='meta.pkl')
    assert loaded(other)[1].encoder == loaded(ours)[1].encoder


def test_there_and_back_is_bit_for_bit_the_same(ours, tmp_path):
    back = converted(ours, tmp_path / 'back', to='nanogpt')
    assert {path.name for path in back.iterdir()} == {'ckpt.pt', 'meta.pkl'}
    again = converted(back, tmp_path / 'again')
    assert same(weights(again), weights(ours))
    for name in ('encoder.json', 'vocab.bpe', 'hparams.json'):
        assert (again / name).read_bytes() == (ours / name).read_bytes()
    theirs, written = (
        pickles.load(io.BytesIO((folder / 'meta.pkl').read_bytes()), 'x')
        for folder in (FOLDER, back)
    )
    assert written == theirs


def test_vocabularies_that_nanogpt_does_not_know_are_told(openais, small, ours):
    assert vocabularies.is_openais(openais) and not vocabularies.is_openais(small)
    assert not vocabularies.is_openais(loaded(ours)[1])


def test_what_is_written_has_the_layout_of_nanogpt(ours, tmp_path):
    back = converted(ours, tmp_path / 'back', to='nanogpt')
    with (
        torch_files.opened(str(FOLDER / 'ckpt.pt')) as (theirs, read_theirs),
        torch_files.opened(str(back / 'ckpt.pt')) as (written, read),
    ):
        assert written.keys() == theirs.keys()
        assert {**written['model_args'], 'bias': False} == theirs['model_args']
        assert written['iter_num'] == theirs['iter_num'] == 6
        for name, tensor in theirs['model'].items():
            mine = written['model'][name.removeprefix('_orig_mod.')]
            assert mine.shape == tensor.shape
            assert np.array_equal(read(mine), read_theirs(tensor))
        more = written['model'].keys() - {n.removeprefix('_orig_mod.') for n in theirs['model']}
        assert all(
            name.endswith('bias') and not read(written['model'][name]).any() for name in more
        )
        for mine, group in zip(
            written['optimizer']['param_groups'], theirs['optimizer']['param_groups'], strict=True
        ):
            assert mine.keys() == group.keys()
            assert mine['weight_decay'] == group['weight_decay']
    with zipfile.ZipFile(back / 'ckpt.pt') as archive:
        assert {m.compress_type for m in archive.infolist()} == {zipfile.ZIP_STORED}


def test_rows_that_were_added_for_speed_are_cut_off(tmp_path, openais, capsys):
    hparams = model.HParams(50304, n_ctx=2, n_embd=1, n_head=1, n_layer=1)
    shapes = portable.shapes_of(hparams)
    arrays = {name: np.full(shape, 2.0, np.float32) for name, shape in shapes.items()}
    arrays['model/wte'] = np.arange(50304, dtype=np.float32)[:, None]
    source = tmp_path / 'source'
    source.mkdir()
    nano_gpt.write(str(source), portable.Model('x', hparams, openais, arrays.get))
    assert [path.name for path in source.iterdir()] == ['ckpt.pt']
    shutil.copytree(GOLDEN.parent / 'vocabulary', tmp_path / 'models' / '774M')
    ours = converted(source, tmp_path / 'ours', models_dir=str(tmp_path / 'models'))
    assert json.loads((ours / 'hparams.json').read_text())['n_vocab'] == 50257
    assert np.array_equal(weights(ours)['model/wte'], arrays['model/wte'][:50257])
    said = capsys.readouterr().err
    assert 'wte is cut from 50304 rows to the 50257 of the vocabulary' in said
    assert f"OpenAI's, of {tmp_path / 'models' / '774M'}" in said
    for name in ('encoder.json', 'vocab.bpe'):
        expected = (GOLDEN.parent / 'vocabulary' / name).read_bytes()
        assert (ours / name).read_bytes() == expected


@pytest.mark.parametrize(
    'saved, complaint',
    [
        ([1], 'is no checkpoint of nanoGPT: it has no model and model_args'),
        ({'model': {}, 'model_args': {'n_layer': 10**9}}, 'n_vocab is None'),
        ({'model': {'x': 1}}, 'is no checkpoint of nanoGPT'),
    ],
)
def test_other_checkpoints(tmp_path, saved, complaint):
    shutil.copy(FOLDER / 'meta.pkl', tmp_path)
    with open(tmp_path / 'ckpt.pt', 'wb') as file:
        torch_files.write(file, saved, ())
    with pytest.raises(ValueError, match=complaint):
        converted(tmp_path / 'ckpt.pt', tmp_path / 'out')


@pytest.mark.parametrize(
    'meta', [{}, [], {'stoi': {'ab': 0}}, {'stoi': {'a': 'b'}}, {'stoi': {'a': 0, 'b': 0}}]
)
def test_a_meta_that_is_no_vocabulary(tmp_path, meta):
    (tmp_path / 'meta.pkl').write_bytes(pickle.dumps(meta))
    with pytest.raises(ValueError, match=f'{tmp_path}/meta.pkl is n'):
        vocabularies.of_meta(str(tmp_path / 'meta.pkl'))


def test_characters_of_meta_are_tokens():
    enc = vocabularies.of_meta(str(FOLDER / 'meta.pkl'))
    assert enc.decode(enc.encode(TEXT)) == TEXT and len(enc.encode(TEXT)) == len(TEXT)
    assert isinstance(enc, encoder.Encoder)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / 'folder')


def test_damage_and_lies_in_a_checkpoint_are_told(folder):
    path = folder / 'ckpt.pt'
    whole = path.read_bytes()
    with torch_files.opened(str(path)) as (saved, read):
        arrays = [read(tensor) for tensor in saved['model'].values()]
        state = {
            name: torch_files.Saved(number, tensor.shape)
            for number, (name, tensor) in enumerate(saved['model'].items())
        }
    args = {name: saved[name] for name in ('model_args', 'iter_num', 'config')}

    def written():
        for where, odd in odd_ones(args):
            file = io.BytesIO()
            with contextlib.suppress(UnicodeEncodeError):  # what cannot be written
                torch_files.write(file, {'model': state, **odd}, iter(arrays))
                yield where, file.getvalue()

    versions = [*written(), *damage.flipped(whole, 1499), *damage.cut(whole, 499)]
    opened = functools.partial(nano_gpt.opened, str(path), None, 'none')
    found = damage.read_each(path, versions, lambda: every_weight(opened()))
    assert 100 < len(found) < len(versions) - 100
    assert {hparams.n_embd for _, hparams in found} == {saved['model_args']['n_embd']}


def test_damage_and_lies_in_a_vocabulary_are_told(folder):
    path = folder / 'meta.pkl'
    whole = path.read_bytes()
    enc = vocabularies.of_meta(str(path))
    lies = [(where, pickle.dumps(odd, 4)) for where, odd in odd_ones(pickle.loads(whole))]
    versions = [*damage.flipped(whole, 7), *damage.cut(whole, 3), *lies]
    found = damage.read_each(path, versions, lambda: vocabularies.of_meta(str(path)))
    assert 100 < len(found) < len(versions) - 100
    beside = functools.partial(token_files.require_vocabulary, str(path), enc)
    assert 100 < len(damage.read_each(path, versions, beside)) < len(versions) - 100
