import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { GroupMetrics } from '../../src/train/metrics.js';
import { Plateau, type PlateauSettings, watchedLoss } from '../../src/train/plateau.js';

const paper: PlateauSettings = {
  watch: 'worst-group',
  factor: 0.1,
  stepFactor: 0.5,
  patience: 4,
  threshold: 1e-3,
  stopBelow: 1.001e-8,
};
const rate = 6e-5;

const feed = (plateau: Plateau, losses: readonly number[]) => losses.map((loss) => plateau.observe(loss));

describe('plateau schedule', () => {
  it('cuts at the fifth evaluation that is no improvement, and ends with the fourth cut', () => {
    const plateau = new Plateau(paper, rate);
    expect(feed(plateau, [2000, 2001, 2002, 2003, 2004])).toEqual([false, false, false, false, false]);
    expect(plateau.rateScale).toBe(1);
    expect(plateau.observe(2005)).toBe(true);
    expect(rate * plateau.rateScale).toBeCloseTo(6e-6, 18);
    expect(5e-7 * plateau.stepScale).toBe(2.5e-7);
    for (const cut of [2, 3, 4]) {
      expect(plateau.ended).toBe(false);
      expect(feed(plateau, [2010, 2010, 2010, 2010, 2010])).toEqual([false, false, false, false, true]);
      expect(rate * plateau.rateScale).toBeCloseTo(rate * 10 ** -cut, 20);
    }
    expect(plateau.ended).toBe(true);
  });

  it('with stopBelow at the learning rate itself ends with the first cut, not before', () => {
    const plateau = new Plateau({ ...paper, patience: 0, stopBelow: rate }, rate);
    expect(plateau.ended).toBe(false);
    feed(plateau, [1, 2]);
    expect(plateau.ended).toBe(true);
  });

  it('takes a loss that is 0.05 % worse for no improvement, as the authors’ mode max does not', () => {
    const plateau = new Plateau(paper, rate);
    expect(feed(plateau, [100, 100.05, 100.05, 100.05, 100.05, 100.05]).at(-1)).toBe(true);
    expect(plateau.metrics()).toMatchObject({ 'plateau/best': 100, 'plateau/cuts': 1 });
  });

  it('counts an improvement by less than the threshold as none, and one by more starts the count anew', () => {
    const plateau = new Plateau(paper, rate);
    feed(plateau, [100, 99.95, 99.92, 99.91]);
    expect(plateau.metrics()).toEqual({
      'plateau/best': 100,
      'plateau/target': 99.9,
      'plateau/bad_evaluations': 3,
      'plateau/patience': 4,
      'plateau/cuts': 0,
    });
    plateau.observe(99.89);
    expect(plateau.metrics()).toMatchObject({ 'plateau/best': 99.89, 'plateau/bad_evaluations': 0 });
  });

  it('goes on from its state, which is plain JSON, as if it had never stopped', () => {
    const losses = [5, 6, 4, 4, 4.5, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 2.9, 3, 3, 3, 3, 3, 3];
    const straight = new Plateau(paper, rate);
    let stopped = new Plateau(paper, rate);
    for (const loss of losses) {
      expect(stopped.observe(loss)).toBe(straight.observe(loss));
      const saved = JSON.parse(JSON.stringify(stopped.state()));
      stopped = new Plateau(paper, rate);
      stopped.restore(saved);
      expect(stopped.state()).toEqual(straight.state());
    }
    expect(straight.state().cuts).toBe(3);
  });
});

describe('watched loss', () => {
  it('is that of the worst group, or the mean of the group means, whatever the sizes of the groups', () => {
    const metrics = new GroupMetrics(['large', 'small']);
    metrics.add([0, 0, 0, 1], [1, 1, 1, 1], { loss: Float64Array.of(1, 2, 3, 8) });
    expect(watchedLoss(metrics.summary(), 'worst-group')).toBe(8);
    expect(watchedLoss(metrics.summary(), 'group-mean')).toBe(5);
  });

  it('is an error, not NaN, where no pair has a weight', () => {
    const metrics = new GroupMetrics(['only']);
    metrics.add([0], [0], { loss: Float64Array.of(1) });
    expect(() => watchedLoss(metrics.summary(), 'worst-group')).toThrow(InputError);
  });
});
