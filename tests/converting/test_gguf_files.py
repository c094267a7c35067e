"""A .gguf, read by llama.cpp's own package, in llama.cpp, and there and back."""

import contextlib
import json
import struct
import sys
import tracemalloc
import types

import damage
import gguf
import numpy as np
import pytest
from conftest import GOLDEN, ROOT
from conversions import RECORDED, converted, every_weight, weights

from src.converting import gguf_files
from src.sampling import generation

OURS = str(GOLDEN / 'openai_checkpoint')


def field(reader, name):
    return reader.get_field(name).contents()


def test_it_has_what_llama_cpp_asks_for(tmp_path):
    reader = gguf.GGUFReader(str(converted(OURS, tmp_path / 'x.gguf')))
    assert field(reader, 'general.architecture') == 'gpt2'
    assert field(reader, 'tokenizer.ggml.model') == 'gpt2'
    assert field(reader, 'tokenizer.ggml.pre') == 'gpt-2'
    assert len(field(reader, 'tokenizer.ggml.tokens')) == 97
    sizes = ('context_length', 'embedding_length', 'block_count', 'attention.head_count')
    assert [field(reader, f'gpt2.{size}') for size in sizes] == [32, 24, 3, 3]
    ours = weights(OURS)
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    np.testing.assert_array_equal(theirs['token_embd.weight'].data, ours['model/wte'])
    c_attn = ours['model/h1/attn/c_attn/w'][0]  # [in, out]; there it is transposed
    np.testing.assert_array_equal(theirs['blk.1.attn_qkv.weight'].data, c_attn.T)


@pytest.mark.parametrize('dtype, atol', [('float32', 0), ('float16', 1e-3)])
def test_there_and_back(tmp_path, dtype, atol):
    path = converted(OURS, tmp_path / 'x.gguf', dtype=dtype)
    back, ours = weights(converted(path, tmp_path / 'back')), weights(OURS)
    assert back.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(back[name], value, rtol=0, atol=atol, err_msg=name)


def read(path):
    return every_weight(contextlib.nullcontext(gguf_files.opened(str(path))))


def test_damage_anywhere_is_told_or_harmless(tmp_path):
    path = converted(OURS, tmp_path / 'x.gguf', dtype='q8_0')
    whole = path.read_bytes()
    begin = gguf.GGUFReader(str(path)).data_offset  # of the weights
    versions = [(bit, data + whole[begin:]) for bit, data in damage.flipped(whole[:begin], 199)]
    versions += [*damage.flipped(whole, 4999), *damage.cut(whole, 499)]
    found = damage.read_each(path, versions, lambda: read(path))
    assert 50 < len(found) < len(versions) - 100
    assert {hparams.n_embd for _, hparams in found} == {24}


def test_a_scale_that_is_no_number_is_read_as_it_is(tmp_path):
    values = np.float32([[3.0] * 31 + [0.0]])
    rows = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    rows[0, :2] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)
    rows.tofile(tmp_path / 'rows')
    tensor = types.SimpleNamespace(
        tensor_type=gguf.GGMLQuantizationType.Q8_0, n_bytes=34, data_offset=0, shape=[32, 1]
    )
    read = gguf_files._dequantized(gguf, str(tmp_path / 'rows'), tensor)
    assert np.isposinf(read[0, :31]).all() and np.isnan(read[0, 31])


def described(*values, arrays=0):
    """The beginning of a .gguf: version, numbers of tensors and of values, and these."""
    return b'GGUF' + struct.pack('<IQQ', 3, arrays, len(values)) + b''.join(values)


ARRAY = struct.pack('<Q', 1) + b'x' + struct.pack('<I', 9)  # of what, how many


LIES = {
    'nothing': b'',
    'cut off': b'GGUF',
    'bytes': described(ARRAY + struct.pack('<IQ', 0, 2**60)),
    'texts': described(ARRAY + struct.pack('<IQ', 8, 2**60)),
    'arrays of arrays': described(ARRAY + struct.pack('<IQ', 9, 2**60) * 5000),
    'a long name': described(struct.pack('<Q', 2**63)),
    'tensors': described(arrays=2**60),
}


@pytest.mark.parametrize('name', LIES)
def test_sizes_that_lie_are_told_at_once(tmp_path, monkeypatch, name):
    content = LIES[name]
    monkeypatch.setattr(gguf_files, 'LARGEST_DESCRIPTION', 2**20)
    path = tmp_path / 'x.gguf'
    path.write_bytes(content)
    with open(path, 'r+b') as file:
        file.truncate(max(len(content), 2**31 * bool(content)))  # zeros, of which none is written
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match='x.gguf is cut off, or damaged') as error:
            gguf_files.opened(str(path))
        assert tracemalloc.get_traced_memory()[1] < 2**26  # bytes at once
    finally:
        tracemalloc.stop()
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    'name, value',
    [
        ('general.architecture', 'llama\n\x1b[2J'),
        ('general.architecture', ['gpt2'] * 999),
        ('tokenizer.ggml.tokens', [1] * 301),
        ('tokenizer.ggml.tokens', 'text'),
        ('tokenizer.ggml.token_type', [1]),
        ('tokenizer.ggml.token_type', 7),
        ('tokenizer.ggml.merges', 7),
        ('tokenizer.ggml.merges', [7]),
        ('tokenizer.ggml.merges', ['a b c']),
        ('gpt2.block_count', 'many'),
        ('gpt2.block_count', 2**31),
        ('gpt2.embedding_length', [8]),
        ('gpt2.attention.layer_norm_epsilon', 1e-3),
        ('gpt2.attention.layer_norm_epsilon', 'small'),
    ],
)
def test_values_of_another_kind_are_told(tmp_path, monkeypatch, name, value):
    path = converted(RECORDED / 'huggingface', tmp_path / 'x.gguf')
    contents = gguf.ReaderField.contents
    monkeypatch.setattr(
        gguf.ReaderField, 'contents', lambda f: value if f.name == name else contents(f)
    )
    with pytest.raises(ValueError, match='x.gguf') as error:
        read(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_what_is_put_in_front_of_a_text_is_told(tmp_path, monkeypatch):
    path = converted(RECORDED / 'huggingface', tmp_path / 'x.gguf')
    contents = gguf.ReaderField.contents
    monkeypatch.setattr(
        gguf.ReaderField,
        'contents',
        lambda f: contents(f) or f.name == 'tokenizer.ggml.add_bos_token',
    )
    assert gguf_files.opened(str(path)).told[0].startswith('Its tokenizer puts a token in front')


def test_what_llama_cpp_makes_of_it_is_ours(small):
    recorded = json.loads((RECORDED / 'llama.json').read_text('utf-8'))
    assert len(recorded['strings']) == 22 and len(recorded['texts']) == 5
    for text, ids in recorded['strings']:
        ours = small.encode(text)
        assert ours == ids, text
    loaded = generation.load('shakespeare', str(ROOT / 'models'), engine='tensorflow')
    for prompt, tokens in recorded['texts']:
        (text,) = generation.generate_tokens(loaded.lm, prompt, length=64, temperature=0)
        assert text[len(prompt) :].tolist() == tokens


def test_llama_cpp_reads_the_file_that_is_written_today(tmp_path, monkeypatch):
    pytest.importorskip('llama_cpp', reason='llama.cpp is missing: pip install llama-cpp-python')
    monkeypatch.syspath_prepend(str(RECORDED))
    import record_llama

    path = converted(str(ROOT / 'models' / 'shakespeare'), tmp_path / 'x.gguf')
    recorded = json.loads((RECORDED / 'llama.json').read_text('utf-8'))
    assert record_llama.record(str(path)) == recorded
    del sys.modules['record_llama']
