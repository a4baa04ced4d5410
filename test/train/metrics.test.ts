import { describe, expect, it } from 'vitest';
import {
  alphaMetrics,
  flatMetrics,
  GroupMetrics,
  groupKey,
  groupsOf,
  metricDirections,
} from '../../src/train/metrics.js';
import { pairObjective } from '../../src/train/objective.js';

describe('group metrics', () => {
  it('tells example-weighted from group-weighted means: 9 of 10 right and 0 of 1 right', () => {
    const metrics = new GroupMetrics(['big', 'small']);
    const right = Float64Array.from({ length: 11 }, (_, i) => (i < 9 ? 1 : 0));
    metrics.add(
      Array.from(right, (_, i) => (i < 10 ? 0 : 1)),
      new Array(11).fill(1),
      { 'rewards/accuracies': right },
    );
    const { mean, group_mean, worst, groups } = metrics.summary();
    expect(mean['rewards/accuracies']).toBeCloseTo(9 / 11, 12);
    expect(group_mean['rewards/accuracies']).toBeCloseTo(0.45, 12);
    expect(worst.accuracy).toBe(0);
    expect(groups.small.count).toBe(1);
  });

  it('the worst group has the largest loss and the smallest accuracy', () => {
    const metrics = new GroupMetrics(['a', 'b']);
    metrics.add([0, 1], [1, 1], { loss: Float64Array.of(3, 2), 'rewards/accuracies': Float64Array.of(1, 0) });
    expect(metrics.summary().worst).toMatchObject({ loss: 3, group: 'a', accuracy: 0 });
    expect(metricDirections.loss).toBe('lower');
  });

  it('leaves an absent group out instead of dividing by zero', () => {
    const metrics = new GroupMetrics(['a', 'b']);
    metrics.add([0], [1], { loss: Float64Array.of(3) });
    const line = flatMetrics(metrics.summary());
    expect(Object.keys(line).some((key) => key.startsWith('group/b/'))).toBe(false);
    expect(Object.values(line).every((value) => typeof value === 'string' || Number.isFinite(value))).toBe(true);
  });

  it('leaves out what a window of pairs of weight 0 cannot tell', () => {
    const metrics = new GroupMetrics(['a']);
    metrics.add([0], [0], { loss: Float64Array.of(3), 'rewards/accuracies': Float64Array.of(1) });
    expect(flatMetrics(metrics.summary())).toEqual({});
  });

  it('has standard errors over pairs: s/√n, weighted alike whatever the scale, none of one pair', () => {
    const values = Float64Array.of(1e9 + 1, 1e9 + 3, 1e9 + 8);
    const error = Math.sqrt((9 + 1 + 16) / 2 / 3);
    for (const weight of [1, 7]) {
      const metrics = new GroupMetrics(['a', 'b']);
      metrics.add([0, 0], [weight, weight], { loss: values.subarray(0, 2) });
      metrics.add([0, 1], [weight, weight], { loss: Float64Array.of(values[2], 5) });
      const { a, b } = metrics.summaryWithErrors().groups;
      expect(a.standard_error?.loss).toBeCloseTo(error, 6);
      expect(b.standard_error).toBeUndefined();
      expect(metrics.summary().groups.a.standard_error).toBeUndefined();
    }
    const weighted = new GroupMetrics(['a']);
    weighted.add([0, 0, 0], [1, 1, 0], { loss: Float64Array.of(1, 3, 99) });
    expect(weighted.summaryWithErrors().groups.a.standard_error?.loss).toBeCloseTo(1, 12);
  });

  it('reads back from a line what it wrote there of each group, whatever their names hold', () => {
    const names = [
      'a',
      'a/loss',
      'loss',
      'group/a',
      'eval_group/a/loss',
      'worst',
      'a/rewards/accuracies',
      'x y',
      '\0',
      '7',
    ];
    const metrics = (shift: number) => {
      const own = new GroupMetrics(names);
      own.add(
        names.map((_, g) => g),
        names.map(() => 1),
        {
          loss: Float64Array.from(names, (_, g) => g + shift),
          'rewards/accuracies': Float64Array.from(names, (_, g) => g % 2),
        },
      );
      return own.summary();
    };
    const uniform = Float64Array.from(names, () => 1 / names.length);
    const line = {
      ...flatMetrics(metrics(0.5)),
      ...flatMetrics(metrics(0.25), 'eval_'),
      ...alphaMetrics(names, { alpha: uniform, weights: uniform }),
    };
    for (const [prefix, shift] of [
      ['', 0.5],
      ['eval_', 0.25],
    ] as const) {
      const read = groupsOf(line, prefix);
      expect(new Map(read)).toEqual(
        new Map(names.map((name, g) => [name, { count: 1, loss: g + shift, 'rewards/accuracies': g % 2 }])),
      );
      expect(read).toHaveLength(names.length);
    }
    for (const name of names) expect(line[groupKey(name, 'alpha')]).toBe(0.1);
  });

  it('takes any name of a group', () => {
    const metrics = new GroupMetrics(['__proto__']);
    metrics.add([0], [1], { loss: Float64Array.of(3) });
    expect(JSON.stringify(metrics.summary().groups)).toBe('{"__proto__":{"count":1,"loss":3}}');
  });

  it('composes pair weights: (2, 0) equals dropping the second pair', () => {
    const weighted = new GroupMetrics(['a']);
    weighted.add([0, 0], [2, 0], { loss: Float64Array.of(3, 50) });
    const dropped = new GroupMetrics(['a']);
    dropped.add([0], [1], { loss: Float64Array.of(3) });
    expect(weighted.summary().mean).toEqual(dropped.summary().mean);
  });

  it('reports entropy as an effective number of groups', () => {
    const of = (alpha: number[], weights: number[]) =>
      alphaMetrics(['a', 'b'], { alpha: Float64Array.from(alpha), weights: Float64Array.from(weights) });
    expect(of([0.5, 0.5], [0.5, 0.5])).toMatchObject({ 'group/a/alpha': 0.5, 'alpha/effective_groups': 2 });
    // χ = 0.1: all of α on one group, and yet both are trained.
    const line = of([1, 0], [0.55, 0.45]);
    expect(line).toMatchObject({ 'group/b/alpha': 0, 'group/b/weight': 0.45, 'alpha/effective_groups': 1 });
    expect(line['weight/effective_groups']).toBeCloseTo(Math.exp(-0.55 * Math.log(0.55) - 0.45 * Math.log(0.45)), 12);
  });
});

describe('pair objective', () => {
  const scores = {
    chosen: Float64Array.of(-1, -2),
    rejected: Float64Array.of(-2, -2),
    referenceChosen: Float64Array.of(-1.5, -2),
    referenceRejected: Float64Array.of(-1.8, -2),
  };

  it('logs rewards β times the log-ratios, and counts a tie as wrong', () => {
    const { metrics } = pairObjective({ loss: 'dpo', beta: 2, reduction: 'sum', weights: 'erm' }).evaluate(scores);
    expect(metrics['rewards/chosen']?.[0]).toBeCloseTo(1, 12);
    expect(metrics['rewards/margins']?.[0]).toBeCloseTo(1.4, 12);
    expect([...(metrics['rewards/accuracies'] ?? [])]).toEqual([1, 0]);
    expect([...(metrics['logps/accuracies'] ?? [])]).toEqual([1, 0]);
  });

  it('counts of a soft label the share of the group that is agreed with', () => {
    const objective = pairObjective({ loss: 'dpo', beta: 2, reduction: 'sum', weights: 'erm' });
    // The rewards prefer the chosen response of the first pair, and neither of the second; the same exchanged.
    const { chosen, rejected, referenceChosen, referenceRejected } = scores;
    const exchanged = {
      chosen: rejected,
      rejected: chosen,
      referenceChosen: referenceRejected,
      referenceRejected: referenceChosen,
    };
    for (const metric of ['rewards/accuracies', 'logps/accuracies'] as const) {
      expect([...(objective.evaluate(scores, [0.75, 0.75]).metrics[metric] ?? [])]).toEqual([0.75, 0]);
      expect([...(objective.evaluate(exchanged, [0.75, 0.75]).metrics[metric] ?? [])]).toEqual([0.25, 0]);
    }
  });

  it('supervised fine-tuning needs no reference and no rejected response', () => {
    const objective = pairObjective({ loss: 'sft', reduction: 'sum', weights: 'erm' });
    expect(objective).toMatchObject({ usesReference: false, responses: 'chosen' });
    const { metrics, losses, rejectedCotangents } = objective.evaluate({ chosen: scores.chosen });
    expect([...losses]).toEqual([1, 2]);
    expect(rejectedCotangents).toBeUndefined();
    expect(metrics).not.toHaveProperty('rewards/margins');
  });
});
