"""The page that shows what a model does with a text: its file, what is refused, and in a browser.

In the browser, Debian's chromium, it is compared with what lm.inside says of the same text.
"""

import base64
import hashlib
import json
import pathlib
import re

import browsers
import numpy as np
import oracle
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from playwright.sync_api import expect

import src as gpt2
from src.inside import attention_view
from src.sampling import backends

PAGE = pathlib.Path(attention_view.PAGE)
FILES = {path.name: path.read_text('utf-8') for path in sorted(PAGE.iterdir())}
TEXT = '</script><b>"&amp;\n<|endoftext|>!--'
MODEL = str(ROOT / 'models' / 'shakespeare')  # 6 layers of 4 heads
SHOWN = (
    'ROMEO:\nWhat light through yonder window breaks? </script><b>no</b> <!-- 从 \t'
    'It is the east, and Juliet is the sun.'
)


def written(**flags):
    """The text of the page that the command writes."""
    attention_view.attention_view(attention_view.AttentionViewConfig(**flags))
    return pathlib.Path(flags['out']).read_text('utf-8')


def test_the_page_is_one_file_that_asks_for_no_other(place, capsys):
    page = written(model_name='tiny', text=TEXT, out='page.html')
    assert capsys.readouterr().err.endswith('Wrote page.html\n')
    assert re.findall(r'\w+://|@import|url\(', page) == []
    assert re.findall(r'(?:src|href)="(?!data:,")', page) == []
    assert re.findall(r'<!-- \w+ -->|^import|^export', page, re.MULTILINE) == []
    data, script = re.findall(r'<script type="[^"]*"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert page.count('<script') == page.count('</script') == 2 and '<' not in data
    assert ''.join(json.loads(data)['tokens']) == TEXT
    (style,) = re.findall(r'<style>(.*?)</style>', page, re.DOTALL)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none'; ")
    for name, content in (('script', script), ('style', style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize('name', FILES)
def test_no_file_of_the_page_reads_text_as_html(name):
    text = FILES[name]
    assert len(text.splitlines()) <= 300 and max(map(len, text.splitlines())) <= 100
    assert re.findall(r'HTML\b|document\.write|\beval\b|\bFunction\b|</script', text) == []
    assert re.findall(r'\son\w+="|\sstyle="', text) == []
    assert name in (*attention_view.SCRIPTS, *attention_view.STYLES, 'index.html')
    before = attention_view.SCRIPTS[: attention_view.SCRIPTS.index(name)] if '.js' in name else ()
    assert set(re.findall(r"from '\./(.*)'", text)) <= set(before)


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ({'text': ''}, '--text is empty'),
        ({'text': 'é'}, "The vocabulary has no token 'é'"),
        ({'text': 'A' * 33}, '--text is 33 tokens; the window of this model is 32'),
        ({'out': 'text'}, 'text is there already, and stays as it is; name a new --out'),
        ({'out': 'none/page.html'}, 'there is no folder to write none/page.html into'),
        ({'model_name': 'none'}, 'There is no models/none'),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_model_is_loaded(
    place, monkeypatch, flags, complaint
):
    monkeypatch.setattr(backends, 'load', None)
    before = pathlib.Path('text').read_bytes()
    with pytest.raises(ValueError) as error:
        written(**{'model_name': 'tiny', 'text': 'A', 'out': 'page.html', **flags})
    assert complaint in str(error.value) and '\n' not in str(error.value)
    assert pathlib.Path('text').read_bytes() == before
    assert not pathlib.Path('page.html').exists()


def test_a_page_has_room_for_so_much(place, monkeypatch):
    monkeypatch.setattr(attention_view, 'MOST_BYTES', 3 * 16 * 17 // 2)
    monkeypatch.setattr(backends, 'load', None)
    with pytest.raises(ValueError) as error:
        written(model_name='tiny', text='A' * 17, out='page.html')
    assert str(error.value) == (
        '--text is 17 tokens; of a model with 3 heads in all its layers, a page has room for 16: '
        'give a shorter one'
    )
    attention_view.require_room(16, {'n_ctx': 32, 'n_layer': 1, 'n_head': 3})
    attention_view.require_room(17, {'n_ctx': 0, 'n_layer': 1, 'n_head': 'x'})  # refused elsewhere


@pytest.fixture(scope='module')
def inside():
    return gpt2.load(MODEL).inside(SHOWN)


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'page.html'
    config = {'model_name': MODEL, 'text': SHOWN, 'out': str(path)}
    attention_view.attention_view(attention_view.AttentionViewConfig(**config))
    return path.as_uri()


@pytest.fixture(scope='module')
def tab():
    with browsers.tab() as tab:
        yield tab


@pytest.fixture
def opened(tab, address):
    """Open the page. No script may fail in it, and nothing may be asked of any address."""

    def opened(width=1400, colors='light'):
        tab.set_viewport_size({'width': width, 'height': 900})
        tab.emulate_media(color_scheme=colors)
        tab.goto(address)
        tab.wait_for_selector('body[data-ready]')
        return tab

    with browsers.watched(tab, address):
        yield opened


def tokens(page):
    return page.locator('.text span')


def said(page):
    """({token: per cent}, what stands in brackets) of the sentence beneath the text."""
    sentence = page.locator('#said').text_content()
    list, of = re.fullmatch(r'“.*?” (?:looks at|is looked at by) (.*) \((.*)\)', sentence).groups()
    return [float(share) for share in re.findall(r'” ([\d.]+)%', list)], of


def close(found, shares, most=6):
    """Per cents are those of the largest shares, kept as 255 √p, and shown with two digits."""
    shares = np.sort(shares)[::-1][:most]
    shares = shares[shares >= 0.001]  # the others are not shown
    assert len(found) == len(shares) > 0
    digit = 10.0 ** (np.floor(np.log10(found)) - 1)
    off = np.abs(found - 100 * shares)
    assert np.all(off <= digit / 2 + 100 / 255 * np.sqrt(shares)), (found, shares)


def test_a_token_is_pointed_at_and_heads_are_chosen(opened, inside):
    page, (attentions, at) = opened(), (inside.attentions, 20)
    expect(page.locator('#model')).to_have_text(
        f'shakespeare · 6 layers · 4 heads · {len(inside.ids)} tokens'
    )
    tokens(page).nth(at).hover()
    shares, of = said(page)
    assert of == 'layer 0, mean of 4 heads'
    close(shares, attentions[0, :, at].mean(axis=0))
    page.get_by_label('Layer', exact=True).select_option('4')
    page.get_by_role('button', name='Head 1').click()
    page.get_by_role('button', name='Head 3').click()
    tokens(page).nth(at).hover()
    shares, of = said(page)
    assert of == 'layer 4, mean of 2 heads'
    close(shares, attentions[4, [0, 2], at].mean(axis=0))
    page.get_by_role('button', name='None').click()
    tokens(page).nth(at).hover()
    expect(page.locator('#said')).to_have_text('No head is chosen.')
    page.get_by_role('gridcell', name='Layer 2, head 3:').click()
    expect(page.get_by_label('Layer', exact=True)).to_have_value('2')
    assert page.locator('#heads [aria-pressed="true"]').all_text_contents() == ['3']
    page.locator('.src li').nth(at).click()  # who looks at it; and it stays
    page.mouse.move(0, 0)
    shares, of = said(page)
    assert of == 'layer 2, head 3'
    close(shares, attentions[2, 3, :, at])
    page.keyboard.press('Escape')
    expect(page.locator('#said')).to_contain_text('Point at a token')


# How much ink there is in each point of a canvas, or of a picture.
INK = """(drawn) => {
    const width = drawn.naturalWidth ?? drawn.width; // a picture is shown larger
    const height = drawn.naturalHeight ?? drawn.height;
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    canvas.getContext('2d').drawImage(drawn, 0, 0);
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    const alpha = Array.from({ length: width * height }, (_, i) => data[4 * i + 3]);
    return { width, height, alpha };
}"""


def ink(drawn):  # -> [height, width]
    picture = drawn.evaluate(INK)
    return np.array(picture['alpha']).reshape(picture['height'], picture['width'])


def test_lines_go_from_a_token_to_where_it_looks(opened, inside):
    page, at = opened(), 12
    page.get_by_role('gridcell', name='Layer 5, head 2:').click()
    page.locator('.dst li').nth(at).hover()
    page.evaluate('new Promise((drawn) => requestAnimationFrame(drawn))')
    lines, row = ink(page.locator('.columns canvas')), 24
    left, right = (lines[:, x].reshape(-1) for x in (3, -3))
    assert abs(np.average(np.arange(len(left)), weights=left) / row - at - 0.5) < 0.3
    strengths = [right[src * row + 8 : src * row + 16].max() for src in range(22)]
    shares = np.where(inside.attentions < 0.003, 0, inside.attentions)[5, 2, at, :22]
    np.testing.assert_allclose(strengths, 255 * shares**0.7, rtol=0, atol=8)
    tokens(page).last.hover()  # the columns are scrolled to it
    token, box = (page.locator(each).last.bounding_box() for each in ('.dst li', '.columns'))
    assert box['y'] < token['y'] and token['y'] + row <= box['y'] + box['height'] + 1


def test_the_small_pictures_are_the_attention(opened, inside):
    page, size = opened(), len(inside.ids)
    assert size <= 64  # or points would be several tokens
    for layer, head in ((0, 0), (3, 1), (5, 3)):
        picture = page.locator('#model-view img').nth(layer * 4 + head)
        np.testing.assert_allclose(
            (ink(picture) / 255) ** 2, inside.attentions[layer, head], rtol=0, atol=0.004
        )


def test_the_logit_lens(opened, inside):
    page, lm = opened(), gpt2.load(MODEL)
    cells, size = page.locator('#lens td[tabindex]'), len(inside.ids)
    best = inside.logits.argmax(axis=-1)
    seen = np.array(cells.all_text_contents()).reshape(7, size)
    for layer, at in ((0, 3), (2, 9), (6, 17), (6, size - 1)):
        text = lm.decode([int(best[layer, at])])
        assert seen[layer, at] == text.replace(' ', '␣').replace('\n', '↵')
    right = page.locator('#lens tr:last-child .right').count()
    assert right == (best[-1, :-1] == inside.ids[1:]).sum() > 0
    told = page.locator('#lens .told')
    cells.nth(3 * size + 17).hover()
    expect(told.locator('h3')).to_have_text(re.compile('After “.*”, with 3 layers'))
    tokens(page).nth(17).hover()
    expect(told.locator('h3')).to_have_text(re.compile('After “.*”, with 6 layers'))
    shares = oracle.softmax(inside.logits[6, 17].astype(float))
    found = told.locator('li span:last-child').all_text_contents()
    close([float(each.rstrip('%')) for each in found], shares, most=5)


def test_whatever_the_text_is_it_is_shown_as_text(opened, inside):
    page = opened()
    shown = ''.join(tokens(page).all_text_contents())
    assert shown == SHOWN.replace('\n', '↵\n').replace('从', '\\xe4\\xbb\\x8e').replace('\t', '⇥')
    assert page.locator('b').all_text_contents() == ['Bold']
    assert page.title() == 'Inside shakespeare'


def test_the_keyboard_is_enough(opened, inside):
    page = opened()
    page.keyboard.press('Tab')
    for key in ('ArrowRight', 'ArrowRight', 'ArrowDown', 'ArrowLeft'):
        page.keyboard.press(key)
    assert page.locator('.text span:focus').get_attribute('data-at') == '2'
    close(said(page)[0], inside.attentions[0, :, 2].mean(axis=0))
    page.keyboard.press('Enter')
    for _ in range(30):
        page.keyboard.press('Tab')
        if page.evaluate("document.activeElement.matches('#model-view td')"):
            break
    for key in ('ArrowDown', 'ArrowDown', 'ArrowRight', 'End', 'ArrowLeft', 'Enter'):
        page.keyboard.press(key)
    expect(page.get_by_label('Layer', exact=True)).to_have_value('2')
    close(said(page)[0], inside.attentions[2, 2, 2])  # of the token that was kept
    page.keyboard.press('Tab')
    page.keyboard.press('ArrowRight')
    expect(page.locator('#lens h3')).to_have_text(re.compile('with 0 layers'))


@pytest.mark.parametrize('width, colors', [(360, 'dark'), (768, 'light'), (1400, 'dark')])
def test_every_width_and_everyone(opened, width, colors):
    """Nothing sticks out, and axe-core has nothing to say, with a token that is kept."""
    page = opened(width, colors)
    tokens(page).nth(20).click()
    assert page.evaluate('document.documentElement.scrollWidth') == width
    found = Axe().run(page, options=browsers.EVERYONE).response['violations']
    assert [(each['id'], node['html']) for each in found for node in each['nodes']] == []
