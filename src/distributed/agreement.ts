import { InputError, present } from '../errors.js';
import type { Team } from './team.js';

/**
 * Refuses processes that are not set up alike: each brings its facts (settings, digests of files, versions), which have to be the same on
 * all. So all of them end, with the same error.
 * @throws InputError naming the first fact that differs, and on which rank
 */
export async function agree(team: Team, facts: Readonly<Record<string, unknown>>): Promise<void> {
  const all = await team.gatherJson(facts);
  const first = present(all[0]);
  for (const [rank, other] of all.entries())
    for (const field of new Set([...Object.keys(first), ...Object.keys(other)])) {
      const [expected, found] = [first[field], other[field]].map((value) => JSON.stringify(value) ?? 'absent');
      if (expected === found) continue;
      throw new InputError(`is ${found} on rank ${rank}, and ${expected} on rank 0`, {
        at: { field },
        fix: 'start all processes with the same settings, files and versions',
      });
    }
}
