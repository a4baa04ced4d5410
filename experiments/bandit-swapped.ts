/**
 * The paper's main synthetic result (Figures 2, 4 and 5): swapped features, three scenarios, six methods, 20 seeds.
 *
 *   npx tsx experiments/bandit-swapped.ts
 *
 * Expected values: src/bandit/expected.ts. Every cell must come out within 3·√2 standard errors, and in scenario (iii) the
 * plain method must be worse than importance sampling, and that worse than the group-robust one. Exits 1 otherwise.
 */
import { comparisonTable, orderFaults, swappedRows } from '../src/bandit/comparison.js';
import { paperSeeds } from '../src/bandit/expected.js';
import { progress } from '../src/progress.js';

const bar = progress('bandit-swapped', 3 * paperSeeds.length);
const rows = await swappedRows(paperSeeds, { onDone: (done) => bar.update(done) });
bar.stop();
console.log(comparisonTable(rows));
const faults = orderFaults(rows);
console.log(faults.length === 0 ? 'scenario (iii): plain > IS > GR holds' : faults.join('\n'));
if (faults.length > 0 || rows.some((row) => !row.passes)) process.exitCode = 1;
