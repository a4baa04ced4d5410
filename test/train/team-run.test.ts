import { expect, it } from 'vitest';
import { resolveConfig } from '../../src/train/config.js';
import { agreeOnRun } from '../../src/train/team-run.js';
import { memoryTeam } from '../distributed/memory-team.js';

const config = (device: string, more: object = {}) =>
  resolveConfig({
    model: 'none',
    output: 'none',
    data: { train: 'none' },
    objective: { loss: 'sft' },
    steps: 1,
    device,
    ...more,
  });

const agreed = (devices: readonly string[]) =>
  Promise.all(
    memoryTeam(2).map((team, rank) =>
      agreeOnRun(team, config(devices[rank]), {}, { versions: {}, threads: 1, device: devices[rank] }),
    ),
  );

it('lets each process have a card of its own, as `--device cuda:$LOCAL_RANK` names them', async () => {
  await agreed(['cuda:0', 'cuda:1']);
  await expect(agreed(['cuda:0', 'cpu'])).rejects.toThrow(
    'field "kind of device": is "cpu" on rank 1, and "cuda" on rank 0',
  );
});
