"""The page in a real browser: Debian's chromium, driven by playwright.

What the model would hardly write comes from answers that are made here, the rest from the server.
"""

import dataclasses
import json
import math
import re
import socket
import threading
import time
import types
import urllib.parse

import browsers
import matplotlib.image
import numpy as np
import pytest
import requests
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from browsers import EVERYONE, WAIT
from conftest import ROOT
from playwright.sync_api import expect

from src import model
from src.serving import app, scheduler

PAGE = ROOT / 'src' / 'serving' / 'page'
FILES = {path.name: path.read_text('utf-8') for path in sorted(PAGE.iterdir())}
MODEL = 'shakespeare'
NASTY = {
    'markup': '<b>bold</b> & <script>alert(1)</script>',
    'pattern': 'a.*( \\d+$ ${x} %s',
    'emoji': '👩‍👩‍👧 🏳️‍🌈 e\u0301',
    'Arabic': 'كان يا ما كان، في قديم الزمان',
    'Hebrew': 'בְּרֵאשִׁית and back',
    'Chinese': '从前有一座很老的桥。' * 20,
    'lines': ' two\n\n  spaces\tand a tab ',
    'a long word': 'Donaudampfschifffahrt' * 9 + '.',
}


class Engine:
    """What a Scheduler works with, where the next token depends on the last one alone.

    While `goes_on` is not set, no text grows beyond its first token.
    """

    rows, piece, pieces, fingerprint = 8, 256, 1, 'engine'

    def __init__(self, n_vocab):
        self.logits = np.random.default_rng(0).normal(0, 3, [n_vocab] * 2).astype(np.float32)
        self.length = [0] * self.rows
        self.goes_on = threading.Event()
        self.goes_on.set()

    def warm_up(self):
        pass

    def clear(self, slot):
        self.length[slot] = 0

    def copy(self, source, slots, length):
        for slot in slots:
            self.length[slot] = length

    def read(self, some):
        ((slot, tokens, wanted),) = some
        self.length[slot] += len(tokens)
        return [self.logits[tokens[len(tokens) - wanted :]]]

    def step(self, slots, tokens):
        self.goes_on.wait(timeout=60)
        return self.logits[tokens]


@pytest.fixture(scope='module')
def engine(small):
    return Engine(len(small.encoder))


@pytest.fixture(scope='module')
def work(engine):
    return scheduler.Scheduler(engine, queue=64)


@pytest.fixture(scope='module')
def server(small, work):
    lm = types.SimpleNamespace(hparams=model.HParams(n_vocab=len(small.encoder), n_ctx=256))
    loaded = types.SimpleNamespace(encoder=small, lm=lm)
    limits = app.Limits(max_tokens=256, max_body=2**20, timeout=60)
    return app.Server(loaded, MODEL, work, limits)


@pytest.fixture(scope='module')
def address(server, engine):
    """That of the server, which runs in a thread of this process."""
    runs = uvicorn.Server(uvicorn.Config(app.made(server), log_level='warning'))
    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=runs.run, args=[[listener]])
        thread.start()
        yield f'http://127.0.0.1:{listener.getsockname()[1]}/'
        engine.goes_on.set()
        runs.should_exit = True
        thread.join(timeout=60)


@pytest.fixture(scope='module')
def tab(address):
    """A tab of a browser, of an English window that may use the clipboard."""
    with browsers.tab() as tab:
        tab.context.grant_permissions(['clipboard-read', 'clipboard-write'], origin=address)
        yield tab


@pytest.fixture
def opened(tab, address):
    """Open the page, with a fragment of its address, and with what answers in place of the server.

    No script may fail in it, and nothing may be asked of another address.
    """

    def opened(fragment='', answer=None, width=1400, height=900, colors='light'):
        tab.set_viewport_size({'width': width, 'height': height})
        tab.emulate_media(color_scheme=colors)
        if answer is not None:
            tab.route('**/v1/completions', answer)
        tab.goto(address + fragment)
        expect(tab.locator('#model')).not_to_be_empty(timeout=WAIT)
        return tab

    with browsers.watched(tab, address):
        yield opened
    tab.evaluate('sessionStorage.clear()')
    tab.goto('about:blank')
    tab.unroute_all()


def likely(label, *others):
    """A token with what could stand in its place, each half as likely as the one before it."""
    return label, {each: -(i + 1) * math.log(2) for i, each in enumerate([label, *others])}


def event(text, tokens=(), index=0, reason=None):
    logprobs = {
        'tokens': [label for label, _ in tokens],
        'token_logprobs': [top[label] for label, top in tokens],
        'top_logprobs': [top for _, top in tokens],
        'text_offset': [0] * len(tokens),
    }
    choice = {'text': text, 'index': index, 'logprobs': logprobs, 'finish_reason': reason}
    return json.dumps({'choices': [choice]})


def streaming(*data):
    """What answers with these events, and with comments between them."""
    body = ''.join(f': awake\r\n\r\ndata: {each}\r\n\r\n' for each in data)
    return lambda route: route.fulfill(content_type='text/event-stream', body=body)


def written(text):
    return streaming(event(text, [likely(text)], 0, 'length'), '[DONE]')


def link(prompt, **others):
    settings = {'temperature': 0.9, 'top_k': 40, 'top_p': 1, 'max_tokens': 20, 'n': 1, 'seed': 7}
    given = {'prompt': prompt, **settings, 'model': MODEL, **others}
    return '#' + urllib.parse.urlencode(given, doseq=True)


def stop(page):
    return page.get_by_role('button', name='Stop', exact=True)


def ended(page):
    """The page when nothing is written any more."""
    expect(stop(page)).to_be_disabled(timeout=WAIT)
    assert page.locator('.running').count() == 0
    return page


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def texts(page):
    return page.locator('.text').all_text_contents()


def prompt(page):
    return page.locator('#prompt').input_value()


def asked_of(address, **others):
    """What the server writes when it is asked without a page."""
    body = {'model': MODEL, 'prompt': 'The ', 'max_tokens': 20, 'seed': 7, **others}
    answer = requests.post(f'{address}v1/completions', json={'top_k': 40, **body}, timeout=60)
    answer.raise_for_status()
    return [choice['text'] for choice in answer.json()['choices']]


@pytest.mark.parametrize('name', FILES)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(name):
    text = FILES[name]
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines())) <= 100
    assert re.findall(r'\w+://(?!www\.w3\.org/2000/svg)', text) == []
    assert re.findall(r'HTML\b|document\.write|\beval\b|\bFunction\b', text) == []
    assert re.findall(r'<style|\son\w+="|\sstyle="|<script(?![^>]* src=)', text) == []
    for other in re.findall(r'(?:page|from \'\.)/([\w.]+)', text.split('-->')[-1]):
        assert other in FILES


def test_the_settings_of_the_page_are_those_of_the_request(opened):
    page = opened(answer=written(' ends'))
    typed = {
        'Prompt': 'It', 'Temperature': '0.35', 'Top k': '7', 'Top p': '0.5', 'Length': '33',
        'Samples': '2', 'Seed': '11', 'Stop texts': 'x\n\n \\n\\\\n',
    }  # fmt: skip
    for label, value in typed.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label('Temperature, slider').press('ArrowRight')
    with page.expect_request('**/v1/completions') as request:
        page.get_by_role('button', name='Generate').click()
    expected = {
        'model': MODEL, 'prompt': 'It', 'temperature': 0.4, 'top_k': 7, 'top_p': 0.5,
        'seed': 11, 'max_tokens': 33, 'n': 2, 'stop': ['x', ' \n\\n'],
    }  # fmt: skip
    assert request.value.post_data_json == {**expected, 'logprobs': 5, 'stream': True}
    ended(page)
    named = urllib.parse.parse_qs(page.evaluate('location.hash').lstrip('#'))
    assert named == {name: [str(v) for v in (value if name == 'stop' else [value])]
                     for name, value in {**expected, 'draw': 'off'}.items()}  # fmt: skip
    page.get_by_label('Stop texts').fill('1\n2\n3\n4\n5')
    page.get_by_role('button', name='Generate').click()
    assert page.evaluate("document.querySelector('#stop-texts').validationMessage") == (
        'These are 5 stop texts; 4 are allowed.'
    )
    assert texts(page)[0] == 'It ends'


def test_the_length_is_at_most_what_the_server_has_room_for(opened):
    page = opened()
    for each in page.locator('#max_tokens, [data-of=max_tokens]').all():
        assert each.get_attribute('max') == '256'
    small = {'data': [{'id': MODEL, 'max_tokens': 32}]}
    page.route('**/v1/models', lambda route: route.fulfill(json=small))
    try:
        page = opened()
        expect(page.locator('#max_tokens')).to_have_value('32')  # in place of 120
        assert page.locator('[data-of=max_tokens]').input_value() == '32'
    finally:
        page.unroute('**/v1/models')


def test_whatever_is_written_is_shown_as_text(opened):
    nasty = list(NASTY.values())
    cut = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in nasty]
    events = [event(part, [likely(part)], i) for i, parts in enumerate(cut) for part in parts]
    begun = '\n'.join(nasty)
    page = ended(opened(link(begun, n=len(nasty)), streaming(*events, '[DONE]')))
    shown = page.locator('.prompt').first.text_content()
    assert texts(page) == [shown + text for text in nasty]
    assert prompt(page) == begun and begun.endswith(shown.removeprefix('… '))
    assert page.locator('.token').all_text_contents() == [part for both in cut for part in both]
    assert page.locator('.text :not(span)').count() == 0


def test_half_characters_are_bytes_and_their_piece_is_the_character(opened):
    first, second, third = (f'bytes:\\x{byte:02x}' for byte in '从'.encode())
    answer = streaming(
        event('', [likely(first, ' and', second)]),
        event('', [likely(second)]),
        event('从前', [likely(third), likely('前', '\n')], 0, 'length'),
        '[DONE]',
    )
    page = ended(opened(link('Once'), answer))
    assert page.locator('.token').all_text_contents() == ['从', '前']
    assert page.locator('.ended').text_content().startswith('4 tokens')
    page.locator('.token').first.hover()
    panel = page.locator('#alternatives')
    expect(panel.locator('h2')).to_have_text('从 · 12.5%')  # 0.5 for each of its bytes
    assert panel.locator('li').all_text_contents() == ['\\xe450%', '␣and25%', '\\xbb12.5%']
    assert [each.is_enabled() for each in panel.locator('li button').all()] == [False, True, False]


# For each text, for each way to cut its bytes into tokens, and for each number of characters that
# the text lags behind: what the pieces are together, and how many tokens they lost.
PIECES = r"""async (texts) => {
    const { Pieces } = await import('/page/tokens.js');
    const label = (bytes) => {
        try {
            return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        } catch {
            const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0'));
            return 'bytes:' + hex.map((digits) => '\\x' + digits).join('');
        }
    };
    const cut = (text, size, late) => {
        const bytes = new TextEncoder().encode(text);
        const [pieces, told, shown] = [new Pieces(), new TextDecoder(), []];
        let [held, tokens] = ['', 0];
        for (let i = 0; i < bytes.length; i += size, tokens += 1) {
            const part = bytes.slice(i, i + size);
            held += told.decode(part, { stream: true });
            const out = held.slice(0, Math.max(0, held.length - late));
            held = held.slice(out.length);
            shown.push(...pieces.add(out, [{ label: label(part) }]));
        }
        shown.push(...pieces.add(held, []), ...pieces.end());
        const lost = tokens - shown.flatMap((piece) => piece.tokens).length;
        return [shown.map((piece) => piece.text).join(''), lost];
    };
    return texts.map((text) => [1, 2, 3, 5, 100].flatMap(
        (size) => [0, 1, 4].map((late) => cut(text, size, late))));
}"""

# For each text the lines that it is broken into, where each character is 10 wide: 72 in a line.
LINES = """async (texts) => {
    const { broken } = await import('/page/picture.js');
    const lines = (text) => broken([['Before ', 1], [text, 2]], (each) => 10 * each.length);
    return texts.map((text) => lines(text).map(({ runs }) => runs.map(([run]) => run).join('')));
}"""


def test_pieces_and_lines_are_the_text_however_it_is_cut(opened):
    page, nasty = opened(), list(NASTY.values())
    for text, found in zip(nasty, page.evaluate(PIECES, nasty), strict=True):
        assert found == [[text, 0]] * 15
    for text, lines in zip(nasty, page.evaluate(LINES, nasty), strict=True):
        assert ''.join(lines) == f'Before {text}'.replace('\n', '').replace('\t', '    ')
        assert all(len(line.rstrip()) <= 72 for line in lines)
        assert not any(line.startswith('。') for line in lines)


def ink(path, tmp_path):
    """How far to the left and to the right a saved picture's first line reaches, in pixels."""
    path.save_as(tmp_path / 'picture.png')
    pixels = matplotlib.image.imread(tmp_path / 'picture.png')[..., :3]
    line = np.abs(pixels[112:170] - pixels[0, 0]).sum(axis=-1).max(axis=0) > 0.5
    return line.argmax(), len(line) - line[::-1].argmax()


@pytest.mark.parametrize('text', [NASTY['Arabic'], 'there was, once upon a time,'])
def test_what_is_kept_is_the_prompt_and_the_text(opened, tmp_path, text):
    page = ended(opened(link(text), written(f' {text}')))
    page.get_by_role('button', name='Copy').click()
    expect(page.get_by_role('status')).to_have_text('Copied.')
    expect(page.locator('.said')).to_have_text('Copied.')  # for those who see the text alone
    expect(page.locator('.ended')).to_be_hidden()
    expect(page.locator('.ended')).to_be_visible()
    assert page.evaluate('navigator.clipboard.readText()') == f'{text} {text}'
    with page.expect_download() as download:
        page.get_by_role('button', name='Save text').click()
    assert download.value.suggested_filename == 'gpt2-7-1.txt'
    download.value.save_as(tmp_path / 'text')
    assert (tmp_path / 'text').read_text('utf-8') == f'{text} {text}'
    with page.expect_download() as download:
        page.get_by_role('button', name='Save picture').click()
    assert download.value.suggested_filename == 'gpt2-7-1.png'
    left, right = ink(download.value, tmp_path)
    begins = abs(left - 2 * 56) < 12, abs(right - 2 * (56 + 720)) < 12  # at two pixels each
    assert begins == ((False, True) if text == NASTY['Arabic'] else (True, False))


def test_a_button_that_cannot_do_its_work_says_so_beneath_the_text(opened):
    page = ended(opened(link('It'), written(' is')))
    page.evaluate('void (navigator.clipboard.writeText = async () => { throw new Error(); })')
    page.get_by_role('button', name='Copy').click()
    expect(page.locator('.said')).to_have_text('The browser forbids it.')
    failing = '() => { throw new Error("No memory"); }'
    page.evaluate(f'void (HTMLCanvasElement.prototype.toBlob = {failing})')
    page.get_by_role('button', name='Save picture').click()
    expect(page.locator('.said')).to_have_text('No memory')
    expect(page.get_by_role('alert')).to_have_text('No memory')


def test_errors_are_told_and_what_was_written_stays(opened):
    message = 'Too many texts are waiting; try again in 7 s'
    refused = {'status': 429, 'json': {'error': {'message': message}}}
    begun = event(' was', [likely(' was')])
    page = ended(opened(link('It'), written(' is')))
    for answer, expected, told in (
        (lambda route: route.fulfill(**refused), 'It is', message),
        (lambda route: route.fulfill(status=502), 'It is', 'The server answered 502 Bad Gateway.'),
        (lambda route: route.abort(), 'It is', 'The server does not answer. Is it still running, '
                                               'and are you connected?'),
        (streaming(begun, '{"error": {"message": "A mistake"}}'), 'It was', 'A mistake'),
        (streaming(begun), 'It was', 'The server ended the text too early.'),
    ):  # fmt: skip
        page.unroute_all()
        page.route('**/v1/completions', answer)
        page.get_by_role('button', name='Generate').click()
        expect(page.get_by_role('alert')).to_have_text(told)
        assert texts(ended(page)) == [expected]
    assert page.locator('.ended').text_content() == '1 token · broken off'


def test_a_key_is_asked_for_and_kept_in_this_tab_alone(opened):
    seen = []

    def answer(route):
        seen.append(route.request.headers.get('authorization'))
        if seen[-1] == 'Bearer right':
            written(' is')(route)
        else:
            route.fulfill(status=401, json={'error': {'message': f'No {seen[-1]}'}})

    page = opened(link('It'), answer)
    for key, sent in (('wrong', None), ('right', 'Bearer wrong')):
        dialog = page.get_by_role('dialog', name='This server wants a key')
        expect(dialog).to_contain_text(f'No {sent}')
        dialog.get_by_label('API key').fill(key)
        page.keyboard.press('Enter')
        until(lambda key=key: page.evaluate('sessionStorage.api_key') == key)
    assert texts(ended(page)) == ['It is']
    assert seen == [None, 'Bearer wrong', 'Bearer right']
    assert page.evaluate('[localStorage.length, document.cookie]') == [0, '']


def test_a_key_may_have_any_characters_but_control_characters(opened, server):
    keys = ('Schlüssel – 5 €', 'a\u200bb')
    page = opened(link('The '))
    dialog = page.get_by_role('dialog', name='This server wants a key')
    server.limits = dataclasses.replace(server.limits, keys=keys)
    try:
        for key in keys:
            page.evaluate('sessionStorage.clear()')
            page.reload()
            dialog.get_by_label('API key').fill('a\x01key')
            page.keyboard.press('Enter')
            assert dialog.get_by_label('API key').evaluate('(key) => key.validity.patternMismatch')
            dialog.get_by_label('API key').fill(f' {key}\t')
            page.keyboard.press('Enter')
            expect(dialog).to_be_hidden()
            assert ended(page).locator('.token').count() > 0
    finally:
        server.limits = dataclasses.replace(server.limits, keys=())


def test_typed_streamed_and_written_again_by_its_address(opened, address):
    page = opened()
    page.get_by_label('Length', exact=True).fill('20')
    page.get_by_label('Temperature', exact=True).fill('1')
    page.get_by_label('Samples', exact=True).fill('3')
    page.get_by_label('Seed', exact=True).fill('7')
    page.get_by_label('Prompt').fill('The ')
    page.keyboard.press('Control+Enter')
    expected = ['The ' + text for text in asked_of(address, n=3)]
    assert texts(ended(page)) == expected
    first = page.url
    page.get_by_label('a new one each time').check()
    page.get_by_role('button', name='Generate').click()
    page.wait_for_url(lambda url: url != first)
    assert texts(ended(page)) != expected
    page.go_back()
    expect(page.get_by_label('Seed', exact=True)).to_have_value('7')
    assert texts(ended(page)) == expected
    page.goto('about:blank')
    assert texts(ended(opened(first.removeprefix(address)))) == expected


def test_a_link_without_a_seed_has_one_then(opened):
    answer = written(' is')
    page = ended(opened(f'#prompt=It&model={MODEL}&n=2', answer))
    (seed,) = urllib.parse.parse_qs(page.evaluate('location.hash'))['seed']
    assert seed.isdecimal() and page.get_by_label('Seed', exact=True).input_value() == seed
    with page.expect_download() as download:
        page.get_by_role('button', name='Save text').first.click()
    assert download.value.suggested_filename == f'gpt2-{seed}-1.txt'
    page.reload()
    ended(page)
    assert page.get_by_label('Seed', exact=True).input_value() == seed


def test_a_typed_seed_stays_after_a_reload(opened):
    page, draw = ended(opened(link('It'), written(' is'))), 'a new one each time'
    expect(page.get_by_label(draw)).to_be_checked()  # in addresses of any time
    for typed in ('5', ''):
        page.get_by_label('Seed', exact=True).fill(typed)
        page.get_by_role('button', name='Generate').click()
        ended(page).reload()
        expect(page.get_by_label(draw)).to_be_checked(checked=not typed)
        ended(page)
        seeds = [page.get_by_label('Seed', exact=True).input_value()]
        page.get_by_role('button', name='Generate').click()
        seeds.append(ended(page).get_by_label('Seed', exact=True).input_value())
        assert (seeds == ['5', '5']) is (typed == '5')


def test_an_address_that_asks_for_too_much_is_told_what_its_field_allows(opened):
    page = opened(link('It', max_tokens=9999))
    field = page.get_by_label('Length', exact=True)
    expect(field).to_be_focused()
    told = field.evaluate('(field) => field.validationMessage')
    assert told == 'Value must be less than or equal to 256.'
    assert ended(page).locator('#error').text_content() == ''


@pytest.mark.parametrize('left', ['done', 'failed', 'running'])
def test_the_way_back_leads_to_a_page_that_says_nothing(opened, left):
    page = opened()
    if left == 'failed':
        page.route('**/v1/completions', lambda route: route.fulfill(status=502))
    elif left == 'running':
        page.route('**/v1/completions', lambda route: None)
    page.get_by_label('Prompt').fill('The ')
    page.get_by_role('button', name='Generate').click()
    status, alert = page.get_by_role('status'), page.get_by_role('alert')
    said = {'done': (status, 'Done in'), 'failed': (alert, '502'), 'running': (status, 'Writing')}
    expect(said[left][0]).to_contain_text(said[left][1])
    if left == 'done':
        page.locator('.token').first.click()
    page.go_back()
    expect(page.locator('#prompt')).to_have_value('')
    page.evaluate('new Promise(requestAnimationFrame)')  # by then what was stopped has ended
    assert page.locator('#status, #error').all_text_contents() == ['', '']
    expect(page.locator('#alternatives')).to_be_hidden()
    expect(stop(page)).to_be_disabled()


@pytest.fixture
def held(engine):
    """Lets a text have its first token alone, until it is set."""
    engine.goes_on.clear()
    yield engine.goes_on
    engine.goes_on.set()


@pytest.mark.parametrize('how', ['button', 'key'])
def test_a_text_is_stopped_here_and_in_the_server(opened, held, work, how):
    page = opened(link('The '))
    expect(page.locator('.token')).to_have_count(1)
    (text,) = work.running.values()
    if how == 'button':
        stop(page).click()
    else:
        page.keyboard.press('Escape')
    expect(page.get_by_role('status')).to_have_text('Stopped.')
    assert page.locator('.ended').text_content() == '1 token · stopped'
    until(lambda: text.cancelled)
    held.set()
    until(lambda: not work.running)
    assert text.drawn <= 2 and ended(page).locator('.token').count() == 1


def test_a_token_is_looked_into_another_is_taken_and_continued_from(opened):
    page = ended(opened(link('The ')))
    page.get_by_label('Seed', exact=True).fill('7')  # for the texts that follow, too
    token = page.locator('.token').nth(4)
    token.hover()
    panel = page.get_by_role('dialog')
    expect(panel).to_be_visible()
    before = 'The ' + ''.join(page.locator('.token').all_text_contents()[:4])
    shares = [float(share.rstrip('%'))
              for share in panel.locator('li span:last-child').all_text_contents()]  # fmt: skip
    assert shares == sorted(shares, reverse=True)
    assert 5 <= len(shares) <= 6 and 0 < sum(shares) <= 100.1
    page.mouse.move(0, 0)
    expect(panel).to_be_hidden()
    token.click()
    other = panel.locator('li button:enabled:not([aria-current])').first
    chosen = other.locator('span').first.text_content().replace('␣', ' ').replace('↵', '\n')
    other.click()
    expect(page.locator('#prompt')).to_have_value(before + chosen)
    assert ended(page).locator('.prompt').text_content() == before + chosen
    page.locator('.token').nth(2).click()
    kept = ''.join(page.locator('.token').all_text_contents()[:3])
    page.get_by_role('button', name='Continue from here').click()
    expect(page.locator('#prompt')).to_have_value(before + chosen + kept)
    (whole,) = texts(ended(page))
    page.get_by_role('button', name='Continue', exact=True).click()
    expect(page.locator('#prompt')).to_have_value(whole)
    assert texts(ended(page))[0].startswith(whole)


@pytest.fixture
def lines(opened):
    """The page with a text in which each token is a line."""
    events = [event(text, [likely(text)]) for text in (f' the line {i} of it\n' for i in range(8))]
    return ended(opened(link('It is'), streaming(*events, '[DONE]')))


# Notes each title that the panel shows.
NOTING = """() => {
    window.shown = [];
    const panel = document.querySelector('#alternatives');
    const note = () => panel.hidden || window.shown.push(panel.querySelector('h2').textContent);
    new MutationObserver(note).observe(panel, { attributeFilter: ['hidden'] });
}"""


def test_a_token_is_shown_when_the_pointer_has_moved_there_and_rests(lines):
    panel = lines.get_by_role('dialog')
    lines.evaluate(NOTING)
    for i in range(4):
        lines.locator('.token').nth(i).hover()
    expect(panel).to_contain_text('line␣3')
    lines.mouse.move(0, 0)
    expect(panel).to_be_hidden()
    lines.locator('.token').nth(5).hover()
    lines.set_viewport_size({'width': 1400, 'height': 300})
    lines.mouse.move(100, 150)
    lines.mouse.wheel(0, 200)
    until(lambda: lines.evaluate("document.querySelector('.token:hover') !== null"))
    lines.wait_for_timeout(500)
    assert lines.evaluate('window.shown') == ['␣the␣line␣3␣of␣it↵ · 50%']


@pytest.mark.parametrize('further', [1, 3, 6])
@pytest.mark.parametrize(
    'begin', [0, 1]
)  # the first takes the focus when pressed, for Tab comes to it
def test_text_is_selected_with_the_mouse(lines, begin, further):
    first, last = (lines.locator('.token').nth(i) for i in (begin, begin + further))
    panel = lines.get_by_role('dialog')
    first.hover()
    expect(panel).to_be_visible()
    lines.mouse.down()
    end = last.bounding_box()
    lines.mouse.move(end['x'] + end['width'] - 3, end['y'] + 10, steps=20)
    selected = lines.evaluate('getSelection().toString()')
    assert selected.count('\n') == further and f' the line {begin + further} of' in selected
    lines.mouse.up()
    assert lines.evaluate('getSelection().toString()') == selected
    expect(panel).to_be_hidden()
    lines.mouse.click(5, 5)
    first.click()
    expect(panel).to_contain_text(f'line␣{begin}')


def test_the_alternatives_stay_at_their_token(lines):
    token, panel = lines.locator('.token').nth(1), lines.get_by_role('dialog')

    def apart():
        lines.evaluate('new Promise((next) => requestAnimationFrame(() => setTimeout(next)))')
        (above, height), (top, tall) = (
            (box['y'], box['height']) for box in (token.bounding_box(), panel.bounding_box())
        )
        return round(max(top - above - height, above - top - tall))

    token.click()
    assert apart() == 6
    lines.evaluate("document.querySelector('#error').textContent = 'What stands above has grown.'")
    assert apart() == 6
    lines.set_viewport_size({'width': 800, 'height': 900})  # the settings are above it now
    assert apart() == 6
    lines.set_viewport_size({'width': 360, 'height': 640})
    assert apart() != 6
    box = panel.bounding_box()
    assert (box['x'], box['width'], box['y'] + box['height']) == (0, 360, 640)
    lines.set_viewport_size({'width': 1400, 'height': 900})
    assert apart() == 6


@pytest.mark.parametrize('words', [20, 500])
def test_what_is_continued_comes_into_view(opened, words):
    waiting = []
    answer = written(' word' * words)
    page = ended(opened(link('It', max_tokens=1), answer, width=360, height=480))
    page.unroute_all()
    page.route('**/v1/completions', lambda route: waiting.append(route))
    button = page.get_by_role('button', name='Continue', exact=True)
    button.scroll_into_view_if_needed()
    before = button.bounding_box()['y']
    with page.expect_request('**/v1/completions'):
        button.click()
    expect(stop(page)).to_be_focused()
    assert abs(button.bounding_box()['y'] - before) < 20  # the prompt has more lines now
    until(lambda: page.evaluate('true') and waiting)
    streaming(*[event(' new', [likely(' new')])] * 99, '[DONE]')(waiting[0])
    first = ended(page).locator('.token').first.bounding_box()
    assert 0 <= first['y'] < 480 * 0.7


def test_a_text_that_fills_the_window_is_continued_from_earlier_tokens_alone(opened):
    page = ended(opened(link('It', max_tokens=20), written(' is')))  # a token, of 20
    button = page.get_by_role('button', name='Continue', exact=True)
    expect(button).to_be_disabled()
    reason = "the model's window is full"
    assert page.locator('.ended').text_content() == f'1 token · {reason}'
    assert button.get_attribute('title') == f'Nothing can follow: {reason}'
    page.get_by_label('Length', exact=True).fill('1')
    page.locator('.token').click()
    page.get_by_role('button', name='Continue from here').click()
    expect(button).to_be_enabled()
    assert texts(ended(page)) == ['It is is']


def test_a_carriage_return_is_continued_from_and_in_the_address(opened):
    asked = []

    def answer(route):
        asked.append(route.request.post_data_json['prompt'])
        written('\r\n')(route)

    page = ended(opened(link('It\r', max_tokens=1), answer))
    page.get_by_role('button', name='Continue', exact=True).click()
    expect(page.locator('#prompt')).to_have_value('It\n\n')
    address = ended(page).evaluate('location.hash')
    assert urllib.parse.parse_qs(address.lstrip('#'))['prompt'] == ['It\r\r\n']
    page.get_by_label('Prompt').fill('It\n')
    page.get_by_role('button', name='Generate').click()
    expect(page.locator('.prompt')).to_have_text('It\n')
    assert texts(ended(page)) == ['It\n\r\n'] and asked == ['It\r', 'It\r\r\n', 'It\n']


def test_a_line_break_is_pointed_at(opened):
    events = [event(part, [likely(part, '.')]) for part in (' was', '\n', 'so')]
    page = ended(opened(link('It'), streaming(*events, '[DONE]')))
    page.locator('.sample').hover()
    box = page.locator('.token').first.bounding_box()
    page.mouse.click(box['x'] + box['width'] + 3, box['y'] + box['height'] / 2)
    assert page.locator('#alternatives h2').text_content() == '↵ · 50%'
    page.get_by_role('button', name='Continue from here').click()
    expect(page.locator('#prompt')).to_have_value('It was\n')
    ended(page)


def focused(page):
    return page.evaluate('document.activeElement.textContent.trim() || document.activeElement.id')


def test_the_keyboard_is_enough(opened):
    page = opened()
    seed = "Object.assign(document.querySelector('#seed'), {value: 7})"  # of several lines
    page.evaluate(f"{seed}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    page.keyboard.press('Tab')
    assert focused(page) == 'prompt'
    page.keyboard.type('The ')
    page.keyboard.press('Control+Enter')
    tokens = ended(page).locator('.token').all_text_contents()
    for _ in range(40):
        page.keyboard.press('Tab')
        if page.evaluate("document.activeElement.matches('.token')"):
            break
    assert page.locator('.token:focus').text_content() == tokens[0]
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowLeft')
    assert page.locator('.token:focus').text_content() == tokens[1]
    top = page.locator('.token:focus').bounding_box()['y']
    page.keyboard.press('ArrowDown')
    assert page.locator('.token:focus').bounding_box()['y'] > top
    page.keyboard.press('ArrowUp')
    assert page.locator('.token:focus').bounding_box()['y'] == top
    page.keyboard.press('Home')
    expect(page.get_by_role('dialog')).to_be_visible()
    page.keyboard.press('Enter')
    first, second = page.locator('#alternatives li button:enabled').all()[:2]
    expect(first).to_be_focused()
    page.keyboard.press('ArrowDown')
    expect(second).to_be_focused()
    page.keyboard.press('Escape')
    assert page.locator('.token:focus').text_content() == tokens[0]
    page.keyboard.press('Enter')
    page.keyboard.press('ArrowUp')
    assert focused(page) == 'Continue from here'
    page.keyboard.press('Enter')
    expect(page.locator('#prompt')).to_have_value('The ' + tokens[0])
    ended(page)
    expect(page.get_by_role('button', name='Generate')).to_be_focused()


@pytest.mark.parametrize('width, colors', [(360, 'dark'), (768, 'light'), (1400, 'dark')])
def test_every_width_and_everyone(opened, width, colors):
    """Nothing sticks out, and axe-core has nothing to say, whatever is open."""
    events = [event(text, [likely(text, '\n', 'bytes:\\xe5')]) for text in NASTY.values()]
    page = opened(link(NASTY['a long word'], n=2), streaming(*events), width, colors=colors)
    expect(page.get_by_role('alert')).not_to_be_empty()
    page.locator('.token').nth(3).click()
    page.evaluate("document.querySelector('#settings').open = true")
    expect(page.get_by_role('dialog')).to_be_visible()
    assert page.evaluate('document.documentElement.scrollWidth') == width
    found = Axe().run(page, options=EVERYONE).response['violations']
    page.evaluate("document.querySelector('#key-dialog').showModal()")
    found += Axe().run(page, options=EVERYONE).response['violations']
    assert [(each['id'], node['html']) for each in found for node in each['nodes']] == []
