/**
 * Tokens as they are written and said. A token is its text or, where this is not whole characters,
 * its bytes: bytes:\xe5.
 */

const BYTES = /^bytes:((?:\\x[0-9a-f]{2})+)$/;

/** A token in which what is invisible is seen. */
export function visible(token) {
  return token
    .replace(BYTES, '$1')
    .replace(/ /g, '␣')
    .replace(/\n/g, '↵')
    .replace(/\t/g, '⇥')
    .replace(/[\p{C}\p{Z}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** A token as it stands in a text: spaces are spaces, and lines end. */
export function written(token) {
  return token.split(/([ \n])/).map((part) => (part === ' ' ? part : visible(part)
    .replace('↵', '↵\n'))).join('');
}

/** A token as it is said. */
export function spoken(token) {
  const names = { ' ': 'space', '\n': 'line break', '\t': 'tab' };
  return visible(token.trim()).replaceAll('␣', ' ')
    || [...token].map((c) => names[c] ?? visible(c)).join(' ');
}

const format = new Intl.NumberFormat('en', { style: 'percent', maximumSignificantDigits: 2 });

export function percent(probability) {
  return format.format(probability);
}
