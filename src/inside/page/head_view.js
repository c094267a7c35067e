/** One layer: tokens twice beside each other, and lines from each to where it looks. */

import { fillColour, lineColour, whenColoursChange } from './colours.js';
import { share } from './data.js';
import { visible } from './tokens.js';
import { reveal } from './view.js';

const LEAST = 0.04; // of a line where no token is pointed at
const LEAST_OF_ONE = 0.003; // where one is
const LEAST_STRIPE = 0.01;

export function showHeads(section, view) {
  choosers(section, view);
  const columns = section.querySelector('.columns');
  const sides = { dst: column(columns, 'dst', view), src: column(columns, 'src', view) };
  const canvas = columns.querySelector('canvas');
  let asked = null;
  const lines = () => {
    asked ??= requestAnimationFrame(() => {
      asked = null;
      drawLines(canvas, columns, view);
    });
  };
  columns.addEventListener('scroll', lines);
  new ResizeObserver(lines).observe(columns);
  columns.addEventListener('pointerleave', () => view.leave());
  const draw = () => {
    mark(sides, view);
    if (view.token) reveal(columns, sides.dst[view.token.at]);
    lines();
  };
  view.shownBy(draw);
  whenColoursChange(draw);
}

/** The layer and the heads that are to be seen. */
function choosers(section, view) {
  const { layers, heads } = view.reading;
  const layer = section.querySelector('#layer');
  for (let i = 0; i < layers; i += 1) layer.add(new Option(i, i));
  layer.onchange = () => view.change({ layer: Number(layer.value) });
  const all = Array.from({ length: heads }, (_, head) => head);
  const buttons = all.map((head) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head;
    button.ariaLabel = `Head ${head}`;
    button.onclick = () => {
      const chosen = new Set(view.heads);
      if (!chosen.delete(head)) chosen.add(head);
      view.change({ heads: chosen });
    };
    button.ondblclick = () => view.change({ heads: new Set([head]) });
    return button;
  });
  section.querySelector('#heads').append(...buttons);
  section.querySelector('#all-heads').onclick = () => view.change({ heads: new Set(all) });
  section.querySelector('#no-heads').onclick = () => view.change({ heads: new Set() });
  const draw = () => {
    layer.value = view.layer;
    buttons.forEach((button, head) => {
      button.ariaPressed = view.heads.has(head);
      button.style.setProperty('--line', lineColour(head, heads));
      button.style.setProperty('--fill', fillColour(head, heads));
    });
  };
  view.shownBy(draw);
  whenColoursChange(draw);
}

function column(columns, side, view) {
  const list = columns.querySelector(`.${side}`);
  const items = view.reading.tokens.map((token, at) => {
    const item = document.createElement('li');
    item.textContent = visible(token);
    item.dataset.at = at;
    return item;
  });
  list.append(...items);
  const at = ({ target }) => Number(target.closest('li')?.dataset.at ?? NaN);
  const withToken = (act) => (event) => Number.isNaN(at(event)) || act(at(event), side);
  list.addEventListener('pointerover', withToken((...token) => view.point(...token)));
  list.addEventListener('click', withToken((...token) => view.choose(...token)));
  return items;
}

/** Beside the token that is shown, a stripe for each head on those that it has to do with. */
function mark(sides, view) {
  const { heads } = view.reading;
  const chosen = [...view.heads].sort((a, b) => a - b);
  for (const [side, items] of Object.entries(sides)) {
    items.forEach((item, at) => {
      item.classList.toggle('shown', view.token?.at === at && view.token.side === side);
      const other = view.token && view.token.side !== side;
      const stripes = other ? chosen.map((head) => share(view.byte(head, at))) : [];
      const seen = stripes.some((each) => each >= LEAST_STRIPE);
      item.style.backgroundImage = seen ? striped(stripes, chosen, heads) : '';
    });
  }
}

function striped(shares, chosen, heads) {
  const width = 100 / shares.length;
  const stops = shares.map((each, i) => {
    const colour = fillColour(chosen[i], heads, each ** 0.7);
    return `${colour} ${(i * width).toFixed(2)}% ${((i + 1) * width).toFixed(2)}%`;
  });
  return `linear-gradient(to right, ${stops.join(', ')})`;
}

/** Lines between what can be seen of the columns and all else. */
function drawLines(canvas, columns, view) {
  const { reading, layer, heads, token } = view;
  const { clientHeight, scrollTop } = columns;
  const row = columns.querySelector('li').offsetHeight;
  canvas.style.height = `${clientHeight}px`;
  const { clientWidth: width } = canvas;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(clientHeight * devicePixelRatio);
  const context = canvas.getContext('2d');
  context.scale(devicePixelRatio, devicePixelRatio);
  context.lineWidth = 2;
  const y = (at) => (at + 0.5) * row - scrollTop;
  const begin = Math.max(0, Math.floor(scrollTop / row));
  const end = Math.min(reading.tokens.length, Math.ceil((scrollTop + clientHeight) / row));
  const line = (head, dst, src, byte) => {
    const strength = share(byte);
    if (strength < (token ? LEAST_OF_ONE : LEAST)) return;
    const alpha = token ? strength ** 0.7 : strength * heads.size ** -0.5; // of many, fainter
    context.strokeStyle = lineColour(head, reading.heads, alpha);
    context.beginPath();
    context.moveTo(0, y(dst));
    context.lineTo(width, y(src));
    context.stroke();
  };
  for (const head of heads) {
    if (token) {
      reading.tokens.forEach((_, other) => {
        const [dst, src] = token.side === 'dst' ? [token.at, other] : [other, token.at];
        line(head, dst, src, view.byte(head, other));
      });
      continue;
    }
    for (let dst = begin; dst < reading.tokens.length; dst += 1) {
      const bytes = reading.row(layer, head, dst);
      const seen = dst < end; // or only the sources that can be seen
      for (let src = seen ? 0 : begin; src < (seen ? bytes.length : end); src += 1) {
        line(head, dst, src, bytes[src]);
      }
    }
  }
}
