/**
 * Figure 2: swapped features, uneven responses, imbalanced data (scenario iii), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-02.ts [FOLDER]
 *
 * Expected (src/bandit/expected.ts):
 *
 *   | method | worse-group loss | relative reward error | α of group 0 |
 *   |--------|------------------|-----------------------|--------------|
 *   | dpo    | 0.640 ± 0.010    | 0.1010 ± 0.0035       |              |
 *   | is-dpo | 0.560 ± 0.010    | 0.0895 ± 0.0035       |              |
 *   | gr-dpo | 0.460 ± 0.012    | 0.0511 ± 0.0035       | 0.786        |
 *   | ipo    | 21.13 ± 0.13     | 0.1168 ± 0.0018       |              |
 *   | is-ipo | 20.44 ± 0.15     | 0.1089 ± 0.0029       |              |
 *   | gr-ipo | 17.93 ± 0.27     | 0.0672 ± 0.0055       | 0.8422       |
 *
 * Each must come out within 3·√2 standard errors, and the plain method must be worse than importance sampling, and that
 * worse than the group robust one. Exits 1 otherwise.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(2);
