/**
 * Figure 8: same features, uneven responses, balanced data (scenario ii), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-08.ts [FOLDER]
 *
 * No expected numbers are on record. What the paper says of these features:
 * GR-IPO over-fits, with a reward error above that of IPO; GR-DPO is best overall.
 * That this setting is Figure 8 is our reading: the order of the features and scenarios.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(8);
