"""Records what llama.cpp makes of models/shakespeare as a .gguf: run by hand, never by the tests.

    python -m src convert models/shakespeare shakespeare.gguf
    python record_llama.py shakespeare.gguf

See README.md, one directory up.
"""

import json
import os
import sys

import llama_cpp

HERE = os.path.dirname(os.path.realpath(__file__))
STRINGS = [
    'Hello world', '  two  spaces   three', '\n\n\ttabs\n and lines \n', "don't we'll I'VE 'S 'tis",
    '日本語テキスト 中文', '👩‍👩‍👧 🏳️‍🌈', '1234567890 3.14e-10', 'https://x.org/?a=b&c=%20',
    'é e\u0301 ñ ǅ', 'العربية שלום', '<|endoftext|>', '\x01\x7f', '\u00a0\u2003\u3000 x',
    '!!!???...---___',
    'def f(x):\n    return x**2\n', 'ﬁ Ⅷ ①', '\r\n\r\n x', '   ', '’ll ’s',
    'ss\u200dzwj', '\ufeffbom', 'a' * 60,
]  # fmt: skip
PROMPTS = ['The king', 'To be, or not', 'I have', 'O Romeo', 'Good morrow']


def record(path):
    """{strings: [[text, ids], …], texts: [[ids of a prompt, 64 greedy tokens], …]}."""
    llama = llama_cpp.Llama(path, n_ctx=128, verbose=False)

    def ids_of(text):
        return llama.tokenize(text.encode(), add_bos=False, special=False)

    texts = []
    for prompt in map(ids_of, PROMPTS):
        llama.reset()
        tokens = llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
        texts.append([prompt, [next(tokens) for _ in range(64)]])
    return {'strings': [[text, ids_of(text)] for text in STRINGS], 'texts': texts}


if __name__ == '__main__':
    with open(os.path.join(HERE, 'llama.json'), 'w', encoding='utf-8') as file:
        json.dump(record(sys.argv[1]), file)
