/**
 * Preference pairs of a log-linear policy π_θ(y|x) ∝ exp⟨φ(x,y,g), θ⟩, reduced to what the method needs:
 * the margin of pair i is h_i = ⟨d_i, θ⟩ − o_i, with d_i = φ(x,y_w,g) − φ(x,y_l,g) and
 * o_i = log(π_ref(y_w|x)/π_ref(y_l|x)), zero for a uniform reference (paper §4, Appendix B.1).
 */
export interface LogLinearProblem {
  /** d, the length of θ. */
  dimension: number;
  groups: DifferenceGroup[];
}

/** The N_g pairs of one group. */
export interface DifferenceGroup {
  /** Number of pairs, N_g ≥ 1. */
  count: number;
  /** [N_g × d], row-major: row i is d_i. */
  differences: Float64Array;
  /** [N_g] o_i; absent means all zero. */
  offsets?: Float64Array;
}
