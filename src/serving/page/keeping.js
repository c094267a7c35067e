/** What is taken from the page: to the clipboard, as a file of text, as a picture. */

import { picture } from './picture.js';

const CAPTION = { temperature: 'temperature', top_k: 'top k', top_p: 'top p', seed: 'seed' };

/** Whether a text is in the clipboard now. */
export async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const field = document.createElement('textarea'); // without https there is the old way alone
  const { activeElement } = document;
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand('copy');
  field.remove();
  activeElement.focus();
  return copied;
}

export function saveText(sample) {
  save(new Blob([sample.text], { type: 'text/plain;charset=utf-8' }), sample, 'txt');
}

/** Saves the text as it looks in the page, and beneath it how it was drawn. */
export async function savePicture(sample, model) {
  const { prompt } = sample.wanted;
  const written = getComputedStyle(sample.shown);
  const before = getComputedStyle(sample.shown.querySelector('.prompt'));
  const parts = [[prompt, before.color], [sample.text.slice(prompt.length), written.color]];
  const caption = Object.entries(CAPTION).map(([name, said]) => `${said} ${sample.wanted[name]}`);
  const blob = await picture(parts, [model, ...caption].join(' · '), {
    family: written.fontFamily,
    size: parseFloat(written.fontSize),
    paper: getComputedStyle(sample.element).backgroundColor,
    soft: before.color,
  });
  save(blob, sample, 'png');
}

function save(blob, sample, extension) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `gpt2-${sample.wanted.seed}-${sample.number}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // when the browser has surely read it
}
