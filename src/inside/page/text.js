/** The text, in which it is seen where a token looks, and the same in words. */

import { fillColour } from './colours.js';
import { share } from './data.js';
import { roving } from './roving.js';
import { percent, spoken, written } from './tokens.js';
import { reveal } from './view.js';

const TOLD = 6; // tokens

export function showText(section, view) {
  const { reading } = view;
  const elements = reading.tokens.map((token, at) => element(token, at));
  const text = section.querySelector('.text');
  text.append(...elements);
  roving(text, elements, { act: (at) => view.choose(at) });
  text.addEventListener('pointerover', ({ target }) => {
    if (target.dataset.at) view.point(Number(target.dataset.at));
  });
  text.addEventListener('pointerleave', () => view.leave());
  text.addEventListener('focusin', ({ target }) => view.point(Number(target.dataset.at)));
  text.addEventListener('focusout', () => view.leave());
  text.addEventListener('click', ({ target }) => {
    if (target.dataset.at) view.choose(Number(target.dataset.at));
  });
  view.shownBy(() => {
    elements.forEach((each, at) => shade(each, at, view));
    section.querySelector('#said').textContent = said(view);
    if (view.token) reveal(text, elements[view.token.at]);
  });
}

function element(token, at) {
  const span = document.createElement('span');
  span.textContent = written(token);
  span.dataset.at = at;
  span.role = 'button';
  span.ariaLabel = spoken(token);
  return span;
}

/** A token in the colour of the head for which there is most between it and the one shown. */
function shade(element, at, view) {
  element.classList.toggle('shown', view.token?.at === at);
  element.ariaPressed = view.isChosen(at);
  element.style.removeProperty('background-color');
  if (!view.token) return;
  let [best, most] = [null, 0];
  for (const head of view.heads) {
    const byte = view.byte(head, at);
    if (byte > most) [best, most] = [head, byte];
  }
  if (share(most) < 0.01) return;
  const colour = fillColour(best, view.reading.heads, share(most) ** 0.7);
  element.style.setProperty('background-color', colour);
}

function said(view) {
  if (!view.token) return 'Point at a token to see where it looks.';
  const { tokens } = view.reading;
  const { at, side } = view.token;
  const heads = [...view.heads].sort((a, b) => a - b);
  if (!heads.length) return 'No head is chosen.';
  const of = heads.length === 1 ? `head ${heads[0]}` : `mean of ${heads.length} heads`;
  const others = view.strongest(TOLD);
  const list = others.map((each) => `${quoted(tokens[each.at])} ${percent(each.share)}`);
  const verb = side === 'dst' ? 'looks at' : 'is looked at by';
  return `${quoted(tokens[at])} ${verb} ${list.join(', ') || 'none'} (layer ${view.layer}, ${of})`;
}

function quoted(token) {
  return `“${spoken(token)}”`;
}
