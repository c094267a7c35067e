/** The page: what was put in is unpacked and shown. */

import { Reading } from './data.js';
import { showHeads } from './head_view.js';
import { showLens } from './lens.js';
import { showModel } from './model_view.js';
import { showText } from './text.js';
import { View } from './view.js';

const find = (selector) => document.querySelector(selector);

const reading = await Reading.unpacked(JSON.parse(find('#data').textContent));
const view = new View(reading);

const number = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;
find('#model').textContent = [
  reading.model,
  number(reading.layers, 'layer'),
  number(reading.heads, 'head'),
  number(reading.tokens.length, 'token'),
].join(' · ');
document.title = `Inside ${reading.model}`;
showText(find('#text'), view);
showHeads(find('#head-view'), view);
showModel(find('#model-view'), view);
showLens(find('#lens'), view);
addEventListener('keydown', ({ key }) => key === 'Escape' && view.letGo());
document.body.dataset.ready = '';
