import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Three groups; the last has a name that would break a page that does not escape, or a path. */
export const groupNames = ['Nigeria', 'India (Current national sample)', '<b>"A&B"</b>/é'];

/** Final losses and accuracies of one fake run, in the order of `groupNames`; made up so that every number is distinct. */
export function finalScores(method: 'ipo' | 'gr-ipo', seed: number) {
  const shift = 0.1 * seed + 0.01 * seed * seed;
  return method === 'ipo'
    ? { losses: [3 + shift, 5 + shift, 9 + shift], accuracies: [0.9, 0.8, 0.5 + 0.02 * seed] }
    : { losses: [4 + shift, 5.5 + shift, 7 + 1.2 * shift], accuracies: [0.85, 0.75, 0.65 + 0.03 * seed] };
}

/** Writes one run folder per method and seed into `root`, as `group-robust train` leaves them. */
export function writeFakeRuns(
  root: string,
  seeds = [0, 1, 2],
  methods: readonly ('ipo' | 'gr-ipo')[] = ['ipo', 'gr-ipo'],
): string[] {
  return methods.flatMap((method) => seeds.map((seed) => writeFakeRun(join(root, `${method}-${seed}`), method, seed)));
}

function writeFakeRun(folder: string, method: 'ipo' | 'gr-ipo', seed: number): string {
  mkdirSync(folder, { recursive: true });
  const { losses, accuracies } = finalScores(method, seed);
  const file = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const weights = method === 'ipo' ? 'erm' : 'mirror-ascent\n  step: 0.01';
  file(
    'config.yaml',
    `model: random:tiny\nseed: ${seed}\nobjective:\n  loss: ipo\n  beta: 0.1\n  weights: ${weights}\n`,
  );
  file(
    'run.json',
    JSON.stringify({
      versions: { 'group-robust-po': '0.1.0', node: 'v20.17.0' },
      git: null,
      seed,
      dataHash: `data-${seed}`,
      groups: Object.fromEntries(groupNames.map((name) => [name, { train: 80, validation: 10, test: 10 }])),
      method,
      created: `2026-01-01T00:0${seed}:0${weights.length % 10}Z`,
    }),
  );
  const groups = Object.fromEntries(
    groupNames.map((name, g) => [
      name,
      {
        count: 40 - 10 * g,
        loss: losses[g],
        'rewards/accuracies': accuracies[g],
        'rewards/margins': 0.3,
        'logps/accuracies': 0.6,
      },
    ]),
  );
  const overPairs = (values: number[]) => (4 * values[0] + 3 * values[1] + 2 * values[2]) / 9;
  const mean = { loss: overPairs(losses) };
  file('evaluation.json', JSON.stringify({ groups, mean, worst: { loss: 1, group: 'Nigeria' } }));
  const lines = Array.from({ length: 31 }, (_, step) => {
    const left = Math.exp(-step / 10) * (1 + 0.05 * Math.sin(step + seed));
    const line: Record<string, unknown> = {
      step,
      // 16 pairs of 240.
      epoch: step / 15,
      loss: 25 * left,
      learning_rate: 1e-4,
      grad_norm: 1,
      'worst/group': 'Nigeria',
    };
    groupNames.forEach((name, g) => {
      line[`group/${name}/loss`] = losses[g] + (25 - losses[g]) * left;
      line[`group/${name}/alpha`] = 1 / 3 + (method === 'ipo' ? 0 : (g - 1) * 0.005 * step * (1 + 0.2 * seed));
      if (step % 5 !== 0) return;
      line[`eval_group/${name}/loss`] = losses[g] + (25 - losses[g]) * left;
      line[`eval_group/${name}/logps/accuracies`] = 0.5 + (accuracies[g] - 0.5) * (1 - left);
    });
    if (step % 5 === 0) {
      line['eval_worst/loss'] = Math.max(...losses) * (1 - left) + 25 * left;
      line.eval_loss = overPairs(losses) * (1 - left) + 25 * left;
    }
    return JSON.stringify(line);
  });
  file('metrics.jsonl', `${lines.join('\n')}\n`);
  return folder;
}
