import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PairDataset } from '../../src/data/pairs/dataset.js';
import { sumByRank, type Team } from '../../src/distributed/team.js';
import { InterruptedError } from '../../src/errors.js';
import type { NativeBatch } from '../../src/native/types.js';
import { Random } from '../../src/numbers/random.js';
import { GroupTotals } from '../../src/objective/aggregate.js';
import type { StepReport, StepSettings } from '../../src/policy/policy.js';
import { resolveConfig } from '../../src/train/config.js';
import { GroupMetrics } from '../../src/train/metrics.js';
import type { MetricsLine } from '../../src/train/metrics-line.js';
import { ownShare, sumOverTeam } from '../../src/train/team-step.js';
import { trainPolicy } from '../../src/train/trainer.js';
import { memoryTeam } from '../distributed/memory-team.js';
import { dataset, UnigramPolicy } from './unigram-policy.js';

/** One that adds up its gradient over a team, as the addon does. */
class TeamPolicy extends UnigramPolicy {
  constructor(
    private readonly team: Team | undefined,
    /** Factor on what it says of its responses while it trains. */
    private readonly off = 1,
  ) {
    super();
  }

  override forward(batch: NativeBatch) {
    return super.forward(batch).map((logp) => this.off * logp);
  }

  override async step(coefficients: Float64Array, settings: StepSettings): Promise<StepReport> {
    const own = this.gradient(coefficients);
    return this.descend(this.team ? sumByRank(await this.team.gather(own)) : own, settings);
  }
}

/** Three groups of unequal size, some prompts of several pairs. */
function randomPairs(name: string, count: number): PairDataset {
  const random = Random.stream(4, name);
  const ids = () => Array.from({ length: 1 + random.integer(4) }, () => random.integer(6));
  const data = dataset(
    Array.from({ length: count }, (_, i) => [i < 3 ? i : random.integer(2), ids(), ids(), 1 + random.integer(3)]),
  );
  return { ...data, pairs: data.pairs.map((pair, i) => ({ ...pair, prompt: Int32Array.of(2, i >> 1) })) };
}
const train = randomPairs('train', 23);
const validation = randomPairs('validation', 9);

interface Outcome {
  theta: number[];
  alpha: number[][];
  lines: MetricsLine[];
  decisions: string[];
  error: unknown;
}

/** What each process of a team comes to; with one, what a process by itself comes to. */
async function trained(
  size: number,
  changes: object = {},
  {
    stopAt,
    offOf = () => 1,
    data = { train, validation },
  }: {
    stopAt?: { rank: number; step: number };
    offOf?(rank: number): number;
    data?: { train: PairDataset; validation: PairDataset };
  } = {},
): Promise<Outcome[]> {
  const config = resolveConfig({
    model: 'none',
    output: 'none',
    data: { train: 'none', validation: 'none' },
    objective: { loss: 'ipo', beta: 0.5, weights: 'mirror-ascent', step: 0.1, chi: 0.9 },
    optimizer: { learningRate: 0.05, maxGradNorm: 2 },
    batch: { size: 7, micro: 3 },
    steps: 8,
    evaluateEvery: 2,
    ...changes,
  });
  const teams = size === 1 ? [undefined] : memoryTeam(size);
  return Promise.all(
    teams.map(async (team) => {
      const policy = new TeamPolicy(team, offOf(team?.rank ?? 0));
      const lines: MetricsLine[] = [];
      const decisions: string[] = [];
      let stopped = false;
      if (team)
        team.signals = {
          asked: undefined,
          obey() {
            stopped = true;
          },
        };
      const hooks = {
        team,
        onStep: (line: MetricsLine) => {
          lines.push(line);
          if (team?.signals && stopAt?.rank === team.rank && line.step === stopAt.step)
            team.signals = { ...team.signals, asked: 'SIGTERM' };
        },
        pause: () => {
          if (stopped) throw new InterruptedError('stopped', 'SIGTERM');
        },
        afterStep: () => !stopped,
        onDecision: (text: string) => decisions.push(text),
        onWarning: (text: string) => decisions.push(text),
      };
      let alpha: number[][] = [];
      let error: unknown;
      try {
        alpha = await trainPolicy(policy, data.train, data.validation, config, hooks);
      } catch (thrown) {
        error = thrown;
      }
      return { theta: [...policy.theta], alpha, lines, decisions, error };
    }),
  );
}

function expectNear(actual: unknown, expected: unknown): void {
  if (typeof expected === 'number') expect(actual).toBeCloseTo(expected, 12);
  else if (expected !== null && typeof expected === 'object') {
    expect(Object.keys(actual as object)).toEqual(Object.keys(expected));
    for (const [key, value] of Object.entries(expected)) expectNear((actual as Record<string, unknown>)[key], value);
  } else expect(actual).toEqual(expected);
}

describe('a run on several processes is the run on one', () => {
  const cases: [name: string, changes: object][] = [
    ['GR-IPO', {}],
    ['DPO with uniform weights', { objective: { loss: 'dpo', beta: 0.5, weights: 'uniform' } }],
    ['SFT', { objective: { loss: 'sft' } }],
    ['balanced batches', { batch: { size: 7, sampler: 'balanced' } }],
    [
      'a plateau',
      {
        optimizer: {
          learningRate: 0.05,
          schedule: 'plateau',
          plateau: { patience: 0, threshold: 0.9, factor: 0.3, stopBelow: 0.01 },
        },
      },
    ],
  ];

  // Ten processes are more than a batch has trees.
  it.each(cases.flatMap((one) => [2, 4, 10].map((size) => [size, ...one] as const)))(
    '%i processes, %s',
    async (size, _, changes) => {
      const [alone] = await trained(1, changes);
      const team = await trained(size, changes);
      expect(alone.error).toBeUndefined();
      expect(alone.lines.length).toBeGreaterThan(2);
      for (const one of team) expectNear(one, alone);
      // Among each other they agree to the bit.
      for (const one of team) expect(one).toEqual(team[0]);
    },
  );

  it.each(['proportional', 'balanced'])('of groups that overlap, in %s batches', async (sampler) => {
    // The three groups of above become sets of two groups, or of both.
    const overlap = (data: PairDataset): PairDataset => ({
      ...data,
      groups: ['a', 'b'],
      cells: [[0, 1], [0], [1]],
      counts: [0, 1].map((g) => data.pairs.filter(({ group }) => group === 0 || group === g + 1).length),
    });
    const data = { train: overlap(train), validation: overlap(validation) };
    const changes = { batch: { size: 7, micro: 3, sampler } };
    const [alone] = await trained(1, changes, { data });
    expect(alone.error).toBeUndefined();
    expect(alone.lines.at(-1)).toHaveProperty('eval_group/a/loss');
    for (const one of await trained(3, changes, { data })) expectNear(one, alone);
  });

  it('skips a step that is not finite on one of them on all', async () => {
    const bad = train.pairs[4];
    const { weight } = bad;
    bad.weight = Number.NaN;
    try {
      const changes = { nonFinite: { action: 'skip' } };
      const [alone] = await trained(1, changes);
      const team = await trained(4, changes);
      expect(alone.decisions.join()).toContain('skipped');
      for (const one of team) expectNear({ ...one, error: undefined }, { ...alone, error: undefined });
    } finally {
      bad.weight = weight;
    }
  });

  it('names the pairs that are not finite on every process', async () => {
    const bad = train.pairs[4];
    const { chosen } = bad;
    // No such token: its log-probability is NaN.
    bad.chosen = Int32Array.of(77);
    try {
      for (const size of [1, 4])
        for (const { error } of await trained(size))
          expect(String(error)).toMatch(/the loss or a log-probability of made.jsonl:5 is not a finite number/);
    } finally {
      bad.chosen = chosen;
    }
  });

  it('warns of a starting gap on every process, whichever has the pairs', async () => {
    for (const off of [0, 1, 2]) {
      const team = await trained(3, { steps: 2 }, { offOf: (rank) => (rank === off ? 1 + 1e-4 : 1) });
      for (const { decisions } of team)
        expect(decisions).toEqual([expect.stringMatching(/differ before training: log-probs by up to 1\.0e-4 of/)]);
    }
    for (const { decisions } of await trained(3, { steps: 2 })) expect(decisions).toEqual([]);
  });

  it('stops all of them after the same step, whichever was asked to', async () => {
    for (const rank of [0, 2]) {
      const team = await trained(3, {}, { stopAt: { rank, step: 3 } });
      // The wish goes along with the next exchange, which is that of step 4.
      for (const { lines, error } of team) {
        expect(lines.at(-1)?.step).toBe(3);
        expect(error).toBeInstanceOf(InterruptedError);
      }
      const even = await trained(3, {}, { stopAt: { rank, step: 4 } });
      for (const { lines } of even) expect(lines.at(-1)?.step).toBe(5);
    }
  });
});

describe('shares of a batch', () => {
  const tokens = (indices: Iterable<number>) => {
    const prompts = new Set<string>();
    let sum = 0;
    for (const index of indices) {
      const { group, prompt, chosen, rejected } = train.pairs[index];
      const key = `${group}:${prompt.join()}`;
      if (!prompts.has(key)) sum += prompt.length;
      prompts.add(key);
      sum += chosen.length + rejected.length;
    }
    return sum;
  };

  it('hold every pair once, those of a prompt together, in the order of the batch, with even tokens', () => {
    const batches = fc.shuffledSubarray([...train.pairs.keys()], { minLength: 1 });
    fc.assert(
      fc.property(batches, fc.integer({ min: 1, max: 6 }), (batch, size) => {
        const all = Int32Array.from(batch);
        const shares = Array.from({ length: size }, (_, rank) => [...ownShare(train, all, { rank, size })]);
        expect(shares.flat().sort((a, b) => a - b)).toEqual([...batch].sort((a, b) => a - b));
        for (const share of shares) {
          const places = share.map((index) => batch.indexOf(index));
          expect(places).toEqual([...places].sort((a, b) => a - b));
        }
        const treeOf = (index: number) => `${train.pairs[index].group}:${train.pairs[index].prompt.join()}`;
        const owners = new Map<string, Set<number>>();
        shares.forEach((share, rank) => {
          for (const index of share) owners.set(treeOf(index), (owners.get(treeOf(index)) ?? new Set()).add(rank));
        });
        expect(Math.max(...[...owners.values()].map(({ size: count }) => count))).toBe(1);
        // What goes to the least loaded can leave it above another one by no more than itself.
        const loads = shares.map(tokens);
        const trees = [...owners.keys()].map((key) => tokens(batch.filter((index) => treeOf(index) === key)));
        expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(Math.max(...trees));
      }),
    );
  });
});

it('refuses a loss that couples all pairs of a step, of which each process has some only', async () => {
  const tilted = { batch: { size: 7 }, objective: { loss: 'dpo', beta: 0.5, weights: 'erm', tilt: -1 } };
  for (const { error } of await trained(2, tilted)) expect(String(error)).toMatch(/objective\.tilt.*one process/s);
  for (const { error } of await trained(1, tilted)) expect(error).toBeUndefined();
});

it.each([
  { loss: 'dpo', beta: 0.5, weights: 'exp3', step: 0.1, chi: 0.9 },
  { loss: 'ipo', beta: 0.5, weights: 'optimistic', step: 0.1, ambiguity: { set: 'cvar', level: 0.6 } },
  { loss: 'simpo', beta: 2, weights: 'best-response', iterate: 'average', scaling: 'batch-mean' },
])('takes the weights $weights to the same numbers as one process does', async (objective) => {
  const [alone] = await trained(1, { objective });
  for (const { theta, alpha, error } of await trained(3, { objective })) {
    expect(error).toBe(alone.error);
    expectNear(theta, alone.theta);
    expectNear(alpha, alone.alpha);
  }
});

it('adds up the sums of more groups than a call takes arguments', async () => {
  const names = Array.from({ length: 150_000 }, (_, g) => `group ${g}`);
  const last = names.length - 1;
  await Promise.all(
    memoryTeam(2).map(async (team) => {
      const totals = new GroupTotals(names.length);
      const metrics = new GroupMetrics(names);
      await sumOverTeam(team, totals, metrics, async () => {
        totals.add(last, 0.5 + team.rank, 2);
        metrics.add([last], [2], { loss: Float64Array.of(0.5 + team.rank) });
      });
      expect([totals.lossSums, totals.weightSums, totals.counts].map((sums) => sums[last])).toEqual([4, 4, 2]);
      expect(metrics.summary().groups).toEqual({ [`group ${last}`]: { count: 2, loss: 1 } });
    }),
  );
});
