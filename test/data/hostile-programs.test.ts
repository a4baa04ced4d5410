import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { adapterFiles, readAdapter } from '../../src/policy/peft.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, writeLines } from './helpers.js';

/** What is a program, though it stands in a file of settings: templates and regular expressions without end. */
const folder = temporaryFolder();
const tiny = openTokenizer('random:tiny').file;
const turns = (content: string, role: string) => [{ role, content }];
const conversations = writeLines(folder, 'chat.jsonl', [
  {
    group: 'a',
    prompt: turns('Is it so?', 'user'),
    chosen: turns('Yes', 'assistant'),
    rejected: turns('No', 'assistant'),
  },
]);
const texts = writeLines(folder, 'texts.jsonl', [
  { group: 'a', prompt: `${'a'.repeat(60)}!`, chosen: 'Yes', rejected: 'No' },
]);

/** A folder with the tiny tokenizer, changed, and a chat template. */
function tokenizer(name: string, { template, change }: { template?: string; change?: object }) {
  const place = join(folder, name);
  mkdirSync(place);
  const json = JSON.parse(readFileSync(tiny, 'utf8'));
  writeFileSync(join(place, 'tokenizer.json'), JSON.stringify({ ...json, ...change }));
  if (template !== undefined) writeFileSync(join(place, 'chat_template.jinja'), template);
  return openTokenizer(place);
}

const evil = { Regex: '(a+)+$' };
const loop = (depth: number): string =>
  depth === 0 ? 'x' : `{% for i in range(1000) %}${loop(depth - 1)}{% endfor %}`;

describe('programs without end', () => {
  it.each([
    ['a range that fills the memory', { template: '{{ range(1000000000) | length }}' }, conversations, /chat\.jsonl:1/],
    ['nested loops', { template: loop(5) }, conversations, /its chat template takes .*chat\.jsonl:1/],
    [
      'a Split',
      { change: { pre_tokenizer: { type: 'Split', pattern: evil, behavior: 'Isolated', invert: false } } },
      texts,
      /it takes longer than 11 s/,
    ],
    [
      'a Replace',
      { change: { normalizer: { type: 'Replace', pattern: evil, content: '' } } },
      texts,
      /it takes longer/,
    ],
  ])('%s is stopped, and others go on', { timeout: 120_000 }, async (name, options, pairs, message) => {
    const opened = tokenizer(name.replaceAll(' ', '-'), options);
    const error = await inputError(() => loadPairs(pairs, { tokenizer: () => opened }));
    expect(error.message).toMatch(message);
    expect(error.location.file).toContain('tokenizer.json');
    expect(openTokenizer('random:tiny').encode('a').length).toBe(1);
  });

  it('an adapter’s target_modules', { timeout: 120_000 }, async () => {
    const place = join(folder, 'adapter');
    const model = { layers: 2, multimodal: false };
    mkdirSync(place);
    const source = 'test/fixtures/gemma-tiny/adapter';
    copyFileSync(join(source, adapterFiles.weights), join(place, adapterFiles.weights));
    const config = JSON.parse(readFileSync(join(source, adapterFiles.config), 'utf8'));
    const write = (target_modules: string) =>
      writeFileSync(join(place, adapterFiles.config), JSON.stringify({ ...config, target_modules }));
    write('(([a-z0-9_.]+)+)+!');
    const error = await inputError(() => readAdapter(place, model));
    expect(error.message).toMatch(/target_modules": its regular expression takes more than 10 s/);
    write('.*\\.(q|v)_proj');
    expect(readAdapter(place, model).settings.targets).toEqual(['q_proj', 'v_proj']);
  });
});
