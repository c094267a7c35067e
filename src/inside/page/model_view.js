/** All heads of all layers, small. */

import { ink, whenColoursChange } from './colours.js';
import { share } from './data.js';
import { roving } from './roving.js';
import { percent } from './tokens.js';

const POINTS = 64; // along each side of a small picture

export function showModel(section, view) {
  const { reading } = view;
  const { layers, heads } = reading;
  const table = section.querySelector('table');
  const told = section.querySelector('.told');
  table.append(headings(heads));
  const cells = [];
  for (let layer = 0; layer < layers; layer += 1) {
    const row = table.insertRow();
    row.append(heading('row', layer, `Layer ${layer}`));
    for (let head = 0; head < heads; head += 1) {
      const cell = row.insertCell();
      cell.ariaLabel = about(reading, layer, head);
      cell.append(Object.assign(document.createElement('img'), { alt: '' }));
      cells.push(cell);
    }
  }
  const place = ({ target }) => cells.indexOf(target.closest('td'));
  const choose = (at) => {
    view.change({ layer: Math.floor(at / heads), heads: new Set([at % heads]) });
  };
  const tell = (event) => {
    if (place(event) >= 0) told.textContent = cells[place(event)].ariaLabel;
  };
  roving(table, cells, { columns: heads, act: choose });
  table.addEventListener('click', (event) => place(event) >= 0 && choose(place(event)));
  table.addEventListener('pointerover', tell);
  table.addEventListener('focusin', tell);
  const canvas = document.createElement('canvas'); // one for all: a thousand of them are slow
  const draw = () => cells.forEach((cell, at) => {
    drawHead(canvas, reading, Math.floor(at / heads), at % heads);
    cell.firstChild.src = canvas.toDataURL();
  });
  draw();
  whenColoursChange(draw);
  view.shownBy(() => cells.forEach((cell, at) => {
    cell.ariaSelected = Math.floor(at / heads) === view.layer && view.heads.has(at % heads);
  }));
}

function headings(heads) {
  const row = document.createElement('tr');
  row.append(document.createElement('td'));
  for (let head = 0; head < heads; head += 1) row.append(heading('col', head, `Head ${head}`));
  return row;
}

/** Of a row ('row') or of a column ('col'). */
export function heading(scope, text, label) {
  const cell = document.createElement('th');
  cell.scope = scope;
  cell.textContent = text;
  cell.ariaLabel = label;
  return cell;
}

/** What a head does with most texts: how much it looks at which place, on average. */
function about(reading, layer, head) {
  const size = reading.tokens.length;
  const mean = (src, begin) => {
    let sum = 0;
    for (let dst = begin; dst < size; dst += 1) {
      sum += share(reading.byte(layer, head, dst, src(dst)));
    }
    return percent(sum / (size - begin));
  };
  const told = [`${mean((dst) => dst, 0)} at itself`];
  if (size > 1) {
    told.unshift(`${mean((dst) => dst - 1, 1)} at the one before`);
    told.unshift(`${mean(() => 0, 1)} at the first token`);
  }
  return `Layer ${layer}, head ${head}: a token looks ${told.join(', ')}`;
}

/** The strongest of all shares that come together in a point. */
function drawHead(canvas, reading, layer, head) {
  const size = reading.tokens.length;
  const points = Math.min(size, POINTS);
  [canvas.width, canvas.height] = [points, points];
  const context = canvas.getContext('2d');
  const picture = context.createImageData(points, points);
  for (let dst = 0; dst < size; dst += 1) {
    const bytes = reading.row(layer, head, dst);
    const row = points * Math.floor((dst * points) / size);
    for (let src = 0; src <= dst; src += 1) {
      const alpha = 4 * (row + Math.floor((src * points) / size)) + 3;
      if (bytes[src] > picture.data[alpha]) picture.data[alpha] = bytes[src];
    }
  }
  const colour = ink();
  for (let i = 0; i < picture.data.length; i += 4) picture.data.set(colour, i);
  context.putImageData(picture, 0, 0);
}
