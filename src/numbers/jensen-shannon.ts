/**
 * How alike two distributions over the same options are: 1 − JSD, with the Jensen-Shannon divergence in bits, so that 1 means equal and 0
 * that no option has mass in both. This takes the divergence; 1 less its square root, the distance, would be another measure.
 *
 * JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2. Both must sum to 1.
 */
export function jensenShannonSimilarity(p: ArrayLike<number>, q: ArrayLike<number>): number {
  if (p.length !== q.length) throw new RangeError(`distributions over ${p.length} and ${q.length} options`);
  let divergence = 0;
  for (let i = 0; i < p.length; i++) {
    // Not halved, which the smallest numbers do not survive.
    const both = p[i] + q[i];
    // An option without mass adds nothing: x log x → 0.
    if (p[i] > 0) divergence += (p[i] / 2) * Math.log2((2 * p[i]) / both);
    if (q[i] > 0) divergence += (q[i] / 2) * Math.log2((2 * q[i]) / both);
  }
  // Rounding may leave the sum a hair outside of [0, 1].
  return 1 - Math.min(1, Math.max(0, divergence));
}
