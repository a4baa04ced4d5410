import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { sectionMarkdown } from '../../src/report/markdown.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import { readTestedPairs } from '../../src/reproduce/tested-pairs.js';

const page = readFileSync('docs/results/global-opinions-270m.md', 'utf8');
const file = 'docs/results/global-opinions-270m/tested.csv';

// Families of methods have been run on different seeds.
it.each([
  { methods: ['ipo', 'gr-ipo'], seeds: [1, 2] },
  { methods: ['dpo', 'gr-dpo'], seeds: [2] },
])(
  'the tables and verdicts of $methods on GlobalOpinionQA are what their tested pairs give',
  async ({ methods, seeds }) => {
    const pairs = await readTestedPairs(file);
    const own = pairs.filter(({ method, seed }) => methods.includes(method) && seeds.includes(seed));
    const lines = sectionMarkdown(pooledSection(poolFolds(own))).split('\n');
    const figures = lines.filter((line) => /^(\||-)/.test(line));
    expect(figures.length).toBeGreaterThan(15);
    expect(figures.filter((line) => !page.includes(`${line}\n`))).toEqual([]);
    expect(page).toContain(`tested.csv --methods ${methods.join(',')} --seeds ${seeds.join(',')}\n`);
  },
);
