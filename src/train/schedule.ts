/** Learning rates over the optimiser steps of a run. */
export const scheduleNames = ['constant', 'linear', 'cosine', 'plateau'] as const;

export interface Schedule {
  /** The highest rate. */
  learningRate: number;
  /** Steps of linear rise: step t = 1, 2, … has rate · min(1, t / warmupSteps). Default 0. */
  warmupSteps?: number;
  /** The same as a fraction of all steps, rounded up. */
  warmupRatio?: number;
  /**
   * What follows the rise: the rate itself, or a line or half a cosine that reaches 0 one step after the last. `plateau` is the rate
   * itself too, which plateau.ts scales down when a validation loss has stopped falling.
   */
  schedule: (typeof scheduleNames)[number];
}

/** The rate of step `step` of `steps`, both counted from 1. */
export function learningRateAt(settings: Schedule, step: number, steps: number): number {
  const { learningRate, schedule, warmupRatio = 0, warmupSteps = Math.ceil(warmupRatio * steps) } = settings;
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  if (schedule !== 'linear' && schedule !== 'cosine') return learningRate;
  const progress = (step - Math.max(1, warmupSteps)) / (steps + 1 - Math.max(1, warmupSteps));
  return learningRate * (schedule === 'linear' ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2);
}

/** Whether the rates of early steps depend on the number of all steps. */
export function dependsOnEnd({ schedule, warmupRatio = 0 }: Pick<Schedule, 'schedule' | 'warmupRatio'>): boolean {
  return schedule === 'linear' || schedule === 'cosine' || warmupRatio > 0;
}
