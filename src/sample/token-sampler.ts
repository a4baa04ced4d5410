import type { Random } from '../numbers/random.js';
import { exp } from '../objective/fast-math.js';

export interface SamplingSettings {
  /** Logits are divided by it; 0: always the likeliest token, of equals the first. */
  temperature: number;
  /** Only the likeliest tokens are drawn from, as few as have this share of the probability (after the temperature); 1: all. */
  topP: number;
}

export interface DrawnToken {
  token: number;
  /** log softmax(logits)[token]: of the model itself, whatever the settings. NaN where a logit is. */
  logProbability: number;
}

/** Draws tokens from logits, with one uniform number for each. */
export class TokenSampler {
  /** Room for the weights of all tokens. */
  private weights = new Float64Array(0);

  constructor(private readonly settings: SamplingSettings) {}

  /** @param logits [vocabulary] */
  draw(logits: Float32Array, random: Random): DrawnToken {
    let likeliest = 0;
    for (let i = 1; i < logits.length; i++) if (logits[i] > logits[likeliest]) likeliest = i;
    const largest = logits[likeliest];
    let total = 0;
    for (let i = 0; i < logits.length; i++) total += exp(logits[i] - largest);
    const token = this.settings.temperature === 0 ? likeliest : this.random(logits, largest, random);
    return { token, logProbability: logits[token] - largest - Math.log(total) };
  }

  private random(logits: Float32Array, largest: number, random: Random): number {
    const { temperature, topP } = this.settings;
    if (this.weights.length !== logits.length) this.weights = new Float64Array(logits.length);
    const { weights } = this;
    let total = 0;
    for (let i = 0; i < logits.length; i++) {
      weights[i] = exp((logits[i] - largest) / temperature);
      total += weights[i];
    }
    if (topP === 1) return random.categorical(weights);
    const nucleus = this.nucleus(total);
    return nucleus[random.categorical(nucleus.map((token) => weights[token]))];
  }

  /** The likeliest tokens, in that order, until they have the share; of equals the first. */
  private nucleus(total: number): number[] {
    const { weights } = this;
    const share = this.settings.topP * total;
    // Tokens less likely than this have, all together, no more than what is left out: few are left to be sorted.
    const least = (total - share) / weights.length;
    const tokens: number[] = [];
    for (let i = 0; i < weights.length; i++) if (weights[i] >= least) tokens.push(i);
    tokens.sort((a, b) => weights[b] - weights[a] || a - b);
    let sum = 0;
    let count = 0;
    while (count < tokens.length && sum < share) sum += weights[tokens[count++]];
    return tokens.slice(0, Math.max(1, count));
  }
}
