/**
 * Figure 4: swapped features, even responses, imbalanced data (scenario i), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-04.ts [FOLDER]
 *
 * Expected (src/bandit/expected.ts):
 *
 *   | method | worse-group loss | relative reward error | α of group 0 |
 *   |--------|------------------|-----------------------|--------------|
 *   | dpo    | 0.912 ± 0.043    | 0.0856 ± 0.0020       |              |
 *   | is-dpo | 0.520 ± 0.017    | 0.0514 ± 0.0020       |              |
 *   | gr-dpo | 0.477 ± 0.010    | 0.0449 ± 0.0020       | 0.491        |
 *   | ipo    | 25.45 ± 0.49     | 0.0956 ± 0.0023       |              |
 *   | is-ipo | 17.37 ± 0.25     | 0.0520 ± 0.0024       |              |
 *   | gr-ipo | 16.96 ± 0.19     | 0.0482 ± 0.0019       | 0.4847       |
 *
 * Each must come out within 3·√2 standard errors. Exits 1 otherwise.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(4);
