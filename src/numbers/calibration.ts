/** Predicted shares that fall between two limits, and what was observed of them. */
export interface CalibrationBin {
  from: number;
  /** Not in the bin, but for the last one's. */
  to: number;
  count: number;
  /** Mean of the predictions. */
  predicted: number;
  /** Mean of the observations. */
  observed: number;
}

/**
 * Whether shares that are predicted come true, for predictions from ½ to 1: that of two options the one which is thought to win does so in
 * that share of cases. Each prediction falls into one of ten equal bins.
 */
export class Calibration {
  static readonly bins = 10;
  private readonly counts = new Float64Array(Calibration.bins);
  private readonly predictions = new Float64Array(Calibration.bins);
  private readonly observations = new Float64Array(Calibration.bins);

  /**
   * Adds a pair of options, seen from the one that is predicted to win.
   * @param predicted the share of wins that is predicted for the first option, in [0, 1]
   * @param observed the share that it has
   */
  add(predicted: number, observed: number): void {
    // Of a tie neither option is predicted to win: both views of it together have ½.
    const [share, wins] =
      predicted > 0.5 ? [predicted, observed] : predicted < 0.5 ? [1 - predicted, 1 - observed] : [0.5, 0.5];
    const bin = Math.min(Calibration.bins - 1, Math.floor(2 * Calibration.bins * share) - Calibration.bins);
    this.counts[bin]++;
    this.predictions[bin] += share;
    this.observations[bin] += wins;
  }

  /** The bins that are not empty. */
  table(): CalibrationBin[] {
    const limit = (bin: number) => (Calibration.bins + bin) / (2 * Calibration.bins);
    return Array.from(this.counts, (count, bin) => ({
      from: limit(bin),
      to: limit(bin + 1),
      count,
      predicted: this.predictions[bin] / count,
      observed: this.observations[bin] / count,
    })).filter(({ count }) => count > 0);
  }

  /** Expected calibration error Σ_b n_b/N |predicted_b − observed_b|; undefined where there is no pair. */
  error(): number | undefined {
    const bins = this.table();
    const total = bins.reduce((sum, { count }) => sum + count, 0);
    if (total === 0) return undefined;
    return bins.reduce(
      (sum, { count, predicted, observed }) => sum + (count / total) * Math.abs(predicted - observed),
      0,
    );
  }
}
