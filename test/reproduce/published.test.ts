import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { sectionMarkdown } from '../../src/report/markdown.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import { readTestedPairs } from '../../src/reproduce/tested-pairs.js';

const page = readFileSync('docs/results/global-opinions-270m.md', 'utf8');

// Families of methods have been run on different seeds.
it.each([
  { file: 'tested.csv', methods: ['ipo', 'gr-ipo'], seeds: [1, 2] },
  { file: 'tested.csv', methods: ['dpo', 'gr-dpo'], seeds: [2] },
  { file: 'tested.csv', methods: ['ipo', 'is-ipo', 'gr-ipo'], seeds: [3] },
  { file: 'regions.csv', methods: ['ipo', 'is-ipo', 'gr-ipo'], seeds: [1] },
])(
  'the tables and verdicts of $methods in $file on GlobalOpinionQA are what their tested pairs give',
  async ({ file, methods, seeds }) => {
    const pairs = await readTestedPairs(`docs/results/global-opinions-270m/${file}`);
    const own = pairs.filter(({ method, seed }) => methods.includes(method) && seeds.includes(seed));
    const lines = sectionMarkdown(pooledSection(poolFolds(own))).split('\n');
    const figures = lines.filter((line) => /^(\||-)/.test(line));
    expect(figures.length).toBeGreaterThan(15);
    expect(figures.filter((line) => !page.includes(`${line}\n`))).toEqual([]);
    expect(page).toContain(`${file} --methods ${methods.join(',')} --seeds ${seeds.join(',')}\n`);
  },
);
