/** What is chosen, for all parts of the page: a layer, some heads, a token. */

import { share } from './data.js';

/** Scrolls a box, and nothing else, to an element in it that is pointed at elsewhere. */
export function reveal(box, { offsetTop, offsetLeft, offsetHeight, offsetWidth }) {
  if (box.matches(':hover, :focus-within')) return;
  const { scrollTop, scrollLeft, clientHeight, clientWidth } = box;
  if (offsetTop < scrollTop || offsetTop + offsetHeight > scrollTop + clientHeight) {
    box.scrollTop = offsetTop - (clientHeight - offsetHeight) / 2;
  }
  if (offsetLeft < scrollLeft || offsetLeft + offsetWidth > scrollLeft + clientWidth) {
    box.scrollLeft = offsetLeft - (clientWidth - offsetWidth) / 2;
  }
}

export class View {
  layer = 0;
  token = null; // {at, side}: side is 'dst' for where it looks, 'src' for who looks at it
  #chosen = null; // the token that stays when no other is pointed at
  #listeners = [];

  constructor(reading) {
    this.reading = reading;
    this.heads = new Set(Array.from({ length: reading.heads }, (_, head) => head));
  }

  /** Calls `draw` now, and after each change. */
  shownBy(draw) {
    this.#listeners.push(draw);
    draw();
  }

  change(values) {
    Object.assign(this, values);
    for (const draw of this.#listeners) draw();
  }

  /** Shows a token for as long as it is pointed at. */
  point(at, side = 'dst') {
    if (this.token?.at !== at || this.token.side !== side) this.change({ token: { at, side } });
  }

  leave() {
    if (this.token !== this.#chosen) this.change({ token: this.#chosen });
  }

  /** Keeps a token, or lets it go. */
  choose(at, side = 'dst') {
    const same = this.#chosen?.at === at && this.#chosen.side === side;
    this.#chosen = same ? null : { at, side };
    this.change({ token: this.#chosen });
  }

  letGo() {
    this.#chosen = null;
    this.leave();
  }

  isChosen(at) {
    return this.#chosen?.at === at;
  }

  /** The byte between the token that is shown and another, for a head. */
  byte(head, other) {
    const { at, side } = this.token;
    const [dst, src] = side === 'dst' ? [at, other] : [other, at];
    return src > dst ? 0 : this.reading.byte(this.layer, head, dst, src);
  }

  /** The tokens between which and the one that is shown the most is, over the heads on average. */
  strongest(number) {
    const { tokens } = this.reading;
    const heads = [...this.heads];
    const mean = (other) => heads.reduce((sum, head) => sum + share(this.byte(head, other)), 0);
    return tokens
      .map((_, at) => ({ at, share: heads.length ? mean(at) / heads.length : 0 }))
      .filter((each) => each.share >= 0.001)
      .sort((a, b) => b.share - a.share)
      .slice(0, number);
  }
}
