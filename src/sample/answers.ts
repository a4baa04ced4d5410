import { Random } from '../numbers/random.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import { NonFiniteError } from '../train/non-finite.js';
import { type SamplingSettings, TokenSampler } from './token-sampler.js';

export interface AnswerSettings extends SamplingSettings {
  /** Answers to each prompt. */
  count: number;
  seed: number;
  /** Most tokens of an answer. */
  maxTokens: number;
  /** Answers that are computed side by side. */
  batch: number;
}

/** A prompt of token ids, BOS included. */
export interface AnswerablePrompt {
  /** `file:line`, for messages. */
  id: string;
  /** Number that its random streams are named by, whatever other prompts there are. */
  line: number;
  prompt: Int32Array;
  /** Tokens that end an answer to it, as its last. */
  stops: ReadonlySet<number>;
}

export interface Answer {
  /** Index of its prompt. */
  prompt: number;
  /** Its number among the answers to the prompt, from 0. */
  sample: number;
  /** With the token that ended it, if one did. */
  tokens: number[];
  /** log π(answer | prompt) of all these tokens, at temperature 1. */
  logProbability: number;
  finishReason: 'stop' | 'length';
}

/**
 * Draws answers of the policy, in the order of prompts and samples. Each has its own stream of random numbers and its own arithmetic, so
 * that it is the same whatever `batch` is and whatever other prompts there are. A prompt is computed once for all its answers; where one
 * answer ends, the next takes its place.
 * @throws NonFiniteError naming the prompt
 */
export async function* drawAnswers(
  policy: Pick<GemmaPolicy, 'prefill' | 'fork' | 'decode' | 'release'>,
  prompts: readonly AnswerablePrompt[],
  settings: AnswerSettings,
): AsyncGenerator<Answer> {
  const { count, seed, maxTokens, batch } = settings;
  const sampler = new TokenSampler(settings);
  const total = prompts.length * count;
  const finished = new Map<number, Answer>();
  let begun = 0;
  let given = 0;
  let active: Draw[] = [];
  let opened: Awaited<ReturnType<typeof policy.prefill>> | undefined;

  /** Adds the next token. @returns whether the answer goes on */
  const extend = (draw: Draw, logits: Float32Array): boolean => {
    const { answer, random } = draw;
    const { token, logProbability } = sampler.draw(logits, random);
    if (!Number.isFinite(logProbability))
      throw new NonFiniteError(
        `a logit after ${prompts[answer.prompt].id} and ${answer.tokens.length} tokens of an answer is not a finite number`,
        { fix: 'check the model; if dtype is not float32, try float32' },
      );
    answer.tokens.push(token);
    answer.logProbability += logProbability;
    if (prompts[answer.prompt].stops.has(token)) answer.finishReason = 'stop';
    else if (answer.tokens.length < maxTokens) return true;
    finished.set(answer.prompt * count + answer.sample, answer);
    return false;
  };

  /** Gives what is finished, and whose turn it is. */
  const give = function* (): Generator<Answer> {
    for (let next = finished.get(given); next !== undefined; next = finished.get(given)) {
      finished.delete(given++);
      yield next;
    }
  };

  while (given < total) {
    while (active.length < batch && begun < total) {
      const [prompt, sample] = [Math.floor(begun / count), begun % count];
      opened ??= await policy.prefill(prompts[prompt].prompt);
      const answer: Answer = { prompt, sample, tokens: [], logProbability: 0, finishReason: 'length' };
      const draw = { answer, random: Random.stream(seed, 'sample', prompts[prompt].line, sample), sequence: 0 };
      if (extend(draw, opened.logits)) {
        // The last token is never followed by another, so it needs no room.
        draw.sequence = await policy.fork(opened.sequence, maxTokens - 1);
        active.push(draw);
      }
      if (sample === count - 1) {
        await policy.release(opened.sequence);
        opened = undefined;
      }
      begun++;
      // Here too: where answers end at their first token, none is ever active.
      yield* give();
    }
    if (active.length > 0) active = await step(policy, active, extend);
    yield* give();
  }
}

/** An answer that is being drawn. */
interface Draw {
  answer: Answer;
  random: Random;
  /** Of prompt and answer, but for its last token. */
  sequence: number;
}

/** @returns those that go on */
async function step(
  policy: Pick<GemmaPolicy, 'decode' | 'release'>,
  active: readonly Draw[],
  extend: (draw: Draw, logits: Float32Array) => boolean,
): Promise<Draw[]> {
  const last = Int32Array.from(active, ({ answer }) => answer.tokens[answer.tokens.length - 1]);
  const logits = await policy.decode(
    active.map(({ sequence }) => sequence),
    last,
  );
  const vocabulary = logits.length / active.length;
  const going = active.filter((draw, i) => extend(draw, logits.subarray(i * vocabulary, (i + 1) * vocabulary)));
  for (const draw of active) if (!going.includes(draw)) await policy.release(draw.sequence);
  return going;
}
