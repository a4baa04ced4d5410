import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { agree } from '../distributed/agreement.js';
import type { Team } from '../distributed/team.js';
import type { GemmaPolicy } from '../policy/gemma.js';
import type { TrainConfig } from './config.js';
import { leavesOf, type RunIdentity } from './identity.js';

/** What the processes of one training run hold in common. */

/**
 * Refuses processes that are to train differently.
 * @param made versions and number of threads, which decide the last bits
 * @throws InputError naming the key
 */
export async function agreeOnRun(
  team: Team,
  config: TrainConfig,
  identity: RunIdentity,
  made: { versions: Record<string, string>; threads: number; device: string },
): Promise<void> {
  // Of the device its kind alone: each process has a card of its own.
  const settings = [...leavesOf(config)].filter(([key]) => key !== 'output' && key !== 'device');
  // The digests of files take the place of their names, which may differ.
  await agree(team, {
    ...Object.fromEntries(settings),
    ...identity,
    threads: made.threads,
    'kind of device': made.device.replace(/:.*/, ''),
    ...made.versions,
  });
}

/**
 * Puts back a state of the policy on all processes.
 * @param file where rank 0 has it; on the others it may not exist
 */
export async function loadStateTogether(policy: GemmaPolicy, team: Team, file: string | undefined): Promise<void> {
  if (team.rank === 0 && file !== undefined) {
    await policy.loadState(file);
    await team.fromFirst(readFileSync(file));
    return;
  }
  const bytes = await team.fromFirst(undefined);
  const folder = mkdtempSync(join(tmpdir(), 'group-robust-state-'));
  try {
    const copy = join(folder, 'policy.safetensors');
    writeFileSync(copy, bytes);
    await policy.loadState(copy);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
