import { createInterface } from 'node:readline';
import { Readable, Writable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { cutToWidth, displayWidth, padToWidth } from '../../src/terminal/width.js';

/** Node's own line editor has to know where its cursor stands, by the tables of Unicode. */
const editor = createInterface({
  input: new Readable({ read() {} }),
  output: new Writable({ write: (_chunk, _encoding, done) => done() }),
  terminal: true,
  prompt: '',
});
const widthByNode = (text: string) => {
  Object.assign(editor, { line: text, cursor: text.length });
  return editor.getCursorPos().cols;
};
afterAll(() => editor.close());

describe('displayWidth', () => {
  it.each([
    ['Avaland', 7],
    ['日本', 4],
    ['대한민국', 8],
    ['ﾆﾎﾝ', 3],
    ['ＡＢ', 4],
    ['Ελλάδα ±→…', 10],
    ['Cote\u0302 d’Ivoire', 13],
    ['भारत', 4],
    ['👍', 2],
  ])('%s', (text, width) => {
    expect(displayWidth(text)).toBe(width);
    expect(widthByNode(text)).toBe(width);
  });

  it('is that of Node for every letter, number and sign of the first plane', () => {
    const differing: string[] = [];
    for (let code = 0x20; code < 0x10000; code++) {
      const character = String.fromCharCode(code);
      // Vowels and finals of Hangul, which join a syllable, stand alone there.
      if (!/(?![\u1160-\u11ff])[\p{L}\p{N}\p{P}]/u.test(character)) continue;
      if (displayWidth(character) !== widthByNode(character)) differing.push(code.toString(16));
    }
    expect(differing).toEqual([]);
  });
});

it('characters that join the one before take nothing', () => {
  expect(displayWidth('대한민국'.normalize('NFD'))).toBe(8);
  expect(displayWidth('パリ'.normalize('NFD'))).toBe(4);
});

it('text is padded and cut by its width, whole characters at a time', () => {
  expect(padToWidth('日本', 6)).toBe('日本  ');
  expect(padToWidth('日本', 3)).toBe('日本');
  expect(cutToWidth('a日本', 5)).toBe('a日本');
  expect(cutToWidth('a日本', 4)).toBe('a日');
  expect(cutToWidth('👍👍', 3)).toBe('👍');
});
