/**
 * The χ ablation (paper Figure 6): GR-IPO, swapped features, uneven responses, imbalanced data, 20 seeds.
 *
 *   npx tsx experiments/bandit-chi.ts
 *
 * Expected values: src/bandit/expected.ts. As χ goes from 0 (IS-IPO) to 1 (GR-IPO) the worst group's loss falls and the
 * average rises. Every cell must come out within 3·√2 standard errors. Exits 1 otherwise.
 */
import { chiRows, comparisonTable } from '../src/bandit/comparison.js';
import { paperSeeds } from '../src/bandit/expected.js';
import { progress } from '../src/progress.js';

const bar = progress('bandit-chi', paperSeeds.length);
const rows = await chiRows(paperSeeds, { onDone: (done) => bar.update(done) });
bar.stop();
console.log(comparisonTable(rows));
if (rows.some((row) => !row.passes)) process.exitCode = 1;
