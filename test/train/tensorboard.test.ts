import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { EventFile } from '../../src/train/tensorboard.js';
import { temporaryFolder } from '../temporary-folder.js';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});

const lines = [
  {
    step: 0,
    'group/Nigeria/alpha': 0.5,
    'group/India (Current national sample)/alpha': 0.25,
    'group/é/alpha': 0,
    'worst/group': 'Nigeria',
  },
  { step: 1, loss: 2500.125, grad_norm: 1e-30, grad_clipped: true, 'rewards/margins': -3.1 },
  { step: 300, loss: 0.1 },
];

function writeSession(clock: number, session: readonly { step: number }[]): void {
  const events = new EventFile(folder, session[0].step, () => clock);
  for (const line of session) events.write(line);
  events.close();
}

describe('EventFile', () => {
  it("writes the bytes that TensorBoard's own writer does", () => {
    writeSession(1.5e9, lines);
    const [name] = readdirSync(folder);
    expect(name).toMatch(/tfevents/);
    expect(readFileSync(join(folder, name)).equals(readFileSync('test/fixtures/tensorboard/golden.tfevents'))).toBe(
      true,
    );
  });

  it('sorts the files of later sessions after those of earlier ones', () => {
    writeSession(1.5e9, lines);
    const [first] = readdirSync(folder);
    writeSession(1.5e9 + 0.25, lines);
    expect(readdirSync(folder).sort()[0]).toBe(first);
  });
});

const python = process.env.PYTHON ?? 'python3';
const present = spawnSync(python, ['-c', 'import tensorboard']).status === 0;

describe.skipIf(!present)("TensorBoard's reader", () => {
  const script = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0, "scalars": 0}).Reload()
print(json.dumps({tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
`;
  const read = () => {
    const { stdout, stderr, status } = spawnSync(python, ['-c', script, folder], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout) as Record<string, [number, number][]>;
  };

  it('sees every number of every step', () => {
    writeSession(1.5e9, lines);
    expect(read()).toEqual({
      'group/Nigeria/alpha': [[0, 0.5]],
      'group/India (Current national sample)/alpha': [[0, 0.25]],
      'group/é/alpha': [[0, 0]],
      loss: [
        [1, 2500.125],
        [300, Math.fround(0.1)],
      ],
      grad_norm: [[1, Math.fround(1e-30)]],
      grad_clipped: [[1, 1]],
      'rewards/margins': [[1, Math.fround(-3.1)]],
    });
  });

  it('sees a step that a resumed run repeats once, as the later session has it', () => {
    const at = (step: number, loss: number) => ({ step, loss });
    writeSession(1.5e9, [at(0, 10), at(1, 11), at(2, 12), at(3, 13)]);
    writeSession(1.5e9 + 60, [at(2, 22), at(3, 23), at(4, 24)]);
    expect(read().loss).toEqual([
      [0, 10],
      [1, 11],
      [2, 22],
      [3, 23],
      [4, 24],
    ]);
  });
});
