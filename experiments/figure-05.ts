/**
 * Figure 5: swapped features, uneven responses, balanced data (scenario ii), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-05.ts [FOLDER]
 *
 * Expected (src/bandit/expected.ts):
 *
 *   | method | worse-group loss | relative reward error | α of group 0 |
 *   |--------|------------------|-----------------------|--------------|
 *   | dpo    | 0.548 ± 0.008    | 0.0873 ± 0.0015       |              |
 *   | is-dpo | 0.548 ± 0.008    | 0.0873 ± 0.0015       |              |
 *   | gr-dpo | 0.467 ± 0.012    | 0.0461 ± 0.0015       | 0.786        |
 *   | ipo    | 20.19 ± 0.16     | 0.1031 ± 0.0020       |              |
 *   | is-ipo | 20.19 ± 0.16     | 0.1031 ± 0.0020       |              |
 *   | gr-ipo | 17.52 ± 0.16     | 0.0557 ± 0.0017       | 0.8452       |
 *
 * Each must come out within 3·√2 standard errors. Exits 1 otherwise.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(5);
