/** Learning rates over the optimiser steps of a run. */
export const scheduleNames = ['constant', 'cosine', 'plateau'] as const;

export interface Schedule {
  /** The highest rate. */
  learningRate: number;
  /** Steps of linear rise: step t = 1, 2, … has rate · min(1, t / warmupSteps). */
  warmupSteps: number;
  /**
   * What follows the rise: the rate itself, or half a cosine that reaches 0 one step after the last. `plateau` is the rate
   * itself too, which plateau.ts scales down when a validation loss has stopped falling.
   */
  schedule: (typeof scheduleNames)[number];
}

/** The rate of step `step` of `steps`, both counted from 1. */
export function learningRateAt({ learningRate, warmupSteps, schedule }: Schedule, step: number, steps: number): number {
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  if (schedule !== 'cosine') return learningRate;
  const progress = (step - Math.max(1, warmupSteps)) / (steps + 1 - Math.max(1, warmupSteps));
  return (learningRate * (1 + Math.cos(Math.PI * progress))) / 2;
}
