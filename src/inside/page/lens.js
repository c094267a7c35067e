/** The logit lens: what each layer would say after each token. */

import { heading } from './model_view.js';
import { roving } from './roving.js';
import { percent, spoken, visible } from './tokens.js';
import { reveal } from './view.js';

export function showLens(section, view) {
  const { reading } = view;
  const { tokens } = reading;
  const table = section.querySelector('table');
  const top = table.insertRow();
  top.append(document.createElement('td'));
  const headings = tokens.map((token) => heading('col', visible(token), spoken(token)));
  top.append(...headings);
  const cells = [];
  for (let layer = 0; layer <= reading.layers; layer += 1) {
    const row = table.insertRow();
    row.append(heading('row', layer, `With ${layers(layer)}`));
    tokens.forEach((_, at) => {
      const cell = row.insertCell();
      fill(cell, reading, layer, at);
      cells.push(cell);
    });
  }
  const places = new Map(cells.map((cell, place) => [cell, place]));
  const show = (place) => {
    tell(section, reading, Math.floor(place / tokens.length), place % tokens.length);
  };
  const withPlace = (act) => ({ target }) => {
    const place = places.get(target.closest('td'));
    if (place !== undefined) act(place);
  };
  const look = withPlace((place) => {
    view.point(place % tokens.length); // which shows what the last layer says there
    show(place);
  });
  const choose = (place) => view.choose(place % tokens.length);
  roving(table, cells, { columns: tokens.length, act: choose });
  table.addEventListener('pointerover', look);
  table.addEventListener('focusin', look);
  table.addEventListener('click', withPlace(choose));
  table.addEventListener('pointerleave', () => view.leave());
  table.addEventListener('focusout', () => view.leave());
  view.shownBy(() => {
    headings.forEach((each, at) => each.classList.toggle('shown', view.token?.at === at));
    show(reading.layers * tokens.length + (view.token?.at ?? tokens.length - 1));
    if (view.token) reveal(table.parentElement, cells[view.token.at]);
  });
}

function fill(cell, reading, layer, at) {
  const [{ word, probability }] = reading.next(layer, at);
  cell.textContent = visible(word);
  const place = `after ${spoken(reading.tokens[at])}, with ${layers(layer)}`;
  cell.ariaLabel = `${spoken(word)} ${percent(probability)}, ${place}`;
  cell.style.setProperty('--share', probability.toFixed(3));
  cell.classList.toggle('right', word === reading.tokens[at + 1]);
}

function layers(number) {
  return number === 1 ? '1 layer' : `${number} layers`;
}

/** The likeliest of one place. */
function tell(section, reading, layer, at) {
  const place = `After “${visible(reading.tokens[at])}”, with ${layers(layer)}`;
  section.querySelector('h3').textContent = place;
  section.querySelector('ol').replaceChildren(...reading.next(layer, at).map((each) => {
    const item = document.createElement('li');
    const [word, bar, number] = ['span', 'i', 'span'].map((tag) => document.createElement(tag));
    word.textContent = visible(each.word);
    bar.style.setProperty('--share', each.probability);
    number.textContent = percent(each.probability);
    item.append(word, bar, number);
    item.classList.toggle('right', each.word === reading.tokens[at + 1]);
    return item;
  }));
}
