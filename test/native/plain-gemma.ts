import type { NativeGemmaConfig } from '../../src/native/types.js';

/** A Gemma 1 of one layer, for tests of what does not depend on the generation. */
export const plainGemma: NativeGemmaConfig = {
  layers: 1,
  hidden: 16,
  heads: 2,
  keyValueHeads: 1,
  headSize: 8,
  mlp: 32,
  vocabulary: 64,
  rmsEpsilon: 1e-6,
  norms: 'before',
  queryKeyNorms: false,
  attentionScale: 8 ** -0.5,
  attentionCap: 0,
  logitCap: 0,
  attentionKinds: [{ window: 0, ropeTheta: 10_000, ropeFactor: 1 }],
  layerPattern: [0],
};
