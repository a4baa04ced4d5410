import type { PairDataset, TokenisedPair } from '../data/pairs/dataset.js';
import { type PackedPairs, packPairs, pairLogProbabilities } from '../data/pairs/packing.js';
import { promptNumbers } from '../data/pairs/prompt-numbers.js';
import { shareNumbers, type Team } from '../distributed/team.js';
import { present } from '../errors.js';
import type { NativeBatch } from '../native/types.js';
import type { LogProbabilitySource, Policy } from '../policy/policy.js';
import type { Progress } from '../terminal/progress.js';
import type { PairScores } from './objective.js';
import type { ReferenceCache } from './reference-cache.js';

/** Scoring pairs with a policy: the only place where pairs are packed into trees and scores of responses put back into columns. */

/** A data set, as far as scoring needs it. */
interface Pairs {
  readonly pairs: readonly TokenisedPair[];
}

/** Log-probabilities of the packed responses, by pair, with their lengths. `logps` is [responses]. */
export function byPair(packed: PackedPairs, logps: Float64Array): PairScores {
  const { chosen, rejected } = pairLogProbabilities(packed, logps);
  const { chosenLengths, rejectedLengths } = packed;
  return rejected.length === 0 ? { chosen, chosenLengths } : { chosen, rejected, chosenLengths, rejectedLengths };
}

/**
 * Tokens of a scoring batch, with Gemma-2B in mind: 2.0e9 weights, layers of 2,048 and 16,384.
 *
 * On a CPU 1,024 rows keep the cores busy, and activations below 0.3 GB.
 *
 * On a GPU a pass takes 4e9 floating-point operations a token: at 4e14 a second 10 ms for 1,024 tokens, no more than the host needs to launch
 * its 1,400 kernels or so, 5 to 7 µs each; and a product of 1,024 × 2,048 is 64 tiles of 128 × 256, for the 132 multiprocessors of an H100.
 * 8,192 tokens are 80 ms, eight times as long as the launches, which then run ahead, and 512 tiles, four for each. The gated layer takes three
 * times 8,192 × 16,384 × 2 bytes, 0.8 GB (1.8 GB in Gemma 2 27B, 36,864 wide), the head works in chunks: less than a training step of 16
 * short pairs, whose 18 layers are all kept. Twice as many would save nothing that a small card's memory is worth. Not measured on a card.
 */
const scoringTokens = { cpu: 1024, gpu: 8192 } as const;

/** What bounds a scoring batch. */
export interface ScoringLimits {
  /** Most pairs; default: as many as fill the tokens that suit the device. */
  maxPairs?: number;
  /** Where they are scored; default `cpu`. */
  device?: string;
}

/**
 * The batches in which a whole data set is scored, as indices of its pairs. All pairs of one prompt come together, in the
 * order in which prompts first appear, so that each prompt is computed once. Reference and evaluation score in these very
 * batches, so their values agree to the bit while policy and reference are the same model.
 *
 * A pair of more tokens than suit the device is a batch of its own.
 */
export function scoringBatches(
  { pairs }: Pairs,
  { maxPairs = Number.POSITIVE_INFINITY, device = 'cpu' }: ScoringLimits = {},
): Int32Array[] {
  const maxTokens = scoringTokens[device === 'cpu' ? 'cpu' : 'gpu'];
  const byPrompt: number[][] = [];
  promptNumbers(pairs).forEach((number, pair) => {
    byPrompt[number] ??= [];
    byPrompt[number].push(pair);
  });
  const batches: Int32Array[] = [];
  let batch: number[] = [];
  let tokens = 0;
  const close = () => {
    if (batch.length > 0) batches.push(Int32Array.from(batch));
    batch = [];
    tokens = 0;
  };
  const responseTokens = (pair: number) => pairs[pair].chosen.length + pairs[pair].rejected.length;
  for (const members of byPrompt) {
    const promptTokens = pairs[members[0]].prompt.length;
    const all = members.reduce((sum, pair) => sum + responseTokens(pair), promptTokens);
    if (tokens + all > maxTokens || batch.length + members.length > maxPairs) close();
    tokens += promptTokens;
    for (const pair of members) {
      // Only where one prompt alone has more pairs than a batch takes.
      if (tokens + responseTokens(pair) > maxTokens || batch.length === maxPairs) {
        close();
        tokens += promptTokens;
      }
      batch.push(pair);
      tokens += responseTokens(pair);
    }
  }
  close();
  return batches;
}

/** Pairs packed for scoring. Groups matter to gradients only and are ignored here, so that pairs of different groups can share a prompt. */
export function packForScoring(data: Pairs, indices: ArrayLike<number>): PackedPairs {
  return packPairs(
    // The fields of a pair are getters, which a spread would not copy.
    pairsAt(data, indices).map(({ id, prompt, chosen, rejected, weight }) => ({
      id,
      group: 0,
      prompt,
      chosen,
      rejected,
      weight,
    })),
    { responses: 'both' },
  );
}

/** A batch of pairs, packed, with the log-probabilities of its responses, [responses] by each source that was asked for. */
interface ScoredBatch {
  indices: Int32Array;
  packed: PackedPairs;
  logps: Float64Array[];
}

/**
 * Scores batches of a data set, in their order. A team scores as many at a time as it has processes, each process one, and all get the scores
 * of all: which are those of one process, to the bit where their processors and threads are alike.
 * @param pause called before one process's batch, or the team's; may throw to stop
 */
export async function* scoreBatches(
  policy: Policy<NativeBatch>,
  data: Pairs,
  batches: readonly Int32Array[],
  sources: readonly LogProbabilitySource[],
  { pause, team }: { pause?: () => void; team?: Team } = {},
): AsyncGenerator<ScoredBatch> {
  const scores = async ({ batch }: PackedPairs) => {
    const logps: Float64Array[] = [];
    for (const source of sources) logps.push(await policy.logProbabilities(batch, source));
    return logps;
  };
  const size = team?.size ?? 1;
  for (let start = 0; start < batches.length; start += size) {
    pause?.();
    // Packed only now: all batches at once would take more memory than the pairs themselves.
    const round = batches
      .slice(start, start + size)
      .map((indices) => ({ indices, packed: packForScoring(data, indices) }));
    if (!team) {
      for (const { indices, packed } of round) yield { indices, packed, logps: await scores(packed) };
      continue;
    }
    const responses = round.map(({ packed }) => packed.batch.responseLengths.length);
    const own = new Float64Array(sources.length * Math.max(...responses));
    const mine = round[team.rank];
    const ownResponses = responses[team.rank] ?? 0;
    if (mine) for (const [s, logps] of (await scores(mine.packed)).entries()) own.set(logps, s * ownResponses);
    const all = await team.gather(own);
    for (const [rank, { indices, packed }] of round.entries()) {
      const count = present(responses[rank]);
      const logps = sources.map((_, s) => present(all[rank]).slice(s * count, (s + 1) * count));
      yield { indices, packed, logps };
    }
  }
}

/** Reference log-probabilities of a whole data set: [pairs] each, summed over response tokens. */
export class ReferenceScores {
  constructor(
    private readonly chosen: Float64Array,
    private readonly rejected: Float64Array,
  ) {}

  /** Adds the reference columns of the pairs with these indices, which `scores` holds in the same order. */
  addTo(scores: PairScores, indices: ArrayLike<number>): PairScores {
    return {
      ...scores,
      referenceChosen: Float64Array.from(indices, (pair) => this.chosen[pair]),
      referenceRejected: Float64Array.from(indices, (pair) => this.rejected[pair]),
    };
  }
}

/** Seconds of scoring that are lost at most when a run is killed. */
const secondsBetweenWrites = 30;

/**
 * Scores data sets by the reference, which never changes: each set once, in its scoring batches, before the first step that needs it, or not
 * at all where a cache has the scores. Scores from the cache are equal to the bit to those that would be computed, so a run does not depend
 * on it.
 */
export class Reference {
  /** Forward passes of the reference so far. */
  forwardPasses = 0;
  /** Pairs whose scores were needed so far, wherever they came from. */
  pairs = 0;

  constructor(
    private readonly policy: Policy<NativeBatch>,
    private readonly options: {
      cache?: ReferenceCache;
      /** Shows the progress of scoring a file; called only where something has to be computed. */
      progress?: (file: string, pairs: number) => Progress;
      /** Called before every forward pass; may throw to stop, and the cache has what was scored. */
      pause?: () => void;
      /** Shares the scoring; the cache is then that of rank 0, and the others have one too, by which they are compared. */
      team?: Team;
    } = {},
  ) {}

  async score(data: Pairs & Pick<PairDataset, 'file'>, batches: readonly Int32Array[]): Promise<ReferenceScores> {
    const { cache, progress, pause, team } = this.options;
    const keeps = !team || !cache || (await cache.alikeIn(team));
    let responses = 0;
    const counted = function* () {
      for (const indices of batches) {
        const { batch } = packForScoring(data, indices);
        responses += batch.responseLengths.length;
        yield batch;
      }
    };
    const entry = team && team.rank > 0 ? undefined : await cache?.entry(counted());
    if (!entry) for (const _ of counted());
    const scores = new Float64Array(responses);
    let known = entry?.read(scores) ?? 0;
    if (team) {
      const shared = await shareNumbers(team, scores.subarray(0, known));
      scores.set(shared);
      known = shared.length;
    }
    this.pairs += data.pairs.length;

    const chosen = new Float64Array(data.pairs.length);
    const rejected = new Float64Array(data.pairs.length);
    const bar = known < scores.length ? progress?.(data.file, data.pairs.length) : undefined;
    let keptAt = Date.now();
    // Responses and pairs in their places so far; of the former those that the cache has.
    let end = 0;
    let done = 0;
    let kept = known;
    const keep = () => {
      if (keeps && end > kept) entry?.write(scores.subarray(0, end));
      kept = Math.max(kept, end);
      keptAt = Date.now();
    };
    const place = (indices: Int32Array, packed: PackedPairs) => {
      const begin = end;
      end += packed.batch.responseLengths.length;
      const columns = byPair(packed, scores.subarray(begin, end));
      indices.forEach((pair, i) => {
        chosen[pair] = columns.chosen[i];
        rejected[pair] = columns.rejected![i];
      });
      done += indices.length;
      bar?.update(done);
    };
    let b = 0;
    for (; b < batches.length; b++) {
      const packed = packForScoring(data, batches[b]);
      if (end + packed.batch.responseLengths.length > known) break;
      place(batches[b], packed);
    }
    try {
      for await (const { indices, packed, logps } of scoreBatches(this.policy, data, batches.slice(b), ['reference'], {
        pause,
        team,
      })) {
        scores.set(present(logps[0]), end);
        place(indices, packed);
        this.forwardPasses++;
        if (Date.now() - keptAt > 1000 * secondsBetweenWrites) keep();
      }
    } finally {
      keep();
      bar?.stop();
    }
    return new ReferenceScores(chosen, rejected);
  }
}

/** A data set with its scoring batches and, where the objective uses a reference, that one's scores. */
export interface ScoredDataset {
  data: PairDataset;
  batches: readonly Int32Array[];
  reference?: ReferenceScores;
}

/** @param reference undefined for an objective without one: then nothing is computed */
export async function scoredDataset(
  data: PairDataset,
  reference: Reference | undefined,
  limits?: ScoringLimits,
): Promise<ScoredDataset> {
  const batches = scoringBatches(data, limits);
  return { data, batches, reference: await reference?.score(data, batches) };
}

/** The pairs of `data` with these indices, packed for one training pass. */
export function packBatch(data: PairDataset, indices: ArrayLike<number>, responses: 'both' | 'chosen'): PackedPairs {
  return packPairs(pairsAt(data, indices), { responses });
}

/** The pairs with these indices. */
export function pairsAt({ pairs }: Pairs, indices: ArrayLike<number>): TokenisedPair[] {
  return Array.from(indices, (pair) => pairs[pair]);
}

/** Columns the metrics need from the pairs themselves. */
export function pairColumns(pairs: readonly TokenisedPair[]): {
  groups: Int32Array;
  weights: Float64Array;
  /** Of each pair the share that prefers its chosen response. */
  preferences: Float64Array;
} {
  return {
    groups: Int32Array.from(pairs, (pair) => pair.group),
    weights: Float64Array.from(pairs, (pair) => pair.weight),
    preferences: Float64Array.from(pairs, ({ preference = 1 }) => preference),
  };
}
