/**
 * From the tokens that stream in to pieces of text.
 *
 * A piece is whole characters with the tokens that are in it: mostly one, several where a
 * character is spread over them. A token is {label, logprob, alternatives: [[label, logprob], …]}.
 * Its label is its text, or where this is not whole characters, its bytes as OpenAI writes them:
 * bytes:\xe5.
 */

const BYTES = /^bytes:((?:\\x[0-9a-f]{2})+)$/i;

/** The tokens of an event's logprobs. */
export function tokensOf(logprobs) {
  if (!logprobs) return [];
  return logprobs.tokens.map((label, i) => {
    const logprob = logprobs.token_logprobs[i];
    const alternatives = Object.entries({ ...logprobs.top_logprobs?.[i], [label]: logprob });
    return { label, logprob, alternatives: alternatives.sort((a, b) => b[1] - a[1]) };
  });
}

/** The pieces of a text. What they show is the text, which is right even if labels are not. */
export class Pieces {
  #open = []; // tokens in the middle of a character
  #waiting = []; // {tokens, length} of pieces whose text has not come
  #text = ''; // that no piece has

  /** The pieces that an event completes, each {text, tokens}. */
  *add(text, tokens) {
    this.#text += text;
    for (const token of tokens) {
      this.#open.push(token);
      const known = decoded(this.#open.map(({ label }) => label));
      if (known === null) continue;
      this.#waiting.push({ tokens: this.#open, length: known.length });
      this.#open = [];
    }
    if (tokens.length === 0 && text !== '' && this.#waiting.length === 0) yield* this.end();
    while (this.#waiting.length && this.#waiting[0].length <= this.#text.length) yield this.#next();
  }

  /** What is left: a text that was cut in a token, or one whose tokens nobody told. */
  *end() {
    while (this.#waiting.length && this.#text) yield this.#next();
    if (this.#text) yield { text: this.#text, tokens: this.#open };
    [this.#open, this.#waiting, this.#text] = [[], [], ''];
  }

  #next() {
    const { tokens, length } = this.#waiting.shift();
    const text = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    return { text, tokens };
  }
}

/** The text of tokens, or null when they end in the middle of a character. */
function decoded(labels) {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const bytes = Uint8Array.from(labels.flatMap((label) => [...bytesOf(label)]));
  const text = decoder.decode(bytes, { stream: true });
  return decoder.decode() === '' ? text : null;
}

function bytesOf(label) {
  const bytes = BYTES.exec(label);
  if (!bytes) return new TextEncoder().encode(label);
  return bytes[1].split('\\x').slice(1).map((hex) => parseInt(hex, 16));
}

/** Whether a prompt can end in it: half a character is no text. */
export function isText(label) {
  return !BYTES.test(label);
}

/** A label in which what is invisible is seen. */
export function visible(label) {
  return label
    .replace(BYTES, '$1')
    .replace(/ /g, '␣')
    .replace(/\n/g, '↵')
    .replace(/\t/g, '⇥')
    .replace(/[\p{C}\p{Z}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** A label as it is said. */
export function spoken(label) {
  const names = { ' ': 'space', '\n': 'line break', '\t': 'tab' };
  return label.trim() || [...label].map((c) => names[c] ?? visible(c)).join(' ');
}

const percent = new Intl.NumberFormat('en', { style: 'percent', maximumSignificantDigits: 3 });

/** A probability, of its logarithm. */
export function probability(logprob) {
  return percent.format(Math.exp(logprob));
}
