"""Tokens per second when sampling with the 124M shape, beside other programs, measured in one run.

    python benchmarks/sampling.py [OPENAI]

Random weights, a prompt of 32 tokens, top_k 40. Each system runs in a process of its own. OPENAI is
a checkout of openai/gpt-2, whose code is run on compat.v1 of TensorFlow 2; without it that line is
left out, and said to be. See README.md.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

SHAPE = {'n_vocab': 50257, 'n_ctx': 1024, 'n_embd': 768, 'n_head': 12, 'n_layer': 12}  # 124M
PROMPT, TOP_K = 32, 40
SIZES, REPETITIONS = ((1, 64), (1, 512), (8, 64), (8, 512)), 2  # batch and new tokens; calls


def prompt():  # a list of ids
    return np.random.default_rng(0).integers(0, SHAPE['n_vocab'], PROMPT).tolist()


# Each system is a function that gives back another, which samples: arrays [prompt + length].


def ours(batch, length):
    from src import generation, model

    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    lm = model.GPT2(hparams, model.init_params(hparams, seed=0))

    def sample():
        options = {'length': length, 'nsamples': batch, 'batch_size': batch, 'top_k': TOP_K}
        return list(generation.generate_tokens(lm, prompt(), **options))

    return sample


def openai(batch, length):
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_v2_behavior()

    class HParams(types.SimpleNamespace):  # what is left of tf.contrib, of which OpenAI needs this
        def override_from_dict(self, values):
            self.__dict__.update(values)

    v1.contrib = types.SimpleNamespace(training=types.SimpleNamespace(HParams=HParams))
    sys.modules['tensorflow'] = v1
    sys.modules['tensorflow.contrib'] = v1.contrib
    sys.modules['tensorflow.contrib.training'] = v1.contrib.training
    sys.path.insert(0, os.path.join(os.environ['OPENAI'], 'src'))
    import model
    import sample

    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    context = v1.placeholder(tf.int32, [batch, None])
    output = sample.sample_sequence(
        hparams=hparams, length=length, context=context, batch_size=batch, top_k=TOP_K
    )
    session = v1.Session()
    session.run(v1.global_variables_initializer())
    return lambda: session.run(output, {context: [prompt()] * batch})


def pytorch_model():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config()).eval()  # its defaults are the 124M shape


def transformers(batch, length):
    import torch

    lm = pytorch_model()
    context = torch.tensor([prompt()] * batch)

    def sample():
        return lm.generate(
            context,
            attention_mask=torch.ones_like(context),
            do_sample=True,
            top_k=TOP_K,
            max_new_tokens=length,
            eos_token_id=None,  # no sample ends before its length
            pad_token_id=0,
        )

    return sample


def ctranslate2(batch, length, dtype='float32'):
    import ctranslate2

    names = [f't{i}' for i in range(SHAPE['n_vocab'])]
    with tempfile.TemporaryDirectory() as place:
        pytorch_model().save_pretrained(os.path.join(place, 'model'))
        converter = ctranslate2.converters.TransformersConverter(os.path.join(place, 'model'))
        converter.load_tokenizer = lambda *_: types.SimpleNamespace(  # random ids need no text
            get_vocab=lambda: {name: i for i, name in enumerate(names)},
            bos_token=names[-1], eos_token=names[-1], unk_token=names[-1],
        )  # fmt: skip
        converter.convert(os.path.join(place, 'converted'))
        generator = ctranslate2.Generator(
            os.path.join(place, 'converted'), compute_type=dtype, intra_threads=os.cpu_count()
        )
    start = [[names[i] for i in prompt()]] * batch

    def sample():
        results = generator.generate_batch(
            start, max_length=length, min_length=length, sampling_topk=TOP_K,
            include_prompt_in_result=False, end_token=[],
        )  # fmt: skip
        return [prompt() + result.sequences_ids[0] for result in results]

    return sample


def ctranslate2_int8(batch, length):
    return ctranslate2(batch, length, 'int8')


def litert(batch, length, dtype='float32'):
    from src import export, litert, model, sample_numpy

    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, 'model.tflite')
        export.write_tflite(
            path, hparams, model.init_params(hparams, seed=0), dtype, time.time_ns()
        )
        lm = litert.LiteRT(path)
    uniforms = sample_numpy.uniforms_for(0, [0], length)[0]

    def one():
        tokens, logits = prompt(), None
        for uniform in uniforms:
            logits = lm.start(tokens) if logits is None else lm.step(tokens[-1])
            tokens.append(sample_numpy.choose(logits, uniform, temperature=1, top_k=TOP_K, top_p=1))
        return tokens

    return lambda: [one() for _ in range(batch)]  # one after the other: it has no batches


def litert_int8(batch, length):
    return litert(batch, length, 'int8')


SYSTEMS = {
    'ours': ours,
    'OpenAI': openai,
    'transformers': transformers,
    'CTranslate2': ctranslate2,
    'ours, LiteRT': litert,
    'CTranslate2 int8': ctranslate2_int8,
    'ours, LiteRT int8': litert_int8,
}


def measure(name, batch, length):
    """What a process measures of itself, as JSON on stdout."""
    sample = SYSTEMS[name](batch, length)
    seconds = []
    for _ in range(1 + REPETITIONS):
        start = time.perf_counter()
        samples = sample()
        seconds.append(time.perf_counter() - start)
        assert [len(tokens) for tokens in samples] == [PROMPT + length] * batch, [
            len(t) for t in samples
        ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux -> GiB
    print(json.dumps({'first': seconds[0], 'seconds': seconds[1:], 'peak': peak}))


def run(*arguments):
    """`measure` in a process of its own."""
    command = [sys.executable, os.path.realpath(__file__), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(batch, length, names):
    ours_per_second = None
    for name in names:
        result = run(name, batch, length)
        per_second, fastest = (
            batch * length / f(result['seconds']) for f in (statistics.median, min)
        )
        ours_per_second = ours_per_second or per_second
        print(
            f'{batch:5}  {length:6}  {name:17}  {per_second:8.1f}  {fastest:7.1f}  '
            f'{per_second / ours_per_second:6.2f}  {result["first"]:12.1f}  '
            f'{result["peak"]:8.2f}',
            flush=True,
        )


def main(openai_directory=None):
    names = list(SYSTEMS)
    if openai_directory:
        os.environ['OPENAI'] = openai_directory
    else:
        names.remove('OpenAI')
        print('No checkout of openai/gpt-2 was given: OpenAI is left out', file=sys.stderr)
    print('batch  length  system             tokens/s  fastest  x ours  first call s  peak GiB')
    for batch, length in SIZES:
        compare(batch, length, names)


if __name__ == '__main__':
    measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) == 4 else main(
        *sys.argv[1:]
    )
