"""Peak memory of train.py for models and flags, beside what --dry_run predicts.

    python benchmarks/memory.py [NAME...]

Each row runs train.py itself, on random weights and tokens, until its third step is printed; the
memory is the peak of that process. Rows are those of docs/training.md; give names to run some of
them.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
STEPS = 3
SIZES = {  # n_embd, n_head, n_layer of OpenAI's models
    '124M': (768, 12, 12), '355M': (1024, 16, 24), '774M': (1280, 20, 36), '1558M': (1600, 25, 48),
}  # fmt: skip
ROWS = {
    'plain': '124M',
    'saving': '124M --memory_saving_gradients',
    'batch': '124M --batch_size 4 --seq_length 256',
    'accumulate': '124M --accumulate_gradients 4',
    'clip': '124M --memory_saving_gradients --clip_gradients 1',
    'bfloat16': '124M --dtype bfloat16',
    'adafactor': '124M --optimizer adafactor --memory_saving_gradients',
    'blocks': '124M --only_train_transformer_layers',
    'lora': '124M --lora_rank 8',
    '355M': '355M',
    '774M': '774M',
    '1558M': '1558M --optimizer adafactor',
    '1558M-adam': '1558M',
    '1558M-lora': '1558M --lora_rank 8 --dtype bfloat16',
}


def prepare(place):
    """Model directories that have everything but weights, and a dataset of random tokens."""
    for name, (n_embd, n_head, n_layer) in SIZES.items():
        directory = os.path.join(place, 'models', name)
        os.makedirs(directory)
        sizes = {
            'n_vocab': 50257, 'n_ctx': 1024, 'n_embd': n_embd, 'n_head': n_head, 'n_layer': n_layer,
        }  # fmt: skip
        with open(os.path.join(directory, 'hparams.json'), 'w', encoding='utf-8') as file:
            json.dump(sizes, file)
        for file_name in ('encoder.json', 'vocab.bpe'):
            shutil.copy(os.path.join(HERE, 'models', 'shakespeare', file_name), directory)
    tokens = np.random.default_rng(0).integers(0, 1024, 20000).astype(np.uint16)
    np.savez(os.path.join(place, 'tokens.npz'), tokens)


def command(flags):
    name, *flags = flags.split()
    return [
        sys.executable, os.path.join(HERE, 'train.py'), '--dataset', 'tokens.npz', '--model_name',
        name, '--restore_from', 'scratch', '--sample_every', '0', *flags,
    ]  # fmt: skip


def measure(flags, place):
    """Peak memory in GB and the seconds of the last step."""
    with subprocess.Popen(
        command(flags), cwd=place, stdout=subprocess.PIPE, text=True, preexec_fn=os.setsid
    ) as process:
        times = []
        for line in process.stdout:
            if step := re.match(r'\[\d+ \| ([\d.]+)\]', line):
                times.append(float(step[1]))
            if len(times) == STEPS:
                os.killpg(process.pid, signal.SIGKILL)
        _, _, used = os.wait4(process.pid, 0)
    return used.ru_maxrss * 1024 / 1e9, times[-1] - times[-2]


def predict(flags, place):
    """What --dry_run says, in GB."""
    out = subprocess.run(
        [*command(flags), '--dry_run'], cwd=place, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return float(re.search(r'([\d.]+) GB in all', out)[1])


def main(names):
    print(f'{"":55} measured  predicted  s/step')
    with tempfile.TemporaryDirectory() as place:
        prepare(place)
        for name in names or ROWS:
            flags = ROWS[name]
            predicted = predict(flags, place)
            measured, seconds = measure(flags, place)
            print(f'{flags:55} {measured:5.2f} GB  {predicted:6.2f} GB  {seconds:6.1f}', flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
