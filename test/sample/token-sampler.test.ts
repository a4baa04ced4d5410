import { describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { type SamplingSettings, TokenSampler } from '../../src/sample/token-sampler.js';

const logits = Float32Array.of(0.3, 2.1, -1, 1.4, 2.1, -40, 0.9);

/** By the definition: sorted, cut, normalised. */
function exact({ temperature, topP }: SamplingSettings): number[] {
  const weights = Array.from(logits, (logit) => Math.exp(logit / temperature));
  const total = weights.reduce((a, b) => a + b);
  const order = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a] || a - b);
  let before = 0;
  const kept = order.filter((token) => {
    const takes = topP === 1 || before < topP * total;
    before += weights[token];
    return takes;
  });
  const sum = kept.reduce((s, token) => s + weights[token], 0);
  return weights.map((weight, token) => (kept.includes(token) ? weight / sum : 0));
}

function frequencies(settings: SamplingSettings, draws: number): number[] {
  const sampler = new TokenSampler(settings);
  const random = Random.stream(1, 'test sampler');
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < draws; i++) counts[sampler.draw(logits, random).token]++;
  return counts;
}

describe('drawn tokens', () => {
  it.each<[SamplingSettings, kept: number]>([
    [{ temperature: 1, topP: 1 }, 7],
    [{ temperature: 0.6, topP: 1 }, 7],
    [{ temperature: 2.5, topP: 1 }, 7],
    [{ temperature: 1, topP: 0.9 }, 4],
    [{ temperature: 1, topP: 0.5 }, 2],
    [{ temperature: 1, topP: 0.3 }, 1],
    [{ temperature: 2.5, topP: 0.75 }, 4],
  ])('have the frequencies of %j', (settings, kept) => {
    const probabilities = exact(settings);
    expect(probabilities.filter((p) => p > 0)).toHaveLength(kept);
    const draws = 20_000;
    const counts = frequencies(settings, draws);
    let statistic = 0;
    probabilities.forEach((p, token) => {
      if (p === 0) expect(counts[token]).toBe(0);
      // Of the token at -40 none can be expected.
      else if (p > 1e-5) statistic += (counts[token] - draws * p) ** 2 / (draws * p);
    });
    // The 0.9999 quantile of chi-square with 6 degrees of freedom, which are the most there are.
    expect(statistic).toBeLessThan(27.86);
  });

  it('are the likeliest at temperature 0, of equals the first, without a random number', () => {
    const random = Random.stream(1, 'test sampler');
    const before = random.state();
    expect(new TokenSampler({ temperature: 0, topP: 1 }).draw(logits, random).token).toBe(1);
    expect(random.state()).toEqual(before);
  });

  it('have the log-probability of the logits, whatever the settings', () => {
    const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    for (const settings of [
      { temperature: 0, topP: 1 },
      { temperature: 1, topP: 1 },
      { temperature: 3, topP: 0.8 },
    ]) {
      const { token, logProbability } = new TokenSampler(settings).draw(logits, Random.stream(5, 'test sampler'));
      expect(logProbability).toBeCloseTo(logits[token] - total, 12);
    }
  });

  it('say where a logit is no number', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const some = Float32Array.of(1, bad, 2);
      for (const temperature of [0, 1]) {
        const { logProbability } = new TokenSampler({ temperature, topP: 1 }).draw(some, Random.stream(1, 'test'));
        expect(logProbability).toBeNaN();
      }
    }
  });
});
