import { InputError } from '../../errors.js';
import { Random } from '../../numbers/random.js';

/**
 * How batches are drawn. It is an option of the data, never of the method, so that two methods with one seed see the
 * same batches.
 *
 * - `proportional`: every pair once an epoch, in random order; the last batch of an epoch may be smaller.
 * - `balanced`: each item's group is drawn uniformly, then the next pair of that group's shuffled cycle.
 * - `stratified`: every batch holds the same number of each group, at least one, otherwise in proportion to group sizes.
 *
 * Where groups overlap, a pair that is drawn for one of its groups counts in all of them.
 */
export const samplerKinds = ['proportional', 'balanced', 'stratified'] as const;
export type SamplerKind = (typeof samplerKinds)[number];

export interface SamplerOptions {
  kind: SamplerKind;
  /** [pairs] group of each pair, or the index of its groups in `cells`. */
  groups: Int32Array;
  /** Where groups overlap the different sets of groups that pairs are of; default: each group by itself. */
  cells?: readonly (readonly number[])[];
  /**
   * [pairs] a number for each prompt. Pairs of one group and prompt are drawn one after another, so that a batch computes
   * their prompt once; a batch may still end between them. Default: all prompts differ.
   */
  prompts?: Int32Array;
  groupCount: number;
  batchSize: number;
  seed: number;
}

/** A draw is of group g with probability p_g; within a group every pair is equally likely, but for balanced and stratified draws of groups that overlap. */
export interface SamplerPlan {
  kind: SamplerKind;
  /** One epoch is about as many draws as there are pairs, in whole batches where batches are all of one size. */
  batchesPerEpoch: number;
  groups: { count: number; probability: number; repeatsPerEpoch: number }[];
}

/** Everything a checkpoint needs to continue the very same sequence of batches; plain JSON. */
export interface SamplerState {
  epoch: number;
  /** Batches already taken in this epoch. */
  batch: number;
  random: number[];
  /** Pass and position of each cycle. */
  cycles: [pass: number, position: number][];
}

export interface Sampler {
  /** p_g of a draw: N_g/N, 1/K, or n_g/batch; where groups overlap they sum to more than one. */
  readonly groupProbabilities: Float64Array;
  /** The same of each of the `cells`, within which every pair is equally likely: they sum to one. Without overlap that of the groups. */
  readonly cellProbabilities: Float64Array;
  readonly batchesPerEpoch: number;
  /** Epochs completed. */
  readonly epoch: number;
  /** Indices of the pairs of the next batch. */
  next(): Int32Array;
  /** What an epoch means here, and how often a pair of each group comes up in it. */
  describe(): SamplerPlan;
  state(): SamplerState;
  restore(state: SamplerState): void;
}

/**
 * @throws InputError when a group has no pair, or a stratified batch is smaller than the number of groups
 * @example
 * ```ts
 * import { createSampler } from 'group-robust-po';
 *
 * const groups = Int32Array.of(0, 0, 0, 1);
 * const sampler = createSampler({ kind: 'proportional', groups, groupCount: 2, batchSize: 2, seed: 0 });
 * sampler.groupProbabilities; // → [0.75, 0.25]
 * const epoch = [...sampler.next(), ...sampler.next()];
 * epoch.sort(); // → [0, 1, 2, 3]
 * ```
 */
export function createSampler(options: SamplerOptions): Sampler {
  return new CycleSampler(options);
}

/** Endless shuffled passes over pairs that stay together in `units`; every pass is a fresh permutation from its own stream. */
class Cycle {
  pass = -1;
  position = 0;
  private order: number[] = [];

  constructor(
    private readonly units: readonly (readonly number[])[],
    private readonly seed: number,
    private readonly name: number,
  ) {
    this.seek(0, 0);
  }

  seek(pass: number, position: number): void {
    if (pass !== this.pass) {
      const shuffled = Random.stream(this.seed, 'sampler', this.name, pass).shuffle(Int32Array.from(this.units.keys()));
      this.order = Array.from(shuffled, (unit) => this.units[unit]).flat();
    }
    this.pass = pass;
    this.position = position;
  }

  next(): number {
    if (this.position === this.order.length) this.seek(this.pass + 1, 0);
    return this.order[this.position++];
  }
}

/** See {@link SamplerPlan}. */
export function batchesPerEpoch(pairs: number, batchSize: number): number {
  return Math.ceil(pairs / batchSize);
}

class CycleSampler implements Sampler {
  readonly groupProbabilities: Float64Array;
  readonly cellProbabilities: Float64Array;
  readonly batchesPerEpoch: number;
  epoch = 0;
  private batch = 0;
  private random: Random;
  /** One cycle over all pairs when proportional, else one for each group. */
  private readonly cycles: Cycle[];
  private readonly counts: number[];
  /** Of a stratified batch: how many of each group. */
  private readonly quotas: number[];

  constructor(private readonly options: SamplerOptions) {
    const { kind, groups, groupCount, batchSize, seed } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw new InputError(`a batch of ${batchSize} pairs cannot be drawn`, { fix: 'use a whole number ≥ 1' });
    const cells = options.cells ?? Array.from({ length: groupCount }, (_, group) => [group]);
    const cellCounts = cells.map(() => 0);
    const members = Array.from({ length: groupCount }, (): number[] => []);
    groups.forEach((cell, pair) => {
      cellCounts[cell]++;
      for (const group of cells[cell]) members[group].push(pair);
    });
    this.counts = members.map((pairs) => pairs.length);
    const empty = this.counts.indexOf(0);
    if (empty >= 0)
      throw new InputError(`group ${empty} has no pair to draw from`, { fix: 'leave the group out, or add data' });

    this.quotas = kind === 'stratified' ? shareOut(batchSize, this.counts) : [];
    const drawnFor = (group: number) => (kind === 'balanced' ? 1 / groupCount : this.quotas[group] / batchSize);
    this.cellProbabilities = Float64Array.from(cells, (ofCell, cell) =>
      kind === 'proportional'
        ? cellCounts[cell] / groups.length
        : ofCell.reduce((sum, group) => sum + drawnFor(group) * (cellCounts[cell] / this.counts[group]), 0),
    );
    this.groupProbabilities = new Float64Array(groupCount);
    for (const [cell, ofCell] of cells.entries())
      for (const group of ofCell) this.groupProbabilities[group] += this.cellProbabilities[cell];
    this.cycles =
      kind === 'proportional'
        ? [new Cycle(unitsOf([...groups.keys()], options), seed, -1)]
        : members.map((pairs, group) => new Cycle(unitsOf(pairs, options), seed, group));
    this.random = Random.stream(seed, 'sampler', 'groups');
    this.batchesPerEpoch = batchesPerEpoch(groups.length, batchSize);
  }

  next(): Int32Array {
    const { kind, groups, groupCount, batchSize } = this.options;
    // The last proportional batch stops at the end of the permutation: every pair once an epoch, none dropped.
    const size = kind === 'proportional' ? Math.min(batchSize, groups.length - this.batch * batchSize) : batchSize;
    const drawn: number[] = [];
    if (kind === 'proportional') for (let i = 0; i < size; i++) drawn.push(this.cycles[0].next());
    else if (kind === 'balanced')
      for (let i = 0; i < size; i++) drawn.push(this.cycles[this.random.integer(groupCount)].next());
    else
      this.quotas.forEach((quota, group) => {
        for (let i = 0; i < quota; i++) drawn.push(this.cycles[group].next());
      });
    if (++this.batch === this.batchesPerEpoch) {
      this.batch = 0;
      this.epoch++;
    }
    return Int32Array.from(drawn);
  }

  describe(): SamplerPlan {
    const { kind, groups, batchSize } = this.options;
    const draws = kind === 'proportional' ? groups.length : this.batchesPerEpoch * batchSize;
    return {
      kind,
      batchesPerEpoch: this.batchesPerEpoch,
      groups: this.counts.map((count, group) => {
        const probability = this.groupProbabilities[group];
        return { count, probability, repeatsPerEpoch: (draws * probability) / count };
      }),
    };
  }

  state(): SamplerState {
    return {
      epoch: this.epoch,
      batch: this.batch,
      random: this.random.state(),
      cycles: this.cycles.map(({ pass, position }) => [pass, position]),
    };
  }

  restore(state: SamplerState): void {
    this.epoch = state.epoch;
    this.batch = state.batch;
    this.random = Random.restore(state.random);
    this.cycles.forEach((cycle, i) => {
      cycle.seek(...state.cycles[i]);
    });
  }
}

/** The pairs `members` by groups and prompt, in the order of the first pair of each. */
function unitsOf(members: number[], { groups, prompts }: SamplerOptions): number[][] {
  if (!prompts) return members.map((pair) => [pair]);
  const units = new Map<number, number[]>();
  for (const pair of members) {
    const key = groups[pair] * 2 ** 32 + (prompts[pair] >>> 0);
    const unit = units.get(key);
    if (unit) unit.push(pair);
    else units.set(key, [pair]);
  }
  return [...units.values()];
}

/** `total` places for groups of the given sizes: one each, the rest in proportion, by largest remainder. */
function shareOut(total: number, sizes: number[]): number[] {
  if (total < sizes.length)
    throw new InputError(`a stratified batch of ${total} cannot hold one pair of each of ${sizes.length} groups`, {
      fix: `use a batch of at least ${sizes.length}, or another sampler`,
    });
  const all = sizes.reduce((sum, size) => sum + size, 0);
  const quotas = sizes.map((size) => Math.max(1, Math.floor((total * size) / all)));
  const missing = (group: number) => (total * sizes[group]) / all - quotas[group];
  const order = [...sizes.keys()];
  for (let left = total - quotas.reduce((sum, quota) => sum + quota, 0); left !== 0; left -= Math.sign(left)) {
    const eligible = left > 0 ? order : order.filter((group) => quotas[group] > 1);
    const group = eligible.reduce((best, g) => (Math.sign(left) * (missing(g) - missing(best)) > 0 ? g : best));
    quotas[group] += Math.sign(left);
  }
  return quotas;
}
