import { present } from '../errors.js';
import type { TrainConfig } from '../train/config.js';

/** What a run of a sweep is known by here. */
interface Counted {
  config: TrainConfig;
}

/** Optimiser steps of one run. */
interface Steps {
  taken: number;
  /** In all; undefined until that is known. */
  planned: number | undefined;
  ended?: true;
}

/**
 * Optimiser steps of all runs of a sweep. Where a run has `epochs`, its steps are known once it has read its pairs; until then they are
 * estimated by those of another run, of the same training file where there is one. The last step of a run counts once the run has ended, its
 * test pairs scored and all: what is complete here is done.
 */
export class StepCount<Run extends Counted> {
  private readonly runs = new Map<Run, Steps>();
  /** Draws of an epoch, by training file. */
  private readonly draws = new Map<string, number>();

  /** @param taken the steps that it goes on from, or that it took where it has ended */
  add(run: Run, taken: number): void {
    this.runs.set(run, { taken, planned: run.config.steps });
  }

  /** What a run says of itself. */
  update(run: Run, taken: number, planned: number): void {
    const { epochs, batch, data } = run.config;
    this.runs.set(run, { taken, planned });
    if (epochs !== undefined) this.draws.set(data.train, (planned * batch.size) / epochs);
  }

  /** A run that takes no more steps: its plan is what it took, though it ended early or failed. */
  end(run: Run): void {
    const { taken } = present(this.runs.get(run));
    this.runs.set(run, { taken, planned: taken, ended: true });
  }

  get taken(): number {
    return sum(this.runs, ([, { taken, planned = Number.POSITIVE_INFINITY, ended }]) =>
      ended ? taken : Math.max(0, Math.min(taken, planned - 1)),
    );
  }

  /** Undefined while nothing tells how long an epoch is. */
  get total(): number | undefined {
    const total = sum(this.runs, ([run, { planned }]) => planned ?? this.estimate(run));
    return Number.isNaN(total) ? undefined : total;
  }

  private estimate({ config: { epochs = Number.NaN, batch, data } }: Run): number {
    const draws = this.draws.get(data.train) ?? [...this.draws.values()][0] ?? Number.NaN;
    return Math.ceil((epochs * draws) / batch.size - 1e-6);
  }
}

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
