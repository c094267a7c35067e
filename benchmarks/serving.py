"""The server with the 124M shape beside other servers, in processes of their own, in one run.

    python benchmarks/serving.py speed [SERVER …]   # time to the first token, and tokens per second
    python benchmarks/serving.py joining   # beside `generate`; a short request while long ones run
    python benchmarks/serving.py soak [REQUESTS [MODEL]]   # memory, and whether all is right

Random weights, the same for all; prompts of 32 tokens, top_k 40, streamed. The peers are a plain
server of transformers and FastAPI, and llama.cpp's from llama-cpp-python; one whose packages are
missing is left out, and said to be. `soak` asks 50 different requests, with seeds, from 16 clients
again and again, and compares each answer with the one that was given when nobody else asked; MODEL
is a directory, by default the model that ships. See README.md.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import queue
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import httpx

import sampling

ROOT = pathlib.Path(sampling.ROOT)
PORT, CLIENTS, REQUESTS, NEW_TOKENS = 8765, (1, 4, 16), 2, 64
TURNS, LENGTHS = 6, (64, 256)  # of `joining`: rounds, and new tokens of each text
ADDRESS = f'http://127.0.0.1:{PORT}'
WITHOUT_END = {'50256': -100}
PROMPT = ' the' * sampling.PROMPT  # a text: llama.cpp's takes no ids. Each word is the token THE
THE = 262
# One for all, for each that is made reads all certificates of the system first.
CLIENT = httpx.Client(timeout=600)


# What starts each server, given the folder of the models: a command, and the packages it needs.
def ours(place, *more):
    command = [sys.executable, '-m', 'src', 'serve', '--model_name', os.path.join(place, 'ours')]
    return [*command, '--port', str(PORT), *more]


SERVERS = {
    'ours': (lambda place: ours(place, '--engine', 'tensorflow'), 'tensorflow'),
    'ours, 16 at once': (
        lambda place: ours(place, '--engine', 'tensorflow', '--batch_size', '16'), 'tensorflow'
    ),
    'transformers': (lambda place: [sys.executable, __file__, 'peer', place], 'fastapi'),
    'llama.cpp': (
        lambda place: [
            sys.executable, '-m', 'llama_cpp.server', '--model', f'{place}/float32.gguf',
            '--n_ctx', '1024', '--port', str(PORT), '--interrupt_requests', 'False',
        ],
        'llama_cpp',
    ),
    'ours, LiteRT': (
        lambda place: ours(place, '--engine', 'litert', '--dtype', 'float32'), 'ai_edge_litert'
    ),
    'ours, LiteRT int8': (
        lambda place: ours(place, '--engine', 'litert', '--dtype', 'int8'), 'ai_edge_litert'
    ),
}  # fmt: skip


def peer(place):
    """A server as one writes it in an afternoon: one request after the other."""
    import fastapi
    import torch
    import transformers
    import uvicorn
    from fastapi import responses

    directory = os.path.join(place, 'transformers')
    lm = transformers.GPT2LMHeadModel.from_pretrained(directory).eval()
    app, lock = fastapi.FastAPI(), threading.Lock()

    class Pieces(transformers.generation.streamers.BaseStreamer):
        def __init__(self):
            self.tokens = queue.Queue()

        def put(self, value):
            self.tokens.put(value)

        def end(self):
            self.tokens.put(None)

    @app.get('/v1/models')
    def models():
        return {'data': [{'id': 'ours'}]}

    @app.post('/v1/completions')
    def completions(body: dict):
        def events():
            with lock:
                pieces, context = Pieces(), torch.tensor([[THE] * sampling.PROMPT])
                options = {'do_sample': True, 'top_k': body['top_k'], 'streamer': pieces}
                options |= {'max_new_tokens': body['max_tokens'], 'eos_token_id': None}
                options |= {'pad_token_id': 0, 'attention_mask': torch.ones_like(context)}
                thread = threading.Thread(target=lm.generate, args=[context], kwargs=options)
                thread.start()
                pieces.tokens.get()  # the prompt
                while pieces.tokens.get() is not None:
                    yield 'data: {"choices": [{"text": "x"}]}\n\n'
                thread.join()
                yield 'data: [DONE]\n\n'

        return responses.StreamingResponse(events(), media_type='text/event-stream')

    uvicorn.run(app, port=PORT, log_level='error')


@contextlib.contextmanager
def serving(command):
    """The process of a server that answers."""
    with open(os.path.join(tempfile.gettempdir(), 'serving.log'), 'wb') as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            while True:
                assert process.poll() is None, f'{command} ended: see {log.name}'
                with contextlib.suppress(httpx.TransportError):
                    path = '/readyz' if 'serve' in command else '/v1/models'
                    if httpx.get(f'{ADDRESS}{path}', timeout=60).status_code == 200:
                        break
                time.sleep(0.5)
            yield process
        finally:
            process.terminate()
            process.wait(60)


def ask(max_tokens=NEW_TOKENS, prompt=None, **more):
    """The times at which the tokens of a streamed answer came, after it was asked for."""
    body = {'model': 'ours', 'prompt': prompt or PROMPT, 'top_k': sampling.TOP_K}
    body |= {'max_tokens': max_tokens, 'stream': True, 'logit_bias': WITHOUT_END, **more}
    begin, times = time.perf_counter(), []
    url = f'{ADDRESS}/v1/completions'
    with CLIENT.stream('POST', url, json=body) as response:
        for line in response.iter_lines():
            if line.startswith('data: {') and '"text"' in line:
                times.append(time.perf_counter() - begin)
    assert response.status_code == 200 and times
    return times


def at_once(clients, requests, length=NEW_TOKENS):
    """(the median time to the first token, tokens per second) of some clients."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        begin = time.perf_counter()
        answers = list(pool.map(lambda _: ask(length), range(clients * requests)))
        seconds = time.perf_counter() - begin
    return statistics.median(a[0] for a in answers), len(answers) * length / seconds


def speed(place, *names):
    sampling.prepared(place)
    print('server              clients  to the first token  tokens/s')
    for name in names or SERVERS:
        command, package = SERVERS[name]
        if not importlib.util.find_spec(package):
            print(f'{name:18}  the package {package} is missing: left out')
            continue
        with serving(command(place)):
            at_once(1, 1)
            for clients in CLIENTS:
                first, rate = at_once(clients, REQUESTS)
                print(f'{name:18}  {clients:7}  {1000 * first:15.0f} ms  {rate:8.1f}', flush=True)


def generate(place):
    """`generate --batch_size 8`: for each length on stdin, its tokens per second on stdout."""
    sample = sampling.ours(place)
    for line in sys.stdin:
        length, begin = int(line), time.perf_counter()
        sample(8, length)
        print(8 * length / (time.perf_counter() - begin), flush=True)


@contextlib.contextmanager
def generating(place):
    """The same in a process of its own, as a function of the length."""
    command, pipe = [sys.executable, __file__, 'generate', place], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def rate(length):
            print(length, file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield rate
        process.stdin.close()


def joining(place):
    """8 clients and `generate --batch_size 8` in turns, and a short request beside 7 long ones."""
    sampling.prepared(place)
    with serving(SERVERS['ours'][0](place)), generating(place) as generated:
        for length in LENGTHS:
            # The first of each compiles, or finds its pages.
            turns = [(at_once(8, 1, length)[1], generated(length)) for _ in range(1 + TURNS)][1:]
            served, alone = map(statistics.median, zip(*turns, strict=True))
            ratios = sorted(a / b for a, b in turns)
            print(
                f'8 x {length}: 8 clients {served:.1f} tokens/s, generate {alone:.1f}: '
                f'{statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}',
                flush=True,
            )
        with concurrent.futures.ThreadPoolExecutor(7) as pool:
            long = [pool.submit(ask, 400) for _ in range(7)]
            time.sleep(5)
            firsts = [ask(1, ' the' * 8)[0] for _ in range(9)]
            tokens = [answer.result() for answer in long]
    gaps = [b - a for times in tokens for a, b in zip(times[200:], times[201:], strict=False)]
    step, first = statistics.median(gaps), statistics.median(firsts)
    print(f'first token {1000 * first:.0f} ms, a token of 7 others {1000 * step:.0f} ms: '
          f'{first / step:.1f}; at most {max(firsts) / step:.1f}')  # fmt: skip


def mixed(number):
    """50 different requests."""
    choose = random.Random(number)
    body = {
        'model': 'model', 'seed': number, 'max_tokens': choose.choice([0, 1, 5, 20, 60]),
        'prompt': 'What shall we do ' * choose.choice([1, 1, 2, 6]),
        'temperature': choose.choice([0, 0.7, 1, 2]), 'top_p': choose.choice([0.5, 1]),
        'n': choose.choice([1, 1, 3]), 'echo': choose.random() < 0.2,
        'logprobs': choose.choice([None, None, 3]), 'top_k': choose.choice([0, 40]),
        'frequency_penalty': choose.choice([0, 1]), 'stop': choose.choice([None, ['\n']]),
    }  # fmt: skip
    return {name: value for name, value in body.items() if value is not None}


def soak(place, requests=2000, model=ROOT / 'models' / 'shakespeare'):
    link = os.path.join(place, 'model')
    os.symlink(os.path.realpath(model), link)
    command = [sys.executable, '-m', 'src', 'serve', '--model_name', link, '--engine', 'tensorflow']
    with serving([*command, '--port', str(PORT)]) as process, httpx.Client(timeout=600) as client:

        def answer(number):
            response = client.post(f'{ADDRESS}/v1/completions', json=mixed(number % 50))
            assert response.status_code == 200, response.text
            return json.dumps(response.json()['choices'])

        def memory():  # MiB
            status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
            return int(re.search(r'VmRSS:\s*(\d+)', status)[1]) / 1024

        alone = [answer(number) for number in range(50)]
        wrong, seen, begin = 0, {}, time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for number, got in enumerate(pool.map(answer, range(int(requests))), 1):
                wrong += got != alone[(number - 1) % 50]
                if number in (200, int(requests)):
                    seen[number] = memory()
        seconds = time.perf_counter() - begin
    print(
        f'{requests} requests from 16 clients in {seconds:.0f} s, {wrong} not as alone; MiB:', seen
    )


if __name__ == '__main__':
    what, *arguments = sys.argv[1:] or ['speed']
    if what in ('peer', 'generate'):
        {'peer': peer, 'generate': generate}[what](*arguments)
    else:
        with tempfile.TemporaryDirectory() as place:
            {'speed': speed, 'joining': joining, 'soak': soak}[what](place, *arguments)
