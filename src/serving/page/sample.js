/** One text as it streams in: its pieces can be pointed at, and reached with the arrow keys. */

import { Pieces, tokensOf } from './tokens.js';

const PROMPT_SHOWN = 300; // characters; all of it stands above, in its field
const ENDS = { length: 'its length is reached', stop: 'it has ended' };
const SAID = 2000; // milliseconds for a short sentence to be read
const FULL = "the model's window is full";

export class Sample {
  #pieces = new Pieces();
  #of = new Map(); // from the element to the piece, in their order
  #tokens = 0;
  #said = null; // the timer after which that is taken away

  /**
   * @param wanted the settings that it is written with
   * @param alternatives the panel that shows what else could stand in a piece's place
   * @param act what a button does: called with its name and this sample
   */
  constructor(number, wanted, alternatives, act) {
    this.number = number;
    this.wanted = wanted;
    this.alternatives = alternatives;
    const template = document.querySelector('#sample');
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.querySelector('h2').textContent = `Sample ${number}`;
    this.shown = this.element.querySelector('.text');
    this.shown.querySelector('.prompt').textContent = tail(wanted.prompt);
    this.element.classList.add('running');
    for (const button of this.element.querySelectorAll('[data-do]')) {
      button.onclick = () => act(button.dataset.do, this);
    }
    this.#listen();
  }

  /** The prompt and what was written. */
  get text() {
    return this.wanted.prompt + [...this.#of.values()].map(({ text }) => text).join('');
  }

  /** Takes a choice of an event of the stream. */
  add({ text, logprobs, finish_reason: reason }) {
    const tokens = tokensOf(logprobs);
    this.#tokens += tokens.length;
    for (const piece of this.#pieces.add(text, tokens)) this.#append(piece);
    if (!reason) return;
    const full = reason === 'length' && this.#tokens < this.wanted.max_tokens;
    this.end(full ? FULL : (ENDS[reason] ?? reason));
    if (full) this.#close();
  }

  /** Where the window is full, the text can be continued from earlier tokens alone. */
  #close() {
    const button = this.element.querySelector('[data-do=continue]');
    button.disabled = true;
    button.title = `Nothing can follow: ${FULL}`;
  }

  /** No more will come; `why` is told beneath the text. */
  end(why) {
    if (!this.element.classList.contains('running')) return;
    for (const piece of this.#pieces.end()) this.#append(piece);
    this.element.classList.remove('running');
    this.element.querySelector('.ended').textContent =
      `${this.#tokens} ${this.#tokens === 1 ? 'token' : 'tokens'} · ${why}`;
  }

  /** Says for a moment what a button has done, where the eyes are. */
  say(text) {
    const said = this.element.querySelector('.said');
    said.textContent = text;
    clearTimeout(this.#said);
    this.#said = setTimeout(() => (said.textContent = ''), SAID);
  }

  pieceOf(element) {
    return this.#of.get(element);
  }

  /** The prompt and the text before a piece. */
  before(element) {
    const pieces = [...this.#of];
    const before = pieces.slice(0, pieces.findIndex(([each]) => each === element));
    return this.wanted.prompt + before.map(([, { text }]) => text).join('');
  }

  /** Moves the focus to a piece. */
  focus(element) {
    this.#rove(element);
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: 'nearest' });
  }

  #append(piece) {
    const element = document.createElement('span');
    element.className = 'token';
    element.classList.toggle('break', piece.text.trim() === '' && piece.text.includes('\n'));
    element.textContent = piece.text;
    if (this.#of.size === 0) this.#rove(element);
    this.#of.set(element, piece);
    this.shown.append(element);
  }

  /** Makes a piece the one that Tab comes to; the others are plain text to a screen reader. */
  #rove(element) {
    const last = this.shown.querySelector('[tabindex="0"]');
    if (last) {
      for (const name of ['tabindex', 'role', 'aria-haspopup']) last.removeAttribute(name);
    }
    element.tabIndex = 0;
    element.setAttribute('role', 'button');
    element.setAttribute('aria-haspopup', 'dialog');
  }

  #listen() {
    const piece = ({ target }) => target.closest('.token');
    this.shown.addEventListener('pointermove', (event) => { // not pointerover: scrolling is that
      if (event.pointerType !== 'touch' && piece(event)) {
        this.alternatives.preview(this, piece(event));
      }
    });
    this.shown.addEventListener('pointerout', () => this.alternatives.leave());
    this.shown.addEventListener('click', (event) => {
      if (!piece(event) || !getSelection().isCollapsed) return;
      this.focus(piece(event));
      this.alternatives.show(this, piece(event)); // where the press has brought the focus already
    });
    this.shown.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !piece(event)) return;
      const next = this.#reached(piece(event), event.key);
      if (event.key === 'Enter' || event.key === ' ') this.alternatives.enter(this, piece(event));
      else if (next) this.focus(next);
      else return;
      event.preventDefault();
    });
    this.shown.addEventListener('focusin', (event) => {
      if (piece(event)) this.alternatives.show(this, piece(event));
    });
    this.shown.addEventListener('focusout', (event) => this.alternatives.blur(event));
  }

  /** The piece that a key leads to, or undefined. */
  #reached(element, key) {
    const all = [...this.#of.keys()];
    const here = all.indexOf(element);
    const forward = this.shown.matches(':dir(rtl)') ? 'ArrowLeft' : 'ArrowRight';
    if (key === forward) return all[here + 1];
    if (key === 'ArrowRight' || key === 'ArrowLeft') return all[here - 1];
    if (key === 'Home') return all[0];
    if (key === 'End') return all.at(-1);
    if (key === 'ArrowUp') return inNextLine(element, all.slice(0, here).reverse());
    if (key === 'ArrowDown') return inNextLine(element, all.slice(here + 1));
    return undefined;
  }
}

/** Of the pieces that follow in some direction, the one above or below. */
function inNextLine(element, following) {
  const box = (each) => each.getClientRects()[0] ?? each.getBoundingClientRect();
  const { left, top, height } = box(element);
  const apart = (a, b) => Math.abs(a - b) > height / 2;
  const first = following.find((each) => apart(box(each).top, top));
  if (!first) return undefined;
  const line = following.filter((each) => !apart(box(each).top, box(first).top));
  const distance = (each) => Math.abs(box(each).left - left);
  return line.reduce((best, each) => (distance(each) < distance(best) ? each : best));
}

/** The end of a long prompt, from a word on. */
function tail(prompt) {
  if (prompt.length <= PROMPT_SHOWN) return prompt;
  const end = prompt.slice(-PROMPT_SHOWN).replace(/^\S{0,30}\s+(?=\S)|^\p{Cs}/u, '');
  return `… ${end}`;
}
