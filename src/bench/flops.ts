import type { NativeBatch, NativeGemmaConfig } from '../native/types.js';

/** Floating-point operations of one optimiser step, by what they are for. A product of [m × k] and [k × n] counts 2mkn. */
export interface StepFlops {
  /** Frozen projections, forward and the gradient of their inputs. */
  projections: number;
  /** Scores and weighted values of the positions that see each other, forward and backward. */
  attention: number;
  head: number;
  lora: number;
  total: number;
}

/**
 * The arithmetic that a preference step cannot do without: every token's row once (the last token of a response has none,
 * since nothing follows it), but of the last layer only keys and values for rows that predict nothing; a row's head once
 * for all it predicts; no gradient of frozen weights, none below the first layer. What is computed twice (recomputed layers, logits of the backward pass) counts
 * once; the reference is cached and counts nothing.
 *
 * LoRA on all seven projections of every layer.
 */
export function stepFlops(config: NativeGemmaConfig, rank: number, batch: NativeBatch): StepFlops {
  const { layers, hidden, heads, keyValueHeads, headSize, mlp, vocabulary } = config;
  const queries = heads * headSize;
  const keys = keyValueHeads * headSize;
  let rows = 0;
  let predictors = 0;
  // Positions that the rows see, and that the predicting ones see.
  let visible = 0;
  let visibleToPredictors = 0;
  let response = 0;
  batch.promptLengths.forEach((prompt, tree) => {
    rows += prompt;
    predictors += 1;
    visible += (prompt * (prompt + 1)) / 2;
    visibleToPredictors += prompt;
    for (let r = 0; r < batch.responseCounts[tree]; r++, response++) {
      const own = batch.responseLengths[response] - 1;
      rows += own;
      predictors += own;
      const seen = own * prompt + (own * (own + 1)) / 2;
      visible += seen;
      visibleToPredictors += seen;
    }
  });

  const before: [number, number][] = [
    [hidden, keys],
    [hidden, keys],
  ];
  const after: [number, number][] = [
    [hidden, queries],
    [queries, hidden],
    [hidden, mlp],
    [hidden, mlp],
    [mlp, hidden],
  ];
  const area = (shapes: [number, number][]) => shapes.reduce((sum, [a, b]) => sum + a * b, 0);
  const edge = (shapes: [number, number][]) => shapes.reduce((sum, [a, b]) => sum + a + b, 0);
  const lastRows = (layer: number) => (layer === layers - 1 ? predictors : rows);
  let projections = 0;
  let lora = 0;
  for (let layer = 0; layer < layers; layer++) {
    projections += 2 * (rows * area(before) + lastRows(layer) * area(after));
    projections += 2 * (rows * area(before) + lastRows(layer) * area(after));
    if (layer === 0) projections -= 2 * (rows * area(before) + lastRows(layer) * hidden * queries);
    // x Aᵀ and its Bᵀ; then dA, dB, the gradient of x Aᵀ and, above the first layer's input, its A.
    lora += 6 * rank * (rows * edge(before) + lastRows(layer) * edge(after));
    if (layer === 0) lora -= 2 * rank * hidden * (2 * rows + lastRows(layer));
  }
  // Two products forward, four backward.
  const attention = 12 * queries * ((layers - 1) * visible + visibleToPredictors);
  const head = 4 * predictors * vocabulary * hidden;
  return { projections, attention, head, lora, total: projections + attention + head + lora };
}
