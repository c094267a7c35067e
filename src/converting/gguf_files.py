"""GGUF, the files of llama.cpp, ollama and LM Studio; the package `gguf` is llama.cpp's own.

Linear layers lie there as in PyTorch, [n_out, n_in]. What adds up or is looked up stays float32 in
all types: biases, gains and positions. Q8_0 has blocks of 32 numbers in 8 bits and one scale, so
that rows which are no multiple of 32 long are float16, as llama.cpp's converter has it.
"""

import hashlib
import math
import os
import re

import numpy as np

from .. import encoder
from ..command_line import escaping
from . import portable, vocabularies

ARCHITECTURE, TOKENIZER = 'gpt2', 'tokenizer.ggml'
EPSILON = 1e-5  # of the norms
TYPES = {'float32': 'F32', 'float16': 'F16', 'q8_0': 'Q8_0'}
SIZES = {
    'n_ctx': 'context_length', 'n_embd': 'embedding_length', 'n_head': 'attention.head_count',
    'n_layer': 'block_count',
}  # fmt: skip
NAMES = {
    'wte': 'token_embd', 'wpe': 'position_embd', 'ln_f': 'output_norm', 'ln_1': 'attn_norm',
    'attn/c_attn': 'attn_qkv', 'attn/c_proj': 'attn_output', 'ln_2': 'ffn_norm',
    'mlp/c_fc': 'ffn_up', 'mlp/c_proj': 'ffn_down',
}  # fmt: skip
COST = 64  # bytes, as which each number and text counts that describes a model; all together
LARGEST_DESCRIPTION = 2**26  # has no more. OpenAI's vocabulary takes 18 MB
ROWS = 4096  # that are quantized at once


def name_of(name):
    """'model/h0/attn/c_attn/w' -> 'blk.0.attn_qkv.weight'"""
    _, layer, path, leaf = re.fullmatch(r'model/(h(\d+)/)?(.*?)(/[gbw])?', name).groups('')
    block = f'blk.{layer}.' if layer else ''
    return f'{block}{NAMES[path]}.{"bias" if leaf == "/b" else "weight"}'


def write(path, a_model, dtype):
    """Write a .gguf of 'float32', 'float16' or 'q8_0'."""
    import gguf

    shapes = portable.shapes_of(a_model.hparams)
    types = {
        name: gguf.GGMLQuantizationType[_type(name, shape, TYPES[dtype])]
        for name, shape in shapes.items()
    }
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    try:
        _describe(gguf, writer, a_model, TYPES[dtype])
        for name, shape in shapes.items():
            there = portable.transposed(shape)
            bytes_ = gguf.quant_shape_to_byte_shape(there, types[name])
            size = int(np.prod(bytes_))
            writer.add_tensor_info(name_of(name), bytes_, np.dtype(np.uint8), size, types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        arrays = portable.weights(a_model, shapes)
        for name, array in zip(shapes, arrays, strict=True):
            array = array[0].T if array.ndim == 3 else array
            writer.write_tensor_data(_quantized(gguf, array, types[name]))
        writer.flush()
    except OSError as error:
        if error.errno:
            raise
        raise OSError(f'{path} could not be written: {error}; is the disk full?') from None
    finally:
        writer.close()


def _type(name, shape, wanted):
    """The type of one of the weights."""
    if len(shape) == 1 or name == 'model/wpe':
        return 'F32'
    return 'F16' if wanted == 'Q8_0' and portable.transposed(shape)[-1] % 32 else wanted


def _quantized(gguf, array, kind):
    """The bytes of an array, [rows, bytes], block by block."""
    blocks = [array[begin : begin + ROWS] for begin in range(0, len(array), ROWS)]
    quantized = (gguf.quantize(np.ascontiguousarray(block), kind) for block in blocks)
    return np.concatenate([block.view(np.uint8) for block in quantized])


def _describe(gguf, writer, a_model, kind):
    """Tell everything but the weights."""
    sizes, enc = vars(a_model.hparams), a_model.encoder
    writer.add_name(os.path.basename(os.path.abspath(a_model.source)))
    for name, key in SIZES.items():
        writer.add_uint32(f'{ARCHITECTURE}.{key}', sizes[name])
    writer.add_feed_forward_length(4 * sizes['n_embd'])
    writer.add_layer_norm_eps(EPSILON)
    writer.add_file_type(gguf.LlamaFileType[f'MOSTLY_{kind}' if kind != 'F32' else 'ALL_F32'])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre('gpt-2')
    texts = {i: text for text, i in enc.special.items()}
    tokens, types = [], []
    for i in range(sizes['n_vocab']):
        kinds = gguf.TokenType
        named = texts.get(i, enc.decoder.get(i, f'[unused {i}]'))
        tokens.append(named)
        kind = kinds.CONTROL if i in texts else kinds.NORMAL if i in enc.decoder else kinds.UNUSED
        types.append(kind)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f'{first} {second}' for first, second in enc.bpe_ranks])
    if encoder.END_OF_TEXT in enc.special:
        end = enc.special[encoder.END_OF_TEXT]
        writer.add_bos_token_id(end)
        writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


def opened(path):
    """The portable.Model of a .gguf of F32, F16 or Q8_0.

    Raises ValueError: a model or a vocabulary of another kind, or a damaged file.
    """
    import gguf

    try:
        reader = _reader(gguf, path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except Exception as error:  # a damaged one may raise nearly anything
        raise ValueError(f'{path} is cut off, or damaged: {error!r:.200}') from None
    for key, known in (
        ('general.architecture', (ARCHITECTURE,)),
        (f'{TOKENIZER}.model', ('gpt2',)),
        (f'{TOKENIZER}.pre', ('gpt-2', None)),
    ):
        if fields.get(key) not in known:
            told = escaping.told(fields.get(key))
            raise ValueError(f'{path} has {key} {told}; it must be {known[0]}')
    key = f'{ARCHITECTURE}.attention.layer_norm_epsilon'
    epsilon = fields.get(key, EPSILON)
    if not (isinstance(epsilon, float) and np.isclose(epsilon, EPSILON, atol=0)):
        raise ValueError(f'{path} has {key} {escaping.told(epsilon)}; it must be {EPSILON}')
    sizes = {name: fields.get(f'{ARCHITECTURE}.{key}') for name, key in SIZES.items()}
    shape = tensors['token_embd.weight'].shape if 'token_embd.weight' in tensors else ()
    hparams = portable.hparams_of(path, {**sizes, 'n_vocab': int(shape[-1]) if len(shape) else 0})
    enc = _encoder_of(gguf, path, fields)
    head = tensors.pop('output.weight', None)
    portable.require_layers(path, tensors, hparams)
    shapes = portable.shapes_of(hparams)
    found = {name: [int(n) for n in reversed(t.shape)] for name, t in tensors.items()}
    portable.require(path, found, {name_of(n): portable.transposed(s) for n, s in shapes.items()})
    if head is not None:
        one, other = (
            hashlib.sha256(t.data.tobytes()).digest() for t in (head, tensors['token_embd.weight'])
        )
        if one != other:
            raise ValueError(
                f"{path} has an output other than its token_embd; OpenAI's GPT-2 has one for both"
            )

    def read(name):
        array = _dequantized(gguf, path, tensors[name_of(name)])
        return array.T[None] if len(shapes[name]) == 3 else array

    told = vocabularies.differences({'add_bos_token': fields.get(f'{TOKENIZER}.add_bos_token')})
    told += portable.rows_without_token(path, hparams, enc)
    return portable.Model(path, hparams, enc, read, told=tuple(told))


def _reader(gguf, path):
    """A GGUFReader that ends where sizes lie; its own would wait for what they say, and keep it."""

    class Reader(gguf.GGUFReader):
        room = LARGEST_DESCRIPTION

        def _get(self, offset, dtype, count=1, *order, **named):
            found = super()._get(offset, dtype, count, *order, **named)
            self.room -= found.nbytes + COST
            if len(found) < count or self.room < 0:
                raise ValueError('a size in it is wrong')
            return found

        def _build_tensors(self, *described):  # which are described by then
            self.room = math.inf
            super()._build_tensors(*described)

    return Reader(path)


def _dequantized(gguf, path, tensor):
    """A tensor as float32 in the shape that PyTorch would have."""
    kind = tensor.tensor_type
    if kind.name not in TYPES.values():
        raise ValueError(f'{path} has weights of {kind.name}; {", ".join(TYPES.values())} are read')
    # Read, not mapped: what is mapped counts as memory of this process once it is looked at.
    numbers = np.fromfile(path, np.uint8, tensor.n_bytes, offset=tensor.data_offset)
    shape = [int(size) for size in reversed(tensor.shape)]
    rows = numbers.reshape(gguf.quant_shape_to_byte_shape(shape, kind))
    with np.errstate(invalid='ignore'):  # of a scale that is none
        return gguf.dequantize(rows, kind)


def _encoder_of(gguf, path, fields):
    """The Encoder of a .gguf; tokens that are not used are none."""
    tokens, merges = fields.get(f'{TOKENIZER}.tokens'), fields.get(f'{TOKENIZER}.merges')
    if not isinstance(tokens, list):
        raise ValueError(f'{path} has no tokens; without these it cannot be converted')
    types = fields.get(f'{TOKENIZER}.token_type') or [gguf.TokenType.NORMAL] * len(tokens)
    merges = merges or []
    lists = isinstance(types, list) and isinstance(merges, list) and len(types) == len(tokens)
    if not lists or not all(isinstance(text, str) for text in (*tokens, *merges)):
        raise ValueError(f'{path} is damaged: it should list tokens, a type of each, and merges')
    ordinary, added = {}, {}
    for i, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED):
            added[token] = i
        elif kind != gguf.TokenType.UNUSED:
            ordinary[token] = i
    pairs = [merge.split(' ') for merge in merges]
    return vocabularies.encoder_of(path, ordinary, pairs, added)
