"""Records what transformers, PyTorch and nanoGPT write: run by hand, never by the tests.

    python record.py NANOGPT

NANOGPT is a checkout of karpathy/nanoGPT. See README.md, one directory up.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import tokenizers
import torch
import transformers

HERE = os.path.dirname(os.path.realpath(__file__))
TEXT = os.path.join(HERE, '..', '..', '..', 'demo', 'shakespeare.txt')
END = '<|endoftext|>'
ADDED = ['<|pad|>', '[SEP]', 'two words', '中文']
STRINGS = [
    '', ' ', '\n\n', 'The reason', ' the  king\t and  ', "I'll say 'tis DON'T\r\n",
    '中文字 é 👩‍👩‍👧',
    'x<|endoftext|>y', '<|pad|><|pad|>', 'a [SEP] b', 'two words, two  words', '\x00\x7f\x85\ufeff',
]  # fmt: skip


def vocabulary():
    """A tokenizer of transformers: 256 bytes, 40 merges, OpenAI's mark, four added tokens."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=296, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train([TEXT], trainer)
    directory = os.path.join(HERE, 'vocabulary')
    os.makedirs(directory)
    model = json.loads(bpe.to_str())['model']
    vocab = {**model['vocab'], END: 296}
    merges = [tuple(pair) for pair in model['merges']]
    tokenizer = transformers.GPT2Tokenizer(vocab=vocab, merges=merges)
    tokenizer.add_special_tokens({'additional_special_tokens': ADDED[:2]})
    tokenizer.add_tokens(ADDED[2:])
    tokenizer.backend_tokenizer.model.save(directory)  # vocab.json, merges.txt
    with open(os.path.join(directory, 'added_tokens.json'), 'w', encoding='utf-8') as file:
        json.dump({token: 297 + i for i, token in enumerate(ADDED)}, file)  # as versions below 5
    return tokenizer


def far_from_initial(module):
    """Values with which a term that is left out changes much."""
    torch.manual_seed(1)
    for name, parameter in module.named_parameters():
        gain = name.endswith('ln_f.weight') or '.ln_' in name and name.endswith('weight')
        torch.nn.init.normal_(parameter, 1.0 if gain else 0.0, 0.2)


def record_transformers():
    tokenizer = vocabulary()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=16, n_embd=8, n_layer=2, n_head=2,
        bos_token_id=296, eos_token_id=296,
    )  # fmt: skip
    lm = transformers.GPT2LMHeadModel(config).eval()
    far_from_initial(lm)
    directory = os.path.join(HERE, 'huggingface')
    lm.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    tokens = np.random.RandomState(2).randint(0, len(tokenizer), [1, 16])
    golden = {'tokens': tokens, 'logits': logits(lm, tokens)}

    half = os.path.join(HERE, 'sharded')  # without the prefix, in shards, in 16 bits
    lm.transformer.to(torch.bfloat16).save_pretrained(half, max_shard_size='4KB')
    golden['bfloat16_logits'] = logits(lm.float(), tokens)

    far_from_initial(lm)
    state = lm.state_dict()
    for layer in range(2):  # the buffers of versions below 4.31
        state[f'transformer.h.{layer}.attn.bias'] = torch.ones(1, 1, 16, 16).bool().tril()
        state[f'transformer.h.{layer}.attn.masked_bias'] = torch.tensor(-1e4)
    torch.save(state, os.path.join(HERE, 'pytorch_model.bin'))
    torch.save(
        state, os.path.join(HERE, 'pytorch_model_2019.bin'), _use_new_zipfile_serialization=False
    )

    for flag, value in (('scale_attn_by_inverse_layer_idx', True), ('scale_attn_weights', False)):
        other = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**{**config.to_dict(), flag: value})
        )
        far_from_initial(other)
        golden[flag] = logits(other.eval(), tokens)
    narrow = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**{**config.to_dict(), 'n_inner': 12})
    )
    far_from_initial(narrow)
    narrow.save_pretrained(os.path.join(HERE, 'narrow'))
    golden['narrow'] = logits(narrow.eval(), tokens)
    np.savez_compressed(os.path.join(HERE, 'logits.npz'), **golden)
    ids = [tokenizer.encode(text) for text in STRINGS]
    with open(os.path.join(HERE, 'ids.json'), 'w', encoding='utf-8') as file:
        json.dump({'strings': STRINGS, 'ids': ids}, file)


def logits(lm, tokens):
    with torch.no_grad():
        return lm(torch.tensor(tokens)).logits.numpy()


def record_inside():
    """What transformers shows of itself on the way, of the model in the folder `huggingface`."""
    lm = transformers.GPT2LMHeadModel.from_pretrained(
        os.path.join(HERE, 'huggingface'), attn_implementation='eager'
    ).eval()
    tokens = np.load(os.path.join(HERE, 'logits.npz'))['tokens']
    with torch.no_grad():
        told = lm(torch.tensor(tokens), output_attentions=True, output_hidden_states=True)
        lens = [lm.lm_head(lm.transformer.ln_f(h)) for h in told.hidden_states[:-1]]
    np.savez_compressed(
        os.path.join(HERE, 'inside.npz'),
        tokens=tokens,
        attentions=torch.cat(told.attentions).numpy(),  # [layer, head, dst, src]
        hidden_states=torch.cat(told.hidden_states).numpy(),  # [layer + 1, sequence, features]
        logits=torch.cat([*lens, told.logits]).numpy(),  # [layer + 1, sequence, vocab]
    )


def record_nanogpt(nanogpt):
    """ckpt.pt and meta.pkl of nanoGPT's own train.py, after a few steps on characters."""
    data = os.path.join(nanogpt, 'data', 'tiny')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    shutil.copy(os.path.join(nanogpt, 'data', 'shakespeare_char', 'prepare.py'), data)
    with open(TEXT, encoding='utf-8') as file:
        text = 'Größe: 中文!\n' + file.read(3000)
    with open(os.path.join(data, 'input.txt'), 'w', encoding='utf-8') as file:
        file.write(text)
    subprocess.run([sys.executable, os.path.join(data, 'prepare.py')], check=True)
    flags = (
        'dataset=tiny out_dir=out-tiny device=cpu compile=False dtype=float32 eval_iters=1 '
        'block_size=16 batch_size=4 n_layer=2 n_head=2 n_embd=8 dropout=0.0 max_iters=6 '
        'eval_interval=3 learning_rate=0.05 warmup_iters=1 gradient_accumulation_steps=1'
    )
    train = [sys.executable, 'train.py', *(f'--{flag}' for flag in flags.split())]
    subprocess.run(train, cwd=nanogpt, check=True)
    directory = os.path.join(HERE, 'nanogpt')
    os.makedirs(directory)
    for name in ('meta.pkl', 'val.bin'):
        shutil.copy(os.path.join(data, name), directory)
    checkpoint = torch.load(os.path.join(nanogpt, 'out-tiny', 'ckpt.pt'))
    # As torch.compile leaves it: it needs a compiler, and changes nothing but these names.
    checkpoint['model'] = {f'_orig_mod.{k}': v for k, v in checkpoint['model'].items()}
    torch.save(checkpoint, os.path.join(directory, 'ckpt.pt'))

    sys.path.insert(0, nanogpt)
    import model

    lm = model.GPT(model.GPTConfig(**checkpoint['model_args'])).eval()
    lm.load_state_dict({k.removeprefix('_orig_mod.'): v for k, v in checkpoint['model'].items()})
    with open(os.path.join(data, 'meta.pkl'), 'rb') as file:
        meta = pickle.load(file)
    tokens = torch.tensor([[meta['stoi'][c] for c in 'Größe: 中文!\nFirs']])
    golden = {'tokens': tokens.numpy()}
    for name, gelu in (('logits', 'none'), ('tanh_logits', 'tanh')):
        for block in lm.transformer.h:
            block.mlp.gelu = torch.nn.GELU(approximate=gelu)
        with torch.no_grad():
            golden[name] = lm(tokens, targets=tokens)[0].numpy()
    np.savez_compressed(os.path.join(directory, 'logits.npz'), **golden)


if __name__ == '__main__':
    for name in os.listdir(HERE):
        path = os.path.join(HERE, name)
        if name != 'record.py':
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    record_transformers()
    record_inside()
    record_nanogpt(os.path.realpath(sys.argv[1]))
