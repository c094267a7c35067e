"""The addresses: errors, keys, pages, queues, and what OpenAI's own client makes of it.

The model is an alphabet, in which each letter is followed by the next.
"""

import asyncio
import json
import socket
import threading
import types

import httpx
import openai
import pytest
import uvicorn
from served import WAIT, Alphabet, asked, client_of, completed, told, until
from sse_starlette import sse

from src.serving import app, guard, scheduler

KEYS = ('the key', 'ключ')
WRONG = [
    ({'model': None}, 400, 'model', None),
    ({'model': 'gpt-5'}, 404, 'model', 'model_not_found'),
    ({'model': 5}, 400, 'model', 'invalid_type'),
    ({'modle': 'x'}, 400, None, 'unknown_parameter'),
    ({'temperature': 2.5}, 400, 'temperature', 'decimal_above_max_value'),
    ({'temperature': -1}, 400, 'temperature', 'decimal_below_min_value'),
    ({'temperature': '1'}, 400, 'temperature', 'invalid_type'),
    ({'temperature': True}, 400, 'temperature', 'invalid_type'),
    ({'temperature': 10**400}, 400, 'temperature', 'decimal_above_max_value'),
    ({'top_p': 1.1}, 400, 'top_p', 'decimal_above_max_value'),
    ({'top_k': -2}, 400, 'top_k', 'integer_below_min_value'),
    ({'max_tokens': -1}, 400, 'max_tokens', 'integer_below_min_value'),
    ({'max_tokens': 101}, 400, 'max_tokens', 'integer_above_max_value'),
    ({'max_tokens': 1.5}, 400, 'max_tokens', 'invalid_type'),
    ({'n': 0}, 400, 'n', 'integer_below_min_value'),
    ({'n': 129}, 400, 'n', 'integer_above_max_value'),
    ({'n': 3, 'best_of': 2}, 400, 'best_of', None),
    ({'best_of': 2, 'stream': True}, 400, 'best_of', None),
    ({'prompt': ['A'] * 20, 'n': 7}, 400, 'n', None),
    ({'logprobs': 21}, 400, 'logprobs', 'integer_above_max_value'),
    ({'logprobs': True}, 400, 'logprobs', 'invalid_type'),
    ({'stop': list('abcde')}, 400, 'stop', 'array_above_max_length'),
    ({'stop': ''}, 400, 'stop', 'invalid_value'),
    ({'stop': [1]}, 400, 'stop', 'invalid_type'),
    ({'stop': {}}, 400, 'stop', 'invalid_type'),
    ({'seed': 2**63}, 400, 'seed', 'integer_above_max_value'),
    ({'seed': 'x'}, 400, 'seed', 'invalid_type'),
    ({'logit_bias': {'97': 1}}, 400, 'logit_bias', 'invalid_value'),
    ({'logit_bias': {'A': 1}}, 400, 'logit_bias', 'invalid_value'),
    ({'logit_bias': {'1': 101}}, 400, 'logit_bias', 'decimal_above_max_value'),
    ({'logit_bias': [1]}, 400, 'logit_bias', 'invalid_type'),
    ({'suffix': 'end'}, 400, 'suffix', 'unsupported_parameter'),
    ({'stream': 1}, 400, 'stream', 'invalid_type'),
    ({'stream_options': {}}, 400, 'stream_options', None),
    ({'stream': True, 'stream_options': {'x': 1}}, 400, None, 'unknown_parameter'),
    ({'prompt': 'x' * 33}, 400, 'prompt', 'context_length_exceeded'),
    ({'prompt': 'x' * 9000}, 400, 'prompt', 'context_length_exceeded'),
    ({'prompt': [97]}, 400, 'prompt', 'invalid_value'),
    ({'prompt': [-1]}, 400, 'prompt', 'invalid_value'),
    ({'prompt': [10**400]}, 400, 'prompt', 'invalid_value'),
    ({'prompt': []}, 400, 'prompt', None),
    ({'prompt': [[]]}, 400, 'prompt', None),
    ({'prompt': ['A', 1]}, 400, 'prompt', 'invalid_type'),
    ({'prompt': [[1, 'A']]}, 400, 'prompt', 'invalid_type'),
    ({'prompt': {'a': 1}}, 400, 'prompt', 'invalid_type'),
    ({'prompt': 1.5}, 400, 'prompt', 'invalid_type'),
    ({'prompt': 'Ж'}, 400, 'prompt', 'invalid_value'),
    ({'user': 1}, 400, 'user', 'invalid_type'),
]


def test_mistakes_and_the_next_request_is_served(letters):
    responses = completed(letters, *(body for body, *_ in WRONG), {'max_tokens': 1})
    *responses, last = responses
    for response, (body, status, param, code) in zip(responses, WRONG, strict=True):
        error = response.json()['error']
        assert (response.status_code, error['param'], error['code']) == (status, param, code), body
        assert set(error) == {'message', 'type', 'param', 'code'}
        assert error['type'] == 'invalid_request_error' and error['message']
        assert len(error['message']) < 300
    assert last.json()['choices'][0]['text'] == 'B'


JSON = {'Content-Type': 'application/json'}


@pytest.mark.parametrize(
    'content, headers, status, words',
    [
        (b'{"model": "alphabet", "temperature": NaN}', JSON, 400, 'NaN'),
        (b'{"temperature": -Infinity}', JSON, 400, 'Infinity'),
        (b'{"model": "alphabet", "temperature": 1e999}', JSON, 400, 'temperature'),
        (b'{', JSON, 400, 'not JSON'),
        (b'', JSON, 400, 'not JSON'),
        (b'[]', JSON, 400, 'object'),
        (b'"\xff"', JSON, 400, 'not JSON'),
        (b'[' * 9000, JSON, 400, 'not JSON'),
        (b'{"model": "\\ud800"}', JSON, 404, 'does not exist'),
        (b'{"\\ud800": 1}', JSON, 400, 'Unrecognized'),
        (b'{"max_tokens": 1' + b'0' * 5000 + b'}', JSON, 400, 'digits'),
        (b' ' * 10_001, JSON, 413, '10000 bytes'),
        (b'{"model": "alphabet"}', {'Content-Type': 'text/plain'}, 415, 'application/json'),
        (b'model=alphabet', {'Content-Type': 'application/x-www-form-urlencoded'}, 415, 'JSON'),
    ],
)
def test_bodies_that_are_none(letters, content, headers, status, words):
    request = ('POST', '/v1/completions', {'content': content, 'headers': headers})
    (response,) = asked(letters, request)
    assert response.status_code == status
    assert words in response.json()['error']['message']


def test_a_body_of_unknown_length_is_not_read_to_its_end(letters):
    sent = []

    async def endless():
        while len(sent) < 1000:
            sent.append(None)
            yield b' ' * 1000

    async def ask():
        async with client_of(letters) as client:
            return await client.post('/v1/completions', content=endless(), headers=JSON)

    assert asyncio.run(ask()).status_code == 413 and len(sent) < 20


def test_other_addresses(letters):
    answers = asked(
        letters,
        ('GET', '/v1/models', {}),
        ('GET', '/v1/models/alphabet', {}),
        ('GET', '/v1/models/other/model', {}),
        ('POST', '/v1/chat/completions', {'json': {'model': 'alphabet', 'messages': []}}),
        ('GET', '/v1/nothing', {}),
        ('DELETE', '/v1/completions', {}),
        ('GET', '/healthz', {}),
        ('GET', '/page/../app.py', {}),
        ('GET', '/page/%2e%2e/app.py', {}),
        max_tokens=20,
    )
    listed, one, other, chat, nothing, deleted, health, *outside = answers
    assert listed.json()['data'] == [one.json()] and one.json()['id'] == 'alphabet'
    assert set(one.json()) == {'id', 'object', 'created', 'owned_by', 'max_model_len', 'max_tokens'}
    assert one.json()['max_model_len'] == 32 and one.json()['max_tokens'] == 20
    assert other.status_code == 404 and other.json()['error']['code'] == 'model_not_found'
    assert chat.status_code == 404 and 'no chat format' in chat.json()['error']['message']
    assert nothing.status_code == 404 and deleted.status_code == 405
    assert nothing.json()['error']['message'] == 'Invalid URL (GET /v1/nothing)'
    assert health.json() == {'status': 'ok'}
    assert [each.status_code for each in outside] == [404, 404]


def test_cloud_run(letters):
    get, post, head, cut, none, half, *wrong = asked(
        letters,
        ('GET', '/', {'params': {'prefix': 'A', 'length': '4', 'top_k': '1'}}),
        ('POST', '/', {'json': {'prefix': 'A', 'length': 9, 'truncate': 'E',
                                'include_prefix': False}}),
        ('HEAD', '/', {}),
        ('GET', '/', {'params': {'prefix': 'A', 'truncate': 'D', 'include_prefix': 'false'}}),
        ('GET', '/', {'params': {'length': '3'}}),
        ('POST', '/', {'content': '{"prefix": "A\\ud800", "length": 4, "truncate": "\\udc00"}'}),
        ('GET', '/', {'params': {'temperature': 'nan'}}),
        ('GET', '/', {'params': {'temperature': 'inf'}}),
        ('POST', '/', {'json': {'temperature': 10**400}}),
    )  # fmt: skip
    assert get.json() == {'text': 'ABCD'}  # its length counts the prefix
    assert post.json() == {'text': 'BCD'}
    assert head.status_code == 200 and head.text == ''
    assert cut.json() == {'text': 'BC'} and none.json() == {'text': '!"#'}
    assert half.status_code == 400 and '\ufffd' in half.json()['error']['message']
    for each in wrong:
        assert each.status_code == 400 and each.json()['error']['param'] == 'temperature'


def test_ids_that_the_vocabulary_has_not_are_never_said(letters):
    slots = Alphabet(n_vocab=100)  # of which letters has 97
    last = {'prefix': letters.decode([96]), 'length': 3}  # behind which 97 would come
    (answer,) = asked(letters, ('POST', '/', {'json': last}), slots=slots)
    assert answer.status_code == 200
    assert len(answer.json()['text'].removeprefix(last['prefix'])) == 2


def test_a_mistake_of_ours_is_an_answer_like_others(letters, monkeypatch, capsys):
    def wrong(*_, **__):
        raise RuntimeError('something')

    monkeypatch.setattr(app.answers, 'models', wrong)
    origin = 'https://example.com'
    models = ('GET', '/v1/models', {'headers': {'Origin': origin}})
    broken, metrics = asked(letters, models, ('GET', '/metrics', {}), origins=(origin,))
    assert broken.status_code == 500 and broken.json()['error']['type'] == 'server_error'
    assert broken.headers['x-frame-options'] == 'DENY'
    assert broken.headers['access-control-allow-origin'] == origin
    assert 'gpt2_requests_total{path="/v1/models",status="500"} 1.0' in metrics.text.splitlines()
    assert 'RuntimeError: something' in capsys.readouterr().err


def test_an_event_is_one_line_for_every_reader():
    text = 'a\u2028b\u2029c\x85d\u00e9'
    told = app.answers.text({'text': text})
    assert len(told.splitlines()) == 1 and json.loads(told) == {'text': text} and 'é' in told


def test_browsers_get_the_page(letters):
    accept = {'Accept': 'text/html,application/xhtml+xml,*/*;q=0.8'}
    page, script = asked(
        letters, ('GET', '/', {'headers': accept}), ('GET', '/page/page.js', {}), keys=KEYS
    )
    assert page.headers['content-type'].startswith('text/html') and '<main' in page.text
    assert 'javascript' in script.headers['content-type']
    for each in (page, script):
        assert each.headers['content-security-policy'].startswith("default-src 'self';")
        assert each.headers['x-content-type-options'] == 'nosniff'
        assert 'access-control-allow-origin' not in each.headers


def test_keys(letters):
    def request(address, key=None, method='GET', **more):
        headers = {} if key is None else {'Authorization': key.encode()}
        return method, address, {'headers': headers, **more}

    body = {'json': {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 1}}
    responses = asked(
        letters,
        request('/v1/completions', method='POST', **body),
        request('/v1/completions', 'Bearer the ke', 'POST', **body),
        request('/v1/completions', 'Bearer ', 'POST', **body),
        request('/v1/completions', 'Basic the key', 'POST', **body),
        request('/v1/models'),
        request('/'),
        request('/metrics'),
        request('/v1/completions', 'Bearer the key', 'POST', **body),
        request('/v1/models', 'bearer ключ'),
        request('/healthz'),
        request('/readyz'),
        keys=KEYS,
    )
    assert [each.status_code for each in responses] == [401] * 7 + [200] * 4
    for each in responses[:7]:
        assert each.json()['error']['code'] == 'invalid_api_key'
        assert 'the ke' not in each.text


def test_pages_of_other_sites(letters):
    origin = {'Origin': 'https://example.com', 'Sec-Fetch-Site': 'cross-site'}
    ask = ('GET', '/', {'params': {'length': '3'}, 'headers': origin})
    before = {**origin, 'Access-Control-Request-Method': 'POST'}
    before['Access-Control-Request-Headers'] = 'authorization, content-type'
    preflight = ('OPTIONS', '/v1/completions', {'headers': before})
    refused, no = asked(letters, ask, preflight)
    assert refused.status_code == 403 and no.status_code == 405
    assert not {'access-control-allow-origin'} & {*refused.headers, *no.headers}
    allowed, yes = asked(letters, ask, preflight, origins=('https://example.com',))
    assert allowed.status_code == yes.status_code == 200
    for each in (allowed, yes):
        assert each.headers['access-control-allow-origin'] == 'https://example.com'
    other, before = asked(letters, ask, preflight, origins=('https://example.org',))
    assert other.status_code == 403 and before.status_code == 400
    (any_site,) = asked(letters, ask, origins=('*',))
    assert any_site.status_code == 200


def test_a_full_queue_and_what_metrics_tell(letters):
    async def ask():
        slots = Alphabet(rows=1)
        slots.permits = threading.Semaphore(0)
        async with client_of(letters, slots, queue=1) as client:
            body = {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 3}
            post = client.post
            work = client.server.scheduler
            first = asyncio.create_task(post('/v1/completions', json=body))
            await soon(lambda: work.running)
            second = asyncio.create_task(post('/v1/completions', json=body))
            await soon(lambda: work.waiting == 1)
            third = await post('/v1/completions', json={**body, 'stream': True})
            during = (await client.get('/metrics')).text
            slots.permits.release(100)
            assert (await first).status_code == (await second).status_code == 200
            return third, during, (await client.get('/metrics')).text

    full, during, after = asyncio.run(ask())
    assert full.status_code == 429 and int(full.headers['retry-after']) >= 1
    assert full.json()['error']['code'] == 'rate_limit_exceeded'
    for line in ('gpt2_texts_waiting 1.0', 'gpt2_texts_running 1.0'):
        assert line in during.splitlines()
    for line in (
        'gpt2_requests_total{path="/v1/completions",status="200"} 2.0',
        'gpt2_requests_total{path="/v1/completions",status="429"} 1.0',
        'gpt2_prompt_tokens_total 2.0',
        'gpt2_tokens_total 6.0',
        'gpt2_texts_waiting 0.0',
        'gpt2_time_to_first_token_seconds_count 2.0',
        'gpt2_tokens_per_second_count 2.0',
    ):
        assert line in after.splitlines(), line


async def soon(what):
    for _ in range(WAIT * 100):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def test_what_takes_too_long(letters):
    async def ask():
        slots = Alphabet()
        slots.permits = threading.Semaphore(0)
        async with client_of(letters, slots, timeout=0.3) as client:
            body = {'model': 'alphabet', 'prompt': 'A'}
            answers = [
                asyncio.create_task(client.post('/v1/completions', json=each))
                for each in (body, {**body, 'stream': True})
            ]
            work = client.server.scheduler
            await soon(lambda: len(work.running) + work.waiting == 2)
            await asyncio.sleep(0.4)
            slots.permits.release(100)
            return [await each for each in answers]

    plain, stream = asyncio.run(ask())
    assert plain.status_code == 504 and plain.json()['error']['code'] == 'timeout'
    assert told(stream)[-1]['error']['code'] == 'timeout'


def test_before_it_is_ready_requests_wait(letters):
    async def ask():
        slots, go = Alphabet(), threading.Event()
        slots.warm_up = lambda: go.wait(WAIT)
        async with client_of(letters, slots) as client:
            body = {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 1}
            early = asyncio.create_task(client.post('/v1/completions', json=body))
            await soon(lambda: client.server.scheduler.waiting)
            before = await client.get('/readyz')
            go.set()
            answer = await early
            return before, answer, await client.get('/readyz')

    before, answer, after = asyncio.run(ask())
    assert before.status_code == 503 and after.status_code == answer.status_code == 200


@pytest.fixture(scope='module')
def address(letters):
    """(the address of a real server, its Server): the alphabet with a window of 20,000 tokens."""
    slots = Alphabet(rows=4, n_ctx=20_000)
    work = scheduler.Scheduler(slots, 64)
    limits = app.Limits(max_tokens=20_000, max_body=10**6, timeout=WAIT)
    loaded = types.SimpleNamespace(encoder=letters, lm=slots)
    served = app.Server(loaded, 'alphabet', work, limits)
    sse.AppStatus.disable_automatic_graceful_drain()
    server = uvicorn.Server(uvicorn.Config(app.made(served), log_level='error', access_log=False))
    listener = socket.create_server(('127.0.0.1', 0))
    thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
    thread.start()
    until(lambda: server.started)
    yield f'http://127.0.0.1:{listener.getsockname()[1]}', served
    slots.permits = None
    server.should_exit = True
    thread.join(WAIT)
    assert not thread.is_alive()


def test_the_client_of_openai(address):
    with openai.OpenAI(base_url=f'{address[0]}/v1', api_key='any', max_retries=0) as client:
        completions = client.completions
        assert [model.id for model in client.models.list()] == ['alphabet']
        assert client.models.retrieve('alphabet').owned_by == 'local'
        ask = {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 3}
        answer = completions.create(**ask, logprobs=2, seed=1, n=2)
        assert [choice.text for choice in answer.choices] == ['BCD', 'BCD']
        assert answer.choices[0].logprobs.tokens == ['B', 'C', 'D']
        assert answer.choices[1].finish_reason == 'length' and answer.usage.total_tokens == 7
        options = {'stream': True, 'stream_options': {'include_usage': True}}
        chunks = list(completions.create(**ask, **options))
        assert ''.join(c.choices[0].text for c in chunks if c.choices) == 'BCD'
        assert chunks[-1].usage.completion_tokens == 3
        assert completions.create(**ask, extra_body={'top_k': 1}).choices[0].text == 'BCD'
        with pytest.raises(openai.BadRequestError, match='temperature') as error:
            completions.create(**ask, temperature=3)
        assert error.value.param == 'temperature'
        with pytest.raises(openai.NotFoundError, match='does not exist'):
            completions.create(**{**ask, 'model': 'gpt-5'})
        with pytest.raises(openai.NotFoundError, match='no chat format'):
            client.chat.completions.create(model='alphabet', messages=[])


@pytest.mark.parametrize('leaves', [True, False])
def test_a_body_that_does_not_come(address, monkeypatch, capfd, leaves):
    address, served = address
    monkeypatch.setattr(guard, 'PATIENCE', WAIT if leaves else 0.1)
    host, port = address.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=WAIT) as connection:
        head = 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
        connection.sendall(f'{head}Content-Length: 1000\r\n\r\n{{'.encode())
        if not leaves:
            assert connection.recv(1000).startswith(b'HTTP/1.1 408 ')
    status = f'gpt2_requests_total{{path="/v1/completions",status="{499 if leaves else 408}"}}'
    until(lambda: status in served.metrics.text()[0].decode())
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.parametrize('stream', [True, False])
def test_who_leaves_is_not_written_for(address, stream):
    address, served = address
    slots, work = served.scheduler.slots, served.scheduler
    slots.permits = threading.Semaphore(0)
    body = {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 19_000, 'stream': stream,
            'logit_bias': {'96': -100}}  # fmt: skip
    content = json.dumps(body).encode()
    host, port = address.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=WAIT) as connection:
        head = 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
        connection.sendall(f'{head}Content-Length: {len(content)}\r\n\r\n'.encode() + content)
        until(lambda: work.running)
        (text,) = work.running.values()
        slots.permits.release(5)
        until(lambda: text.drawn == 6)
    until(lambda: text.cancelled)
    slots.permits.release(100)
    until(lambda: not work.running)
    assert text.drawn <= 7
    slots.permits = None


def test_who_does_not_read_holds_nobody_up(address):
    address, served = address
    body = {'model': 'alphabet', 'prompt': 'A', 'max_tokens': 19_000, 'stream': True,
            'logit_bias': {'96': -100}}  # fmt: skip
    with (
        httpx.stream('POST', f'{address}/v1/completions', json=body, timeout=WAIT) as stalled,
        httpx.Client(base_url=address, timeout=WAIT) as client,
    ):
        assert stalled.status_code == 200
        short = {'model': 'alphabet', 'prompt': 'a', 'max_tokens': 3}
        for _ in range(5):
            answer = client.post('/v1/completions', json=short)
            assert answer.json()['choices'][0]['text'] == 'bcd'
