/**
 * What is asked for: the form's fields have the names that the API and the address have.
 *
 * The address keeps them behind its #, which browsers do not send to any server.
 */

const NUMBERS = ['temperature', 'top_k', 'top_p', 'max_tokens', 'n', 'seed'];
const MOST_STOPS = 4;
const SEEDS = 1_000_000; // of those that are drawn, few enough to be typed again

let exact = ''; // the prompt that `setPrompt` was given

/** What the form says, as the API has it. */
export function read(form) {
  const settings = { prompt: promptOf(form) };
  for (const name of NUMBERS) settings[name] = form.elements[name].valueAsNumber;
  settings.stop = stopTexts(form.elements.stop.value);
  return settings;
}

/** The part of the address from # on that brings the same text again, and the form as it is. */
export function address(form, settings, model) {
  const { stop, ...others } = settings;
  const parameters = new URLSearchParams({ ...others, model });
  for (const text of stop) parameters.append('stop', text);
  if (!form.elements.draw.checked) parameters.set('draw', 'off');
  return `#${parameters}`;
}

/**
 * Fills the form from what `address` gave; what that does not say has its default.
 * Returns the model that wrote the text that it names, or null.
 */
export function fill(form, hash) {
  const parameters = new URLSearchParams(hash.slice(1));
  form.reset();
  if (parameters.has('prompt')) setPrompt(form, parameters.get('prompt'));
  for (const name of NUMBERS) {
    if (parameters.has(name)) form.elements[name].value = parameters.get(name);
  }
  form.elements.draw.checked = parameters.get('draw') !== 'off';
  if (parameters.has('model') && form.elements.seed.value === '') drawSeed(form);
  form.elements.stop.value = parameters.getAll('stop').map(escaped).join('\n');
  checkStops(form);
  moveSliders(form);
  return parameters.get('model');
}

/** Makes a text the prompt until another is typed, with each \r that the model wrote. */
export function setPrompt(form, text) {
  exact = text;
  form.elements.prompt.value = text;
}

/** What the field shows: it makes one \n of \r and of \r\n, which are other tokens. */
function promptOf(form) {
  const shown = form.elements.prompt.value;
  return shown === exact.replace(/\r\n?/g, '\n') ? exact : shown;
}

/** Draws the next seed, unless one was typed. */
export function drawSeed(form) {
  const { draw, seed } = form.elements;
  if (draw.checked || seed.value === '') seed.value = Math.floor(Math.random() * SEEDS);
}

/** Sliders and numbers follow each other; a seed that is typed stays. */
export function connect(form) {
  form.addEventListener('input', ({ target }) => {
    if (target.dataset.of) form.elements[target.dataset.of].value = target.value;
    if (target.name === 'seed') form.elements.draw.checked = target.value === '';
    if (target.name === 'stop') checkStops(form);
    moveSliders(form);
  });
}

/** Lets nobody ask for more tokens than the model has room for. */
export function limitLength(form, longest) {
  const number = form.elements.max_tokens;
  const usual = number.value === number.defaultValue;
  number.max = form.querySelector('[data-of=max_tokens]').max = longest;
  number.defaultValue = Math.min(number.defaultValue, longest);
  if (usual) number.value = number.defaultValue;
  moveSliders(form);
}

function moveSliders(form) {
  for (const slider of form.querySelectorAll('[data-of]')) {
    slider.value = form.elements[slider.dataset.of].value;
  }
}

function checkStops(form) {
  const given = stopTexts(form.elements.stop.value).length;
  form.elements.stop.setCustomValidity(
    given > MOST_STOPS ? `These are ${given} stop texts; ${MOST_STOPS} are allowed.` : '',
  );
}

/** A text of each line that is not empty; \n in it is a line break, \\ a backslash. */
function stopTexts(lines) {
  const unescaped = (line) => line.replace(/\\([n\\])/g, (_, c) => (c === 'n' ? '\n' : c));
  return lines.split('\n').filter(Boolean).map(unescaped);
}

function escaped(text) {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
