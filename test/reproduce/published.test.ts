import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { sectionMarkdown } from '../../src/report/markdown.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import { readTestedPairs } from '../../src/reproduce/tested-pairs.js';

it('the tables and verdicts of the page on GlobalOpinionQA are what its tested pairs give', async () => {
  const page = readFileSync('docs/results/global-opinions-270m.md', 'utf8');
  const pairs = await readTestedPairs('docs/results/global-opinions-270m/tested.csv');
  const lines = sectionMarkdown(pooledSection(poolFolds(pairs))).split('\n');
  const figures = lines.filter((line) => /^(\||-)/.test(line));
  expect(figures.length).toBeGreaterThan(15);
  expect(figures.filter((line) => !page.includes(`${line}\n`))).toEqual([]);
});
