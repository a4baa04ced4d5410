import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { stringify } from 'yaml';
import { Random } from '../../src/numbers/random.js';
import { pythonWithTorch, torchrun } from '../distributed/processes.js';
import { writeIdPairs } from '../train/id-pairs.js';
import { type Attack, type AttackOptions, contents, doCases, expectSame } from './attack.js';

/**
 * `kill -9` of a random rank at a random moment of a training run on two processes under torchrun, which starts them again: the run ends by
 * itself with the bytes of one that nobody disturbed. Needs a Python with torch, which PYTHON names.
 */
export const rankKills: Attack = { name: 'rank kills', unit: 'kills', full: 100, run };

/** Files that hold times, or that a run was resumed. */
const timed = /^run\/(run\.json|report\.html|events\..*)$/;

async function run(count: number, options: AttackOptions): Promise<string> {
  const python = pythonWithTorch();
  if (python === undefined) return 'left out: no Python with torch';
  const folder = mkdtempSync(join(tmpdir(), 'rank-kills-'));
  try {
    const pairs = (name: string) =>
      writeIdPairs(join(folder, name), 40, (_, random) => ({ group: ['x', 'y', 'z'][random.integer(3)] }));
    const [train, validation] = [pairs('train.jsonl'), pairs('validation.jsonl')];
    const job = async (place: string) => {
      mkdirSync(place);
      const config = join(place, 'config.yaml');
      const settings = {
        model: 'random:tiny',
        threads: 1,
        output: join(place, 'run'),
        data: { train, validation, test: validation },
        objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
        batch: { size: 8 },
        steps: 200,
        evaluateEvery: 50,
        checkpoint: { every: 10, best: true },
      };
      writeFileSync(config, stringify(settings));
      return torchrun(python, 2, ['train', config, '--quiet', '--resume'], { restarts: 5 });
    };
    const filesOf = (place: string) => {
      const all = contents(place, timed);
      delete all['config.yaml'];
      // It names the folder.
      delete all['run/config.yaml'];
      return all;
    };
    const began = Date.now();
    const straight = join(folder, 'straight');
    const { status, stderr } = await (await job(straight)).ended;
    if (status !== 0) throw new Error(`without a kill it exits ${status}: ${stderr}`);
    const took = Date.now() - began;
    const expected = filesOf(straight);
    await doCases(
      rankKills,
      count,
      options,
      async (index) => {
        const random = Random.stream(options.seed, 'rank kills', index);
        const place = join(folder, `case-${index}`);
        const { child, ended } = await job(place);
        let killed = 0;
        // Until there is somebody to kill: the launcher takes seconds to start.
        for (let at = random.uniform() * took; killed === 0 && child.exitCode === null; at = 100) {
          await wait(at);
          const workers = workersOf(child.pid);
          if (workers.length < 2) continue;
          process.kill(workers[random.integer(2)], 'SIGKILL');
          killed++;
        }
        const end = await ended;
        if (end.status !== 0) throw new Error(`exits ${end.status}: ${end.stderr}`);
        expectSame(filesOf(place), expected);
        rmSync(place, { recursive: true });
        return killed;
      },
      1,
    );
    return '';
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Processes that a launcher has started, by rank. */
function workersOf(launcher: number | undefined): number[] {
  try {
    const found = execFileSync('pgrep', ['-P', String(launcher), 'node'], { encoding: 'utf8' });
    return found.trim().split('\n').map(Number);
  } catch {
    return [];
  }
}
