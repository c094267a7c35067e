/** The page: a prompt and settings in, texts out, and what can be done with them. */

import { Alternatives } from './alternatives.js';
import { complete, modelOfServer } from './api.js';
import { copy, savePicture, saveText } from './keeping.js';
import { Sample } from './sample.js';
import * as settings from './settings.js';

const ALTERNATIVES = 5; // of each token

const find = (selector) => document.querySelector(selector);
const form = find('#form');
const stop = find('#stop-writing');
const samples = find('#samples');

let model = null; // its name, once the server has told it
let running = null; // the AbortController of what is written now

const alternatives = new Alternatives(find('#alternatives'), continueFrom);

/**
 * Writes what the form says, and nothing else any more.
 *
 * @param named the model in the address, when the form was filled from there
 */
async function generate(named = null) {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  stop.disabled = false;
  tell('');
  try {
    await introduce();
    mine.signal.throwIfAborted();
    if (form.reportValidity()) await write(asked(named), mine.signal);
  } catch (error) {
    if (error.name !== 'AbortError') tell(error.message);
  }
  if (running === mine) rest();
}

/** What the form asks for, which is put into the address. */
function asked(named) {
  const wanted = settings.read(form);
  const address = settings.address(form, wanted, named ?? model);
  const put = named === null ? 'pushState' : 'replaceState';
  if (location.hash !== address) history[put](null, '', address);
  if (named !== null && named !== model) {
    tell(`This address was made with the model ${named}; ${model} writes other texts.`);
  }
  return wanted;
}

/** Says which model it is, once. */
async function introduce() {
  if (model !== null) return;
  const { name, longest } = await modelOfServer();
  settings.limitLength(form, longest);
  model = name;
  find('#model').textContent = model;
}

/** Streams the texts of a request into the page; those that are there go when the first comes. */
async function write(wanted, signal) {
  const written = Array.from({ length: wanted.n }, (_, i) => {
    return new Sample(i + 1, wanted, alternatives, act);
  });
  samples.ariaBusy = 'true';
  status(wanted.n === 1 ? 'Writing …' : `Writing ${wanted.n} texts …`);
  const begun = performance.now();
  try {
    const request = { model, ...wanted, logprobs: ALTERNATIVES };
    for await (const { choices } of complete(request, signal)) {
      if (!written[0].element.isConnected) show(written);
      const first = !samples.querySelector('.token');
      for (const choice of choices) written[choice.index].add(choice);
      if (first && document.activeElement === stop) seeFirst();
    }
    status(`Done in ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
  } catch (error) {
    if (running?.signal === signal) status(signal.aborted ? 'Stopped.' : '');
    throw error;
  } finally {
    for (const sample of written) sample.end(signal.aborted ? 'stopped' : 'broken off');
  }
}

function show(written) {
  alternatives.hide();
  samples.ariaBusy = 'false';
  samples.replaceChildren(...written.map(({ element }) => element));
}

/** After `continueFrom`, which has left the focus at Stop, perhaps far from what comes. */
function seeFirst() {
  requestAnimationFrame(() => { // when the page has the height of the new text
    samples.querySelector('.token')?.scrollIntoView({ block: 'nearest' });
  });
}

/** Nothing is written any more. */
function rest() {
  running = null;
  samples.ariaBusy = 'false';
  if (document.activeElement === stop) find('#generate').focus({ preventScroll: true });
  stop.disabled = true;
}

function continueFrom(prompt) {
  settings.setPrompt(form, prompt);
  form.requestSubmit();
  stop.focus({ preventScroll: true });
}

/** The buttons of a text. */
async function act(what, sample) {
  try {
    if (what === 'continue') continueFrom(sample.text);
    if (what === 'copy') {
      const told = (await copy(sample.text)) ? 'Copied.' : 'The browser forbids it.';
      status(told);
      sample.say(told);
    }
    if (what === 'text') saveText(sample);
    if (what === 'picture') await savePicture(sample, model);
  } catch (error) {
    tell(error.message);
    sample.say(error.message);
  }
}

function status(text) {
  find('#status').textContent = text;
}

function tell(error) {
  find('#error').textContent = error;
}

/** Fills in what the address says, and writes the text that it names. */
function open() {
  running?.abort();
  rest();
  alternatives.hide();
  samples.replaceChildren();
  status('');
  tell('');
  const named = settings.fill(form, location.hash);
  if (named !== null) generate(named);
  else introduce().catch((error) => tell(error.message));
}

form.onsubmit = (event) => {
  event.preventDefault();
  settings.drawSeed(form);
  generate();
};
stop.onclick = () => running?.abort();
form.addEventListener('invalid', () => (find('#settings').open = true), true);
document.addEventListener('keydown', (event) => {
  if (find('#key-dialog').open) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
  if (event.key === 'Escape') {
    running?.abort();
    alternatives.hide();
  }
});
addEventListener('popstate', open);
find('#settings').open = matchMedia('(min-width: 60rem)').matches; // as in page.css: beside it
settings.connect(form);
open();
