/**
 * Figure 11: flipped features, uneven responses, balanced data (scenario ii), six methods, 20 seeds.
 *
 *   npx tsx experiments/figure-11.ts [FOLDER]
 *
 * No expected numbers are on record. What the paper says of these features:
 * the group robust methods have the lowest worst loss, GR-DPO the lowest reward error.
 * That this setting is Figure 11 is our reading: the order of the features and scenarios.
 */
import { showFigure } from '../src/cli/show-figure.js';

await showFigure(11);
