import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { stringify } from 'yaml';
import { staleSeconds } from '../../src/files/lock.js';
import { Random } from '../../src/numbers/random.js';
import { type Attack, type AttackOptions, contents, doCases, expectSame, start, timed } from './attack.js';

/**
 * A training run that stands still at a random moment (SIGSTOP) for so long that another process takes it over, and goes on
 * (SIGCONT) while that one works or after it: the run is then the same to the byte as one that nobody disturbed, and the first
 * process says what has happened. In one of ten the time really passes; in the others the lock is made as old.
 */
export const takeOvers: Attack = { name: 'take-overs', unit: 'take-overs', full: 200, run };

const steps = 40;
/** Printed with the line of step 0, or of the first step after a break. */
const started = /reference: \d+ pairs/;

async function run(count: number, options: AttackOptions): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'take-overs-'));
  try {
    const random = Random.stream(3, 'interrupted pairs');
    const ids = (length: number) => Array.from({ length }, () => 3 + random.integer(1000));
    const pairs = Array.from({ length: 40 }, (_, i) =>
      JSON.stringify({
        group: i % 3 ? 'a' : 'b',
        prompt_ids: [2, ...ids(5)],
        chosen_ids: ids(2),
        rejected_ids: ids(3),
      }),
    );
    const data = join(folder, 'pairs.jsonl');
    writeFileSync(data, pairs.join('\n'));
    writeFileSync(
      join(folder, 'config.yaml'),
      stringify({
        model: 'random:tiny',
        threads: 1,
        output: 'run',
        data: { train: data, validation: data, test: data },
        objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
        batch: { size: 8 },
        steps,
        checkpoint: { every: 6 },
      }),
    );
    return await takeOver(folder, count, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function takeOver(folder: string, count: number, options: AttackOptions): Promise<string> {
  const train = (place: string) =>
    start(['train', join(folder, 'config.yaml'), '--quiet', '--resume'], place, {
      GROUP_ROBUST_CACHE: join(place, 'cache'),
    });

  const place = mkdtempSync(join(folder, 'straight-'));
  const running = train(place);
  await running.said(started);
  const begun = Date.now();
  const { code, output } = await running.ended;
  if (code !== 0) throw new Error(`a run that nobody disturbs ends with ${code}: ${output}`);
  const seconds = (Date.now() - begun) / 1000;
  const expected = contents(place, timed);
  const outcomes = { 'told while the other worked': 0, 'told after it': 0 };

  const one = async (index: number): Promise<number> => {
    const random = Random.stream(options.seed, 'take-over', index);
    const place = mkdtempSync(join(folder, 'case-'));
    const lock = join(place, 'run', '.lock');
    const first = train(place);
    await first.said(started);
    await Promise.race([first.ended, wait(1000 * random.uniform() * seconds)]);
    first.child.kill('SIGSTOP');
    // Its last result is there, or the lock is gone: there is nothing to take over any more.
    if (!existsSync(lock) || existsSync(join(place, 'run', 'evaluation.json'))) {
      first.child.kill('SIGCONT');
      await first.ended;
      rmSync(place, { recursive: true });
      return 0;
    }
    if (index % 10 === 1) await wait(1000 * (staleSeconds + 1));
    else {
      const past = Date.now() / 1000 - staleSeconds - 1;
      utimesSync(lock, past, past);
    }
    const second = train(place);
    let over = false;
    second.ended.then(() => {
      over = true;
    });
    // It may find that all steps are done; how it ends is looked at below.
    await second.said(started).catch(() => {});
    // One in four when the other one is through.
    const late = random.integer(4) === 0;
    await Promise.race([second.ended, ...(late ? [] : [wait(1000 * random.uniform() * seconds)])]);
    outcomes[over ? 'told after it' : 'told while the other worked']++;
    first.child.kill('SIGCONT');
    const [told, went] = await Promise.all([first.ended, second.ended]);
    if (went.code !== 0) throw new Error(`the second process ends with ${went.code}: ${went.output}`);
    if (
      told.code !== 1 ||
      !/run: (another process has taken this run over|has been moved or removed)/.test(told.output)
    )
      throw new Error(`the first process ends with ${told.signal ?? told.code}: ${told.output}`);
    expectSame(contents(place, timed), expected);
    rmSync(place, { recursive: true });
    return 1;
  };
  await doCases(takeOvers, count, options, one, 4);
  return Object.entries(outcomes)
    .map(([what, times]) => `${times} ${what}`)
    .join(', ');
}
