"""Tokens per second when sampling with the 124M shape, beside other programs, measured in one run.

    python benchmarks/sampling.py [OPENAI]

Random weights, the same for all, loaded from each one's own files; a prompt of 32 tokens, top_k 40.
Each system runs in a process of its own, which also tells how long it takes from its start to its
first token, and once it is warm. OPENAI is a checkout of openai/gpt-2, whose code is run on
compat.v1 of TensorFlow 2; without it that line is left out, and said to be. See README.md.
"""

import functools
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

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)

SHAPE = {'n_vocab': 50257, 'n_ctx': 1024, 'n_embd': 768, 'n_head': 12, 'n_layer': 12}  # 124M
PROMPT, TOP_K = 32, 40
SIZES, REPETITIONS = ((1, 64), (1, 512), (8, 64), (8, 512)), 2  # batch and new tokens; calls


def prepare(place):
    """Write the model into the folder `place`, once for each program that reads it."""
    from src import encoder, model
    from src.converting import convert
    from src.exporting import export
    from src.model_files import architecture, checkpoint

    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    params = model.init_params(hparams, seed=0)
    vocabulary = os.path.join(ROOT, 'tests', 'vocabulary')
    files = architecture.files(vocabulary, hparams, encoder.get_encoder('', vocabulary))
    ours = os.path.join(place, 'ours')
    checkpoint.save(ours, 1, params, None, files)
    for dtype in ('float32', 'int8'):
        export.export(export.ExportConfig(model_name=ours, dtype=dtype))

    for dtype in ('float32', 'q8_0'):
        path = os.path.join(place, f'{dtype}.gguf')
        convert.convert(convert.ConvertConfig(ours, path, dtype=dtype))

    convert.convert(convert.ConvertConfig(ours, os.path.join(place, 'transformers')))


def prepare_ctranslate2(place):
    """The same for CTranslate2, which loads PyTorch: a process that has TensorFlow may not."""
    import ctranslate2

    converter = ctranslate2.converters.TransformersConverter(os.path.join(place, 'transformers'))
    names = token_names()
    converter.load_tokenizer = lambda *_: types.SimpleNamespace(  # random ids need no text
        get_vocab=lambda: {name: i for i, name in enumerate(names)},
        bos_token=names[-1], eos_token=names[-1], unk_token=names[-1],
    )  # fmt: skip
    converter.convert(os.path.join(place, 'ctranslate2'))


PREPARE = {'prepare': prepare, 'prepare_ctranslate2': prepare_ctranslate2}


def prompt():  # a list of ids
    return np.random.default_rng(0).integers(0, SHAPE['n_vocab'], PROMPT).tolist()


def token_names():
    return [f't{i}' for i in range(SHAPE['n_vocab'])]


# Each system is a function that loads the model from `place` and gives back another, from a batch
# and a length to samples: arrays [prompt + length].


def ours(place, engine='tensorflow', dtype=None):
    from src.sampling import generation

    loaded = generation.load(os.path.join(place, 'ours'), engine=engine, dtype=dtype)

    def sample(batch, length):
        options = {'length': length, 'nsamples': batch, 'batch_size': batch, 'top_k': TOP_K}
        return list(generation.generate_tokens(loaded.lm, prompt(), **options))

    return sample


def openai(place):
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
    session = v1.Session()

    @functools.cache
    def graph(batch, length):
        context = v1.placeholder(tf.int32, [batch, None])
        output = sample.sample_sequence(
            hparams=hparams, length=length, context=context, batch_size=batch, top_k=TOP_K
        )
        saver = v1.train.Saver()
        saver.restore(session, v1.train.latest_checkpoint(os.path.join(place, 'ours')))
        return context, output

    def run(batch, length):
        context, output = graph(batch, length)
        return session.run(output, {context: [prompt()] * batch})

    return run


def transformers(place):
    import torch
    from transformers import GPT2LMHeadModel

    lm = GPT2LMHeadModel.from_pretrained(os.path.join(place, 'transformers')).eval()

    def sample(batch, length):
        context = torch.tensor([prompt()] * batch)
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


def ctranslate2(place, dtype='float32'):
    import ctranslate2

    generator = ctranslate2.Generator(
        os.path.join(place, 'ctranslate2'), compute_type=dtype, intra_threads=os.cpu_count()
    )
    names = token_names()
    start = [names[i] for i in prompt()]

    def sample(batch, length):
        results = generator.generate_batch(
            [start] * batch, max_length=length, min_length=length, sampling_topk=TOP_K,
            include_prompt_in_result=False, end_token=[],
        )  # fmt: skip
        return [prompt() + result.sequences_ids[0] for result in results]

    return sample


def llama(place, dtype):
    import llama_cpp

    llama.silence = llama_cpp.llama_log_callback(lambda *_: None)  # as long as the process lives
    llama_cpp.llama_log_set(llama.silence, None)
    path = os.path.join(place, f'{dtype}.gguf').encode()
    model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
    most = max(batch for batch, _ in SIZES)
    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_seq_max, options.n_batch = most * SHAPE['n_ctx'], most, 512
    options.n_threads = options.n_threads_batch = os.cpu_count()
    context = llama_cpp.llama_init_from_model(model, options)
    sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for each in (llama_cpp.llama_sampler_init_top_k(TOP_K), llama_cpp.llama_sampler_init_dist(0)):
        llama_cpp.llama_sampler_chain_add(sampler, each)
    step = llama_cpp.llama_batch_init(options.n_batch, 0, most)

    def decode(tokens, position, sequence, wanted):
        """Read tokens, each at a position in a sequence."""
        step.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            step.token[i], step.pos[i], step.logits[i] = token, position(i), wanted(i)
            step.n_seq_id[i], step.seq_id[i][0] = 1, sequence(i)
        assert llama_cpp.llama_decode(context, step) == 0

    def sample(batch, length):
        memory = llama_cpp.llama_get_memory(context)
        llama_cpp.llama_memory_clear(memory, True)
        texts = [prompt() for _ in range(batch)]
        decode(prompt(), lambda i: i, lambda _: 0, lambda i: i == PROMPT - 1)
        for row in range(1, batch):
            llama_cpp.llama_memory_seq_cp(memory, 0, row, -1, -1)
        for number in range(length):
            for row, text in enumerate(texts):
                place = row if number else PROMPT - 1
                text.append(llama_cpp.llama_sampler_sample(sampler, context, place))
            if number + 1 < length:
                last = [text[-1] for text in texts]
                at = len(texts[0]) - 1
                decode(last, lambda _, at=at: at, lambda i: i, lambda _: True)
        return texts

    return sample


SYSTEMS = {
    'ours': ours,
    'OpenAI': openai,
    'transformers': transformers,
    'CTranslate2': ctranslate2,
    'llama.cpp': functools.partial(llama, dtype='float32'),
    'ours, LiteRT': functools.partial(ours, engine='litert', dtype='float32'),
    'CTranslate2 int8': functools.partial(ctranslate2, dtype='int8'),
    'llama.cpp Q8_0': functools.partial(llama, dtype='q8_0'),
    'ours, LiteRT int8': functools.partial(ours, engine='litert', dtype='int8'),
}


def measure(place, name, batch, length, started):
    """What a process that was started at that time measures of itself, as JSON on stdout."""
    sample = SYSTEMS[name](place)
    sample(batch, 1)
    result = {'start': time.time() - float(started), 'seconds': [], 'first': []}
    for _ in range(1 + REPETITIONS):
        for key, tokens in (('seconds', length), ('first', 1)):
            begin = time.perf_counter()
            samples = sample(batch, tokens)
            result[key].append(time.perf_counter() - begin)
            assert [len(each) for each in samples] == [PROMPT + tokens] * batch
    result['peak'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB -> GiB
    print(json.dumps(result))


def run(place, *arguments):
    """`measure` in a process of its own."""
    command = [sys.executable, os.path.realpath(__file__), place, *map(str, arguments)]
    command.append(str(time.time()))
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def prepared(place):
    """Write all models, in processes of their own: memory of theirs is in nobody's peak."""
    for what in PREPARE:
        subprocess.run([sys.executable, os.path.realpath(__file__), place, what], check=True)


def compare(place, batch, length, names):
    ours_per_second = None
    for name in names:
        if name == 'OpenAI' and batch > 1:
            print(f'{batch:5}  {length:6}  OpenAI             its top_p_logits fails on batches')
            continue
        result = run(place, name, batch, length)
        warm = result['seconds'][1:]
        per_second, fastest = (batch * length / f(warm) for f in (statistics.median, min))
        ours_per_second = ours_per_second or per_second
        print(
            f'{batch:5}  {length:6}  {name:17}  {per_second:8.1f}  {fastest:7.1f}  '
            f'{per_second / ours_per_second:6.2f}  {result["start"]:7.2f}  '
            f'{1000 * min(result["first"][1:]):8.0f}  {result["peak"]:8.2f}',
            flush=True,
        )


def main(openai_directory=None):
    names = list(SYSTEMS)
    if openai_directory:
        os.environ['OPENAI'] = openai_directory
    else:
        names.remove('OpenAI')
        print('No checkout of openai/gpt-2 was given: OpenAI is left out', file=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        prepared(place)
        print('batch  length  system             tokens/s  fastest  x ours  start s  first ms  '
              'peak GiB')  # fmt: skip
        for batch, length in SIZES:
            compare(place, batch, length, names)


if __name__ == '__main__':
    if sys.argv[2:] and sys.argv[2] in PREPARE:
        PREPARE[sys.argv[2]](sys.argv[1])
    elif len(sys.argv) > 2:
        place, name, batch, length, started = sys.argv[1:]
        measure(place, name, int(batch), int(length), started)
    else:
        main(*sys.argv[1:])
