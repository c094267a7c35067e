/** A colour for each head, light on dark and dark on light. */

const DARK = matchMedia('(prefers-color-scheme: dark)');

/** Calls when the window goes from light to dark or back. */
export function whenColoursChange(draw) {
  DARK.addEventListener('change', draw);
}

/** Of a line, of which nothing is read. */
export function lineColour(head, heads, alpha = 1) {
  return colour(DARK.matches ? 0.76 : 0.6, head, heads, alpha);
}

/** Of what lies behind letters. */
export function fillColour(head, heads, alpha = 1) {
  return colour(DARK.matches ? 0.42 : 0.82, head, heads, alpha);
}

function colour(lightness, head, heads, alpha) {
  const hue = (25 + (360 * head) / heads) % 360;
  return `oklch(${lightness} 0.14 ${hue.toFixed(1)} / ${alpha.toFixed(3)})`;
}

/** Red, green and blue of a small picture's points. */
export function ink() {
  return DARK.matches ? [99, 205, 182] : [11, 110, 95];
}
