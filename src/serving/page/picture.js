/** A text as a picture: drawn on a canvas, in the page's own font and colours. */

const WIDTH = 720; // of the text, in CSS pixels; 60 to 70 letters
const MARGIN = 56;
const TALLEST = 16000; // pixels; browsers draw no taller canvas

/**
 * A PNG of a text.
 *
 * @param parts [[text, colour], …], which follow each other
 * @param caption a line beneath, or ''
 * @param style {family, size, paper, soft}: the font, and colours of the paper and the caption
 */
export async function picture(parts, caption, { family, size, paper, soft }) {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  context.font = `${size}px ${family}`;
  const lines = broken(parts, (text) => context.measureText(text).width);
  const leading = size * 1.6;
  const height = MARGIN * 2 + lines.length * leading + (caption ? leading * 1.5 : 0);
  const scale = Math.min(2, TALLEST / height);
  canvas.width = Math.round((WIDTH + 2 * MARGIN) * scale);
  canvas.height = Math.round(height * scale);
  context.scale(scale, scale);
  context.fillStyle = paper;
  context.fillRect(0, 0, WIDTH + 2 * MARGIN, height);
  context.font = `${size}px ${family}`;
  context.textBaseline = 'middle';
  lines.forEach((line, i) => drawLine(context, line, MARGIN + (i + 0.5) * leading));
  context.font = `${size * 0.7}px ${family}`;
  context.fillStyle = soft;
  [context.direction, context.textAlign] = ['ltr', 'left'];
  context.fillText(caption, MARGIN, height - MARGIN, WIDTH);
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

/** One line from its own side on: Arabic begins at the right. */
function drawLine(context, { runs, direction }, y) {
  const right = direction === 'rtl';
  [context.direction, context.textAlign] = [direction, right ? 'right' : 'left'];
  let x = right ? MARGIN + WIDTH : MARGIN;
  for (const [text, colour] of runs) {
    context.fillStyle = colour;
    context.fillText(text, x, y);
    x += context.measureText(text).width * (right ? -1 : 1);
  }
}

/** Lines of at most WIDTH, each {runs: [[text, colour], …], direction}. */
export function broken(parts, widthOf) {
  const lines = [];
  for (const paragraph of paragraphs(parts)) {
    const direction = directionOf(paragraph.map(([text]) => text).join(''));
    let runs = [];
    let width = 0;
    for (const [text, colour] of paragraph.flatMap((part) => unbreakable(part, widthOf))) {
      if (runs.length && width + widthOf(text.trimEnd()) > WIDTH) {
        lines.push({ runs, direction });
        [runs, width] = [[], 0];
      }
      if (runs.at(-1)?.[1] === colour) runs.at(-1)[0] += text;
      else runs.push([text, colour]);
      width += widthOf(text);
    }
    lines.push({ runs, direction });
  }
  return lines;
}

/** The parts of each paragraph: what stands between two line breaks. */
function paragraphs(parts) {
  const all = [[]];
  for (const [text, colour] of parts) {
    const [first, ...others] = text.replaceAll('\t', '    ').split('\n');
    all.at(-1).push([first, colour]);
    for (const other of others) all.push([[other, colour]]);
  }
  return all;
}

/** Words with the spaces behind them; one that no line holds falls apart as its language allows. */
function unbreakable([text, colour], widthOf) {
  const words = text.match(/\S+\s*|\s+/gu) ?? [];
  return words
    .flatMap((word) => (widthOf(word.trimEnd()) > WIDTH / 2 ? smaller(word) : [word]))
    .flatMap((word) => (widthOf(word.trimEnd()) > WIDTH ? letters(word) : [word]))
    .map((word) => [word, colour]);
}

/** Chinese has no spaces between words; closing marks stay with what they close. */
function smaller(text) {
  const words = [];
  for (const { segment } of new Intl.Segmenter([], { granularity: 'word' }).segment(text)) {
    const closing = /^[\p{Pe}\p{Pf}\p{Po}\s]/u.test(segment) && words.length;
    if (closing) words[words.length - 1] += segment;
    else words.push(segment);
  }
  return words;
}

function letters(text) {
  return [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment);
}

/** Of a paragraph: that of its first letter, as the page's dir="auto" has it. */
function directionOf(text) {
  const first = /\p{L}/u.exec(text)?.[0] ?? '';
  const rightToLeft = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}]/u;
  return rightToLeft.test(first) ? 'rtl' : 'ltr';
}
