/** The panel beside a piece of text: how likely it was, and what could stand in its place. */

import { isText, probability, spoken, visible } from './tokens.js';

const REST = 200; // milliseconds for the pointer to be at a piece, which it may only cross
const LEAVE = 250; // milliseconds for the pointer to come from the piece to the panel
const NARROW = matchMedia('(max-width: 40rem)'); // as in page.css: at the bottom of the screen

export class Alternatives {
  #sample = null;
  #element = null; // of the piece that is shown
  #timer = null; // until a piece is shown that is pointed at, or the panel hides
  #pressed = false; // a button of the mouse, as it is while text is selected

  /** @param choose called with the text that shall be continued */
  constructor(panel, choose) {
    this.panel = panel;
    this.choose = choose;
    panel.addEventListener('pointerenter', () => clearTimeout(this.#timer));
    panel.addEventListener('pointerleave', () => this.leave());
    panel.addEventListener('mousedown', (event) => event.preventDefault()); // keeps the focus
    panel.addEventListener('focusout', (event) => this.blur(event));
    panel.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener('click', ({ target }) => this.#ours(target) || this.hide());
    document.addEventListener('pointerdown', (event) => this.#press(event));
    for (const name of ['pointerup', 'pointercancel']) {
      document.addEventListener(name, () => (this.#pressed = false));
    }
    const moved = new ResizeObserver(() => panel.hidden || this.#place());
    for (const each of document.querySelectorAll('body, .writing, #samples')) moved.observe(each);
    panel.querySelector('#continue-here').onclick = () => {
      const { text } = this.#sample.pieceOf(this.#element);
      this.#chosen(text);
    };
  }

  /** Shows a piece that the pointer comes to rest at, unless another has the focus. */
  preview(sample, element) {
    if (this.#focused()) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.show(sample, element), REST);
  }

  show(sample, element) {
    if (this.#pressed) return; // it would be in the way of what is selected; a click comes again
    clearTimeout(this.#timer);
    if (this.#element === element && !this.panel.hidden) return;
    this.hide();
    [this.#sample, this.#element] = [sample, element];
    element.classList.add('shown');
    element.setAttribute('aria-describedby', 'alternatives-title');
    this.#fill(sample.pieceOf(element));
    this.panel.hidden = false;
    this.#place();
  }

  hide() {
    clearTimeout(this.#timer);
    this.panel.hidden = true;
    this.#element?.classList.remove('shown');
    this.#element?.removeAttribute('aria-describedby');
  }

  /** The pointer has left the piece or the panel. */
  leave() {
    clearTimeout(this.#timer);
    if (!this.#focused()) this.#timer = setTimeout(() => this.hide(), LEAVE);
  }

  /** The focus goes elsewhere. */
  blur({ relatedTarget }) {
    if (!this.#ours(relatedTarget)) this.hide();
  }

  /** Moves the focus from the piece into the panel. */
  enter(sample, element) {
    this.show(sample, element);
    this.#buttons()[0].focus();
  }

  /** A mouse that is pressed beside the panel may be about to select what lies under it. */
  #press({ pointerType, target }) {
    if (pointerType !== 'mouse' || this.panel.contains(target)) return;
    this.#pressed = true;
    this.hide();
  }

  #focused() {
    return !this.panel.hidden && this.#ours(document.activeElement);
  }

  #ours(element) {
    return element === this.#element || this.panel.contains(element);
  }

  #buttons() {
    return [...this.panel.querySelectorAll('button:enabled')];
  }

  #key(event) {
    const buttons = this.#buttons();
    const here = buttons.indexOf(document.activeElement);
    if (event.key === 'Escape') this.#sample.focus(this.#element);
    else if (event.key === 'ArrowDown') buttons[(here + 1) % buttons.length].focus();
    else if (event.key === 'ArrowUp') buttons.at(here - 1).focus();
    else return;
    event.preventDefault();
    event.stopPropagation(); // Escape stops the text elsewhere
  }

  #chosen(text) {
    const prompt = this.#sample.before(this.#element) + text;
    this.hide();
    this.choose(prompt);
  }

  #fill({ text, tokens }) {
    const logprob = tokens.reduce((sum, token) => sum + token.logprob, 0);
    const said = tokens.length ? `${visible(text)} · ${probability(logprob)}` : visible(text);
    this.panel.querySelector('h2').textContent = said;
    const list = this.panel.querySelector('ol');
    list.replaceChildren();
    if (tokens.length === 0) return;
    const [first] = tokens;
    for (const [label, logprob] of first.alternatives) {
      const item = document.createElement('li');
      item.append(this.#button(label, logprob, label === first.label));
      list.append(item);
    }
  }

  #button(label, logprob, current) {
    const button = document.createElement('button');
    const [word, bar, number] = ['span', 'i', 'span'].map((tag) => document.createElement(tag));
    word.textContent = visible(label);
    word.dir = 'auto';
    bar.style.setProperty('--share', Math.exp(logprob));
    number.textContent = probability(logprob);
    button.type = 'button';
    button.append(word, bar, number);
    button.setAttribute('aria-label', `${spoken(label)}, ${probability(logprob)}`);
    if (current) button.setAttribute('aria-current', 'true');
    button.disabled = !isText(label);
    if (button.disabled) button.title = 'Half a character, which no prompt can end in';
    button.onclick = () => this.#chosen(label);
    return button;
  }

  /** Beneath the piece, or above it where there is no room. */
  #place() {
    const { style } = this.panel;
    style.removeProperty('left');
    style.removeProperty('top');
    if (NARROW.matches) return;
    const boxes = [...this.#element.getClientRects()];
    const box = boxes[0] ?? this.#element.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.panel;
    const { clientWidth, clientHeight } = document.documentElement;
    const below = (boxes.at(-1) ?? box).bottom + 6;
    const above = box.top - height - 6;
    const top = below + height > clientHeight && above > 0 ? above : below;
    style.left = `${Math.max(8, Math.min(box.left, clientWidth - width - 8)) + scrollX}px`;
    style.top = `${top + scrollY}px`;
  }
}
