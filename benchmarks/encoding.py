"""Megabytes of text encoded in a second, beside tiktoken's own gpt2, measured in one run.

    python benchmarks/encoding.py

The text is demo/shakespeare.txt, the vocabulary OpenAI's. See README.md.
"""

import os
import sys
import time

import tiktoken

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)

from src import encoder  # noqa: E402

ROUNDS = 9
TIKTOKENS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def tiktokens_own(enc):
    """tiktoken.get_encoding('gpt2') without its download: its pattern, and the same merges."""
    return tiktoken.Encoding(
        'gpt2',
        pat_str=TIKTOKENS,
        mergeable_ranks=enc._tiktoken._mergeable_ranks,
        special_tokens={'<|endoftext|>': 50256},
    )


def main():
    with open(os.path.join(ROOT, 'demo', 'shakespeare.txt'), encoding='utf-8') as file:
        text = file.read()
    enc = encoder.get_encoder('vocabulary', os.path.join(ROOT, 'tests'))
    own = tiktokens_own(enc)

    def reference():
        enc.cache.clear()
        return enc.encode(text)

    systems = {
        'tiktoken': lambda: own.encode_to_numpy(text, disallowed_special=()),
        'ours, encode_to_numpy': lambda: enc.encode_to_numpy(text),
        'ours, encode': reference,
    }
    seconds = {name: [] for name in systems}
    ids = {}
    for _ in range(ROUNDS):  # in turns, so that all have the same luck with the machine
        for name, encode in systems.items():
            start = time.perf_counter()
            ids[name] = encode()
            seconds[name].append(time.perf_counter() - start)
    assert all(list(tokens) == ids['ours, encode'] for tokens in ids.values())
    fastest = {name: min(times) for name, times in seconds.items()}
    print(f'{"":22} MB/s  x tiktoken')
    for name, time_taken in fastest.items():
        rate = len(text.encode()) / 1e6 / time_taken
        print(f'{name:22} {rate:5.1f}  {fastest["tiktoken"] / time_taken:10.2f}')


if __name__ == '__main__':
    main()
