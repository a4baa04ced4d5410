/**
 * Figure 6, the χ ablation: GR-IPO at six χ, swapped features, uneven responses, imbalanced data, 20 seeds.
 *
 *   npx tsx experiments/figure-06.ts [FOLDER]
 *
 * Expected (src/bandit/expected.ts): as χ goes from 0 (IS-IPO) to 1 (GR-IPO) the worst group's loss falls, the average rises.
 *
 *   | χ   | worse-group loss | mean loss    | α of group 0 |
 *   |-----|------------------|--------------|--------------|
 *   | 0   | 20.44 ± 0.15     | 13.20 ± 0.09 | 0.5000       |
 *   | 0.2 | 20.08 ± 0.16     | 13.29 ± 0.10 | 0.9326       |
 *   | 0.4 | 19.36 ± 0.18     | 13.72 ± 0.11 | 0.9883       |
 *   | 0.6 | 18.18 ± 0.22     | 15.12 ± 0.17 | 0.9906       |
 *   | 0.8 | 17.93 ± 0.27     | 16.93 ± 0.19 | 0.9272       |
 *   | 1   | 17.93 ± 0.27     | 16.94 ± 0.19 | 0.8422       |
 *
 * Each must come out within 3·√2 standard errors. Exits 1 otherwise.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(6);
