/** What the page shows, as attention_view.py has put it in. */

const LARGEST = 255; // the byte of a probability of 1; that of another is LARGEST * sqrt(p)

const SHARES = Float64Array.from({ length: LARGEST + 1 }, (_, byte) => (byte / LARGEST) ** 2);

/** The probability that a byte stands for. */
export function share(byte) {
  return SHARES[byte];
}

/** A text, what a model is, and what it did with the text. */
export class Reading {
  /** @param told what is in the page; attention and lens are packed */
  static async unpacked(told) {
    const [attention, lens] = await Promise.all([unpacked(told.attention), unpacked(told.lens)]);
    return new Reading(told, attention, lens);
  }

  constructor({ model, layers, heads, tokens, words, likeliest }, attention, lens) {
    Object.assign(this, { model, layers, heads, tokens, words, likeliest });
    this.attention = attention; // bytes [layer, head, the triangle of dst and src]
    const size = (layers + 1) * tokens.length * likeliest;
    this.ids = new Uint32Array(lens.buffer, 0, size); // of words, [layer + 1, token, likeliest]
    this.probabilities = lens.subarray(4 * size); // their bytes
  }

  /** The bytes of where the token `dst` looks: at itself and at each before it. */
  row(layer, head, dst) {
    const begin = this.#begin(layer, head, dst);
    return this.attention.subarray(begin, begin + dst + 1);
  }

  byte(layer, head, dst, src) {
    return this.attention[this.#begin(layer, head, dst) + src];
  }

  #begin(layer, head, dst) {
    const triangle = (this.tokens.length * (this.tokens.length + 1)) / 2;
    return (layer * this.heads + head) * triangle + (dst * (dst + 1)) / 2;
  }

  /** The likeliest to come after a token, with `layer` layers, each {word, probability}. */
  next(layer, token) {
    const begin = (layer * this.tokens.length + token) * this.likeliest;
    return Array.from({ length: this.likeliest }, (_, i) => ({
      word: this.words[this.ids[begin + i]],
      probability: share(this.probabilities[begin + i]),
    }));
  }
}

/** Bytes out of base64 and gzip. */
async function unpacked(packed) {
  const text = atob(packed);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
