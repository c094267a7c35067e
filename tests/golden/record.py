"""Records what the original programs compute: run by hand, never by the tests. See README.md.

    python record.py OPENAI SHEPPERD VOCABULARY

OPENAI and SHEPPERD are checkouts of openai/gpt-2 and of the branch finetuning of nshepperd/gpt-2;
VOCABULARY is a directory with OpenAI's encoder.json and vocab.bpe. The originals were written for
TensorFlow 1, so they are given TensorFlow 2's compat.v1 under the name `tensorflow`, with all
behaviour of version 2 switched off; nothing of theirs is changed.
"""

import contextlib
import glob
import importlib
import json
import os
import shutil
import sys
import tempfile
import types

import numpy as np
import tensorflow.compat.v1 as tf

HERE = os.path.dirname(os.path.realpath(__file__))
CHECKPOINT = os.path.join(HERE, 'openai_checkpoint')
HPARAMS = {'n_vocab': 97, 'n_ctx': 32, 'n_embd': 24, 'n_head': 3, 'n_layer': 3}
SLICES = [7, 24, 1]  # of the 32 tokens, when they are fed with a past
STEPS = 10

# What is typed behind `train.py --dataset …`, and how often; two batches make an accumulated step.
RUNS = {
    'adam': ['--learning_rate', '0.001'],
    'adam_default_rate': [],
    'sgd': ['--optimizer', 'sgd', '--learning_rate', '0.05'],
    'adam_transformer_layers': ['--learning_rate', '0.001', '--only_train_transformer_layers'],
    'adam_accumulated': ['--learning_rate', '0.001', '--accumulate_gradients', '2'],
}
FINAL = ['model/wpe', 'model/h0/ln_1/g', 'model/h1/mlp/c_fc/b', 'model/h2/attn/c_proj/w']

FILES = {
    '1_short.txt': 'Hello, world.',
    '2_empty.txt': '',
    '3_newlines.txt': 'one\r\ntwo\rthree\n\n\nfour  \n',
    '4_scripts.txt': 'Größe 東京 Привет 👩‍👩‍👧 naïve',
    '5_mark.txt': 'before<|endoftext|>after <|endoftext|>',
    '6_byte_order_mark.txt': '\ufeffI\'ll say "don\'t" 1234567 times\t\x00\x7f',
    '7_long.txt': 'To be, or not to be: that is the question. ' * 8,
    '8_deeper/a.txt': '   leading, and trailing   ',
    '8_deeper/b.txt': 'x',
}


ALPHABETS = [
    'The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX! (0123456789)',
    'Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich — „Ärger“, «déjà vu», ñandú',
    'Съешь же ещё этих мягких французских булок, да выпей чаю',
    'Ξεσκεπάζω την ψυχοφθόρα βδελυγμία',
    'נקסט איז דער זאָגער  صِف خَلقَ خَودِ كَمِثلِ الشَمسِ',
    'いろはにほへと チリヌルヲ 我能吞下玻璃而不伤身体。床前明月光，疑是地上霜。',
    '나는 유리를 먹을 수 있어요. ฉันกินกระจกได้ मैं काँच खा सकता हूँ',
    '😀👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 ☃ ♠ e\u0301 a\u0300\u0301\u0302 ﬁ ① Ⅷ ½ ² ٣ ௧ 𝟘 𝒜',
    'if (x >= 1 && y != "a\\b") { return f(x)->z[0] += 0xFF; } // <b>&amp;</b> #$%^*~`|',
    '\x00\x01\x1c\x1f\x7f\x80\x85\xa0\xad\u200b\u2028\u2029\u3000\ufeff\ufffd\U0010ffff',
]
CONTRACTIONS = ["'s", 's', 't', 're', 've', 'm', 'll', 'd', 'S', 'LL', 'sm', 'x', "'", ' s']
WHITE = [' ', '\n', '\t', '\r\n', '\xa0', ' \n', '\u3000']


class HParams(types.SimpleNamespace):  # tf.contrib went away with TensorFlow 1
    def override_from_dict(self, values):
        self.__dict__.update(values)


def pretend_to_be_tensorflow_1():
    tf.disable_v2_behavior()
    tf.contrib = types.ModuleType('contrib')
    tf.contrib.training = types.SimpleNamespace(HParams=HParams)
    tf.contrib.graph_editor = None  # imported by a module that is not used here
    sys.modules |= {
        'tensorflow': tf,
        'tensorflow.contrib': tf.contrib,
        'tensorflow.contrib.training': tf.contrib.training,
        'tensorflow.contrib.graph_editor': types.ModuleType('graph_editor'),
    }


@contextlib.contextmanager
def original(*directories):
    """Lets `importlib.import_module` find the modules in these directories, for a while."""
    path, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = directories
    try:
        with tf.Graph().as_default():
            yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:  # both checkouts have a model, a sample, …
            if os.path.dirname(getattr(sys.modules[name], '__file__', None) or '') in directories:
                del sys.modules[name]


def initial(name, shape, random):
    """Values far from OpenAI's initialisation, so that a term that is left out changes much."""
    value = random.normal(0, 0.2, shape)
    return value + 1 if name.endswith('/g:0') else value


def record_logits(openai):
    """golden_logits.npz, and the checkpoint that all else starts from."""
    random = np.random.RandomState(1)
    tokens = random.randint(0, HPARAMS['n_vocab'], [2, HPARAMS['n_ctx']]).astype(np.int32)
    with original(os.path.join(openai, 'src')), tf.Session() as session:
        model = importlib.import_module('model')
        hparams = model.default_hparams()
        hparams.override_from_dict(HPARAMS)
        X = tf.placeholder(tf.int32, [None, None])
        output = model.model(hparams=hparams, X=X)
        for variable in tf.trainable_variables():
            variable.load(initial(variable.name, variable.shape.as_list(), random), session)
        save_model_directory(session)

        past = tf.placeholder(tf.float32, model.past_shape(hparams=hparams))
        next_output = model.model(hparams=hparams, X=X, past=past, reuse=True)
        whole = session.run(output, {X: tokens})
        logits, presents, start = [], [], 0
        for length in SLICES:
            feed = {X: tokens[:, start : start + length]}
            if presents:
                feed[past] = np.concatenate(presents, axis=-2)
            step = session.run(next_output if presents else output, feed)
            logits.append(step['logits'])
            presents.append(step['present'])
            start += length
    np.savez_compressed(
        os.path.join(HERE, 'golden_logits.npz'),
        tokens=tokens,
        logits=whole['logits'],
        present=whole['present'],
        slices=SLICES,
        sliced_logits=np.concatenate(logits, axis=1),
        sliced_present=np.concatenate(presents, axis=-2),
    )


def save_model_directory(session):
    """openai_checkpoint/: OpenAI's files around the weights of the session.

    The vocabulary has a token for each printable ASCII character, the line feed and
    <|endoftext|>, which makes 97, and no merges.
    """
    shutil.rmtree(CHECKPOINT, ignore_errors=True)
    os.makedirs(CHECKPOINT)
    os.chdir(CHECKPOINT)  # a relative path, so that `checkpoint` names no directory
    tf.train.Saver().save(session, './model.ckpt')
    symbols = [chr(i) for i in range(ord('!'), ord('~') + 1)] + ['Ġ', 'Ċ', '<|endoftext|>']
    with open('hparams.json', 'w', encoding='utf-8') as file:
        json.dump(HPARAMS, file)
    with open('encoder.json', 'w', encoding='utf-8') as file:
        json.dump({symbol: i for i, symbol in enumerate(symbols)}, file)
    with open('vocab.bpe', 'w', encoding='utf-8') as file:
        file.write('#version: 0.2\n')


def record_losses(shepperd):
    """golden_losses.npz, from whole runs of train.py that are fed with the recorded batches."""
    batches = np.random.RandomState(2).randint(0, HPARAMS['n_vocab'], [2 * STEPS, 2, 32])
    golden = {'batches': batches.astype(np.int32)}
    for name, flags in RUNS.items():
        # With TensorFlow 1's default kind of variables his step is a race: an update may reach a
        # weight before the gradient of the layer below has read it, which moves losses by up to
        # 7e-4. Accumulation updates in a call of its own, and asks for that kind of variables.
        if '--accumulate_gradients' in flags:
            tf.disable_resource_variables()
        else:
            tf.enable_resource_variables()
        golden |= {f'{name}/{key}': value for key, value in run(shepperd, batches, flags).items()}
    np.savez_compressed(os.path.join(HERE, 'golden_losses.npz'), **golden)


def run(shepperd, batches, flags):
    """The losses of a run of train.py, in full precision, and some of its final weights."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        shutil.copytree(CHECKPOINT, 'models/tiny')
        with open('text', 'w', encoding='utf-8') as file:
            file.write('the text is encoded, and then the recorded batches are used instead')
        batches = batches if '--accumulate_gradients' in flags else batches[:STEPS]
        rows = iter(batches.reshape(-1, batches.shape[-1]))
        sys.argv = ['train.py', '--dataset', 'text', '--model_name', 'tiny', '--batch_size', '2']
        sys.argv += ['--sample_length', '1', *flags]
        with original(shepperd, os.path.join(shepperd, 'src')):
            train = importlib.import_module('train')
            train.Sampler.sample = lambda self, length: next_row(rows)
            train.main()
        reader = tf.train.load_checkpoint(f'checkpoint/run1/model-{STEPS + 1}')
        result = {name: reader.get_tensor(name) for name in FINAL}
        result['losses'] = np.float32(list(recorded_losses('checkpoint/run1')))
        os.chdir(HERE)
    assert len(result['losses']) == STEPS, result['losses']
    return result


def recorded_losses(directory):
    """What train.py printed with two decimals, as it went to TensorBoard."""
    (events,) = glob.glob(os.path.join(directory, 'events.*'))
    for event in tf.train.summary_iterator(events):
        yield from (value.simple_value for value in event.summary.value if value.tag == 'loss')


def next_row(rows):
    for row in rows:
        return row
    raise KeyboardInterrupt  # how a run of train.py ends; it saves then


def record_sampling(openai, shepperd):
    """golden_sampling.npz: what top-k and top-p leave of logits that have ties."""
    table = np.log([0.5, 0.3, 0.15, 0.05])
    random = np.random.RandomState(3).randint(-8, 9, [3, 12]) / 2  # halves: many are equal
    logits = np.vstack([np.pad(table, (0, 8), constant_values=-50), random]).astype(np.float32)
    ks, ps = [0, 1, 2, 3, 5, 12], [0.05, 0.4, 0.75, 0.9, 0.96]
    golden = {'logits': logits, 'ks': ks, 'ps': ps}
    for name, directory in ('openai', openai), ('shepperd', shepperd):
        with original(os.path.join(directory, 'src')), tf.Session() as session:
            sample = importlib.import_module('sample')
            rows = [tf.constant(row[None]) for row in logits]  # OpenAI's top-p takes one row only
            top_k = [[sample.top_k_logits(row, k=k)[0] for row in rows] for k in ks]
            top_p = [[sample.top_p_logits(row, p=p)[0] for row in rows] for p in ps]
            golden[f'{name}_top_k'], golden[f'{name}_top_p'] = session.run([top_k, top_p])
    np.savez_compressed(os.path.join(HERE, 'golden_sampling.npz'), **golden)


def nasty_strings():
    """Texts of all kinds that an encoder may meet, without surrogates, which OpenAI's refuses."""
    random = np.random.RandomState(2)
    strings = list(FILES.values()) + ALPHABETS
    strings += [first + second for first in ("'", " '", "I'") for second in CONTRACTIONS]
    strings += [white * n + end for white in WHITE for n in (1, 2, 3, 7) for end in ('', 'x', '1 ')]
    strings += ['a' * n for n in (1, 2, 3, 4, 5, 8, 99, 1000)]
    strings += [c * n for c in '0 \n.^=中\U0001f600' for n in (2, 3, 16, 333)]
    strings += ['<|endoftext|>', 'a<|endoftext|> b', '<|endoftext|', '<|endoftext|><|endoftext|>']
    strings += [''.join(map(chr, range(start, start + 64))) for start in range(0, 0x500, 64)]
    for size in (3, 10, 40):
        for _ in range(20):
            mixed = [alphabet[random.randint(len(alphabet))] for alphabet in ALPHABETS * 2]
            strings.append(''.join(mixed[i] for i in random.randint(len(mixed), size=size)))
            points = random.randint(0x20, 0x2FFFF, size)
            strings.append(''.join(chr(p) for p in points if not 0xD800 <= p < 0xE000))
            strings.append(bytes(random.randint(256, size=size).tolist()).decode('latin-1'))
    return list(dict.fromkeys(strings))


def record_encoder_ids(openai, vocabulary):
    """golden_ids.json: what encode makes of nasty_strings."""
    with original(os.path.join(openai, 'src')):
        encoder = importlib.import_module('encoder')
        models_dir, name = os.path.split(vocabulary)
        enc = encoder.get_encoder(name, models_dir)
        strings = nasty_strings()
        ids = [enc.encode(text) for text in strings]
    with open(os.path.join(HERE, 'golden_ids.json'), 'w', encoding='utf-8') as file:
        json.dump({'strings': strings, 'ids': ids}, file)
        file.write('\n')


def record_chunks(shepperd, vocabulary):
    """golden_chunks.json: the arrays that load_dataset makes of a directory of small files."""
    cases = [load(shepperd, vocabulary, list(FILES), combine) for combine in (20, 200)]
    # With nothing to join, load_dataset fails on a file without text.
    cases.append(load(shepperd, vocabulary, [name for name in FILES if FILES[name]], 0))
    with open(os.path.join(HERE, 'golden_chunks.json'), 'w', encoding='utf-8') as file:
        json.dump({'files': FILES, 'cases': cases}, file, indent=None)
        file.write('\n')


def load(shepperd, vocabulary, names, combine):
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        shutil.copytree(vocabulary, 'models/real')
        for name in names:
            path = os.path.join('text', name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w', encoding='utf-8', newline='') as file:
                file.write(FILES[name])
        with original(os.path.join(shepperd, 'src')):
            enc = importlib.import_module('encoder').get_encoder('real')
            load_dataset = importlib.import_module('load_dataset')
            walk = os.walk
            # The order of os.walk is the file system's; the recorded one is sorted.
            load_dataset.os.walk = lambda path: [('text', [], names)]
            chunks = load_dataset.load_dataset(enc, 'text', combine, encoding='utf-8')
            load_dataset.os.walk = walk
        os.chdir(HERE)
    return {'combine': combine, 'files': names, 'chunks': [chunk.tolist() for chunk in chunks]}


if __name__ == '__main__':
    openai, shepperd, vocabulary = map(os.path.realpath, sys.argv[1:])
    pretend_to_be_tensorflow_1()
    record_logits(openai)
    record_losses(shepperd)
    record_sampling(openai, shepperd)
    record_encoder_ids(openai, vocabulary)
    record_chunks(shepperd, vocabulary)
