/**
 * Figure 12: flipped features, uneven responses, imbalanced data (scenario iii), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-12.ts [FOLDER]
 *
 * No expected numbers are on record. What the paper says of these features:
 * the group robust methods have the lowest worst loss, GR-DPO the lowest reward error.
 * That this setting is Figure 12 is our reading: the order of the features and scenarios.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(12);
