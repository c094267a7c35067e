"""Tokens per second of GPT-2's larger sizes in 8 bits, beside llama.cpp's Q8_0.

    python benchmarks/large_models.py [SIZE…]  # 355M, 774M, 1558M

Random weights, the same for both; a prompt of 32 tokens, 64 more, top_k 40; each program in a
process of its own, as in sampling.py. See README.md.
"""

import os
import subprocess
import sys
import tempfile

import memory

import sampling

SYSTEMS, LENGTH = ('ours, LiteRT int8', 'llama.cpp Q8_0'), 64


def prepare(place, size):
    """Write the model for both into the folder `place`."""
    from src import encoder, model
    from src.converting import convert
    from src.exporting import export
    from src.model_files import architecture, checkpoint

    hparams = model.HParams(50257, 1024, *memory.SIZES[size])
    vocabulary = os.path.join(sampling.ROOT, 'tests', 'vocabulary')
    files = architecture.files(vocabulary, hparams, encoder.get_encoder('', vocabulary))
    ours = os.path.join(place, 'ours')
    checkpoint.save(ours, 1, model.init_params(hparams, seed=0), None, files)
    export.export(export.ExportConfig(model_name=ours, dtype='int8'))
    convert.convert(convert.ConvertConfig(ours, os.path.join(place, 'q8_0.gguf'), dtype='q8_0'))


def main(*sizes):
    print('size   batch  system              tokens/s  start s  peak GiB')
    for size in sizes or ('355M', '774M', '1558M'):
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, os.path.realpath(__file__), 'prepare', place, size]
            subprocess.run(command, check=True)
            for batch in (1, 8):
                for name in SYSTEMS:
                    result = sampling.run(place, name, batch, LENGTH)
                    rate = batch * LENGTH / min(result['seconds'][1:])
                    start, peak = result['start'], result['peak']
                    print(f'{size:5}  {batch:5}  {name:18}  {rate:8.1f}  {start:7.2f}  {peak:8.2f}',
                          flush=True)  # fmt: skip


if __name__ == '__main__':
    prepare(*sys.argv[2:]) if sys.argv[1:2] == ['prepare'] else main(*sys.argv[1:])
