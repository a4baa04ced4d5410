import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { staleSeconds } from '../../src/files/lock.js';
import { Random } from '../../src/numbers/random.js';
import { temporaryFolder } from '../temporary-folder.js';

/** Training runs that are stopped or short of disk, through the built program; those that are killed: test/soak. */

const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);

const random = Random.stream(3, 'interrupted pairs');
const ids = (length: number) => Array.from({ length }, () => 3 + random.integer(1000));
const rows = Array.from({ length: 40 }, (_, i) =>
  JSON.stringify({ group: i % 3 ? 'a' : 'b', prompt_ids: [2, ...ids(5)], chosen_ids: ids(2), rejected_ids: ids(3) }),
);
writeFileSync(at('pairs.jsonl'), rows.join('\n'));
writeFileSync(
  at('config.yaml'),
  stringify({
    model: 'random:tiny',
    threads: 1,
    output: at('run'),
    data: { train: at('pairs.jsonl'), validation: at('pairs.jsonl'), test: at('pairs.jsonl') },
    objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
    batch: { size: 8 },
    steps: 40,
    checkpoint: { every: 6 },
  }),
);

interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

interface Act {
  /** What the program must have said first; default: nothing, act at once. */
  after?: RegExp;
  act(child: ChildProcess): void;
  /** Whether progress is shown. */
  loud?: boolean;
}

/** Runs `train`. @param under a command that runs another with fewer rights */
function train(args: string[], { after, act, loud }: Partial<Act> = {}, under: string[] = []): Promise<Ended> {
  const [program, ...rest] = [
    ...under,
    process.execPath,
    resolve('dist/cli/main.js'),
    'train',
    at('config.yaml'),
    ...(loud ? [] : ['--quiet']),
    ...args,
  ];
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((done) => {
    let output = '';
    let acted = false;
    const hear = (text: string) => {
      output += text;
      if (acted || (after && !after.test(output))) return;
      acted = true;
      act?.(child);
    };
    hear('');
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('close', (code, signal) => done({ code, signal, output }));
  });
}

/** Printed with the line of step 0, or of the first step after a break. */
const started = /reference: \d+ pairs/;

/** SHA-256 of all files of the run that hold no times. */
function contents(): Record<string, string> {
  const names = readdirSync(at('run'), { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    names
      .filter((name) => statSync(at('run', name)).isFile() && !/^(run\.json|report\.html|events\..*)$/.test(name))
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(at('run', name)))
          .digest('hex'),
      ]),
  );
}

const loggedSteps = () => readFileSync(at('run', 'metrics.jsonl'), 'utf8').split('\n').length - 2;
const checkpoints = () => readdirSync(at('run', 'checkpoints')).sort();
const fresh = () => rmSync(at('run'), { recursive: true, force: true });

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !holds(); await wait(2)) expect(Date.now()).toBeLessThan(end);
}

let straight: Record<string, string>;
beforeAll(async () => {
  const { code, output } = await train([]);
  expect(output).toContain('40 steps in');
  expect(code).toBe(0);
  straight = contents();
  expect(Object.keys(straight)).toContain('checkpoints/step-00000040/policy.safetensors');
});

async function endsInTheSameBytes() {
  const { code, output } = await train(['--resume']);
  expect(output).not.toMatch(/^error: /m);
  expect(code).toBe(0);
  expect(contents()).toEqual(straight);
}

describe('a signal', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s finishes the step, saves, and exits with %i', async (signal, status) => {
    fresh();
    const { code, output } = await train([], { after: started, act: (child) => child.kill(signal) });
    expect(output).toMatch(new RegExp(`stopped by ${signal} after step \\d+ of 40, which is saved\\n.*--resume`));
    expect(code).toBe(status);
    expect(loggedSteps()).toBeLessThan(40);
    expect(checkpoints().at(-1)).toBe(`step-${String(loggedSteps()).padStart(8, '0')}`);
    expect(existsSync(at('run', 'adapter'))).toBe(false);
    await endsInTheSameBytes();
  });

  // Each pair is a batch of its own, and all of them take seconds.
  const slow = at('slow.jsonl');
  const prompt = () => [2, ...ids(600)];
  const slowRows = Array.from({ length: 200 }, (_, i) =>
    JSON.stringify({ group: i % 3 ? 'a' : 'b', prompt_ids: prompt(), chosen_ids: ids(2), rejected_ids: ids(3) }),
  );
  writeFileSync(slow, slowRows.join('\n'));
  const short = ['data.maxLength=700', 'steps=2'].flatMap((setting) => ['--set', setting]);

  it.each([
    ['SIGTERM', 143, 'validation', /in the evaluation after step 0 of 2, which is saved\n.*--resume/],
    ['SIGINT', 130, 'test', /while the test pairs were scored; all 2 steps are saved\n.*--resume/],
  ] as const)('%s exits with %i from scoring the %s pairs, and scores no more', async (signal, status, split, said) => {
    fresh();
    const begun = split === 'test' ? /scoring the test pairs: 1\// : /validation: 1\//;
    let sent = 0;
    const act = (child: ChildProcess) => {
      sent = Date.now();
      child.kill(signal);
    };
    const args = [...short, '--set', 'data.validation=null', '--set', `data.${split}=${slow}`];
    const { code, output } = await train(args, { after: begun, act, loud: true });
    expect(output).toMatch(said);
    expect(code).toBe(status);
    expect(Date.now() - sent).toBeLessThan(1000);
    expect(existsSync(at('run', 'evaluation.json'))).toBe(false);
    expect(await train([...args, '--resume'])).toMatchObject({ code: 0 });
    const resumed = contents();
    fresh();
    expect(await train(args)).toMatchObject({ code: 0 });
    expect(resumed).toEqual(contents());
  });

  it('given twice stops at once', async () => {
    fresh();
    // A step of tens of seconds, in short pieces.
    const batch = ['batch.size=100000', 'batch.micro=100', 'batch.sampler=balanced'];
    const long = [...batch, 'data.validation=null'].flatMap((setting) => ['--set', setting]);
    let stopped = 0;
    const twice = async (child: ChildProcess) => {
      await wait(500);
      child.kill('SIGINT');
      await wait(500);
      stopped = Date.now();
      child.kill('SIGINT');
    };
    const { code, signal, output } = await train(long, { after: started, act: twice });
    expect(output).toContain('SIGINT: finishing this step and saving; once more stops at once');
    expect([code, signal]).toEqual([null, 'SIGINT']);
    expect(Date.now() - stopped).toBeLessThan(5000);
    expect(existsSync(at('run', 'checkpoints'))).toBe(false);
  });
});

describe('a run folder is for one process', () => {
  it('a second one is refused before it touches anything, and the first goes on', async () => {
    fresh();
    let second: Promise<Ended> | undefined;
    // What a process that writes has in hand may not be cleared away by another.
    const inHand = at('run', '.metrics.jsonl.0123abcd.partial');
    const first = await train([], {
      after: started,
      act: (child) => {
        child.kill('SIGSTOP');
        writeFileSync(inHand, '');
        second = train(['--resume']).finally(() => child.kill('SIGCONT'));
      },
    });
    const { code, output } = (await second) as Ended;
    expect(output).toMatch(
      /run: another process \(\d+ on .+\) works on this run folder\n {2}fix: let it end or stop it/,
    );
    expect(code).toBe(2);
    expect(existsSync(inHand)).toBe(true);
    rmSync(inHand);
    expect(first.code).toBe(0);
    expect(contents()).toEqual(straight);
  });

  it('of two that start it anew one is refused', async () => {
    fresh();
    const both = await Promise.all([train([]), train([])]);
    expect(both.map(({ code }) => code).sort()).toEqual([0, 2]);
    expect(contents()).toEqual(straight);
  });

  it('a process that stood still while another took its run over writes nothing more, and spoils nothing', {
    timeout: 240_000,
  }, async () => {
    fresh();
    let stalled: ChildProcess | undefined;
    const first = train([], {
      after: started,
      act: (child) => {
        stalled = child;
      },
    });
    await until(() => existsSync(at('run', 'checkpoints', 'step-00000006')));
    stalled?.kill('SIGSTOP');
    expect(loggedSteps()).toBeLessThan(39);
    // As if it had stood still for that long.
    const past = Date.now() / 1000 - staleSeconds - 5;
    utimesSync(at('run', '.lock'), past, past);
    // It goes on in the middle of the other one's steps, and before its own clock tells it anything.
    const second = await train(['--resume'], { after: started, act: () => stalled?.kill('SIGCONT') });
    const { code, output } = await first;
    expect(output).toMatch(
      /run: another process has taken this run over while this one was suspended\n {2}fix: let that one/,
    );
    expect(code).toBe(1);
    expect(second).toMatchObject({ code: 0 });
    expect(contents()).toEqual(straight);
    // Every checkpoint is as good as before.
    expect((await train(['--resume'])).output).toContain('all 40 steps');
    rmSync(at('run', 'checkpoints', 'step-00000040'), { recursive: true });
    await endsInTheSameBytes();
  });

  it('that is missing is not left behind by a run that cannot start', async () => {
    fresh();
    const { code } = await train(['--set', `output=${at('deep', 'run')}`, '--set', 'data.groups=[a]']);
    expect(code).toBe(2);
    expect(existsSync(at('deep'))).toBe(false);
  });
});

describe('trouble with files leaves the last checkpoint as it was', () => {
  const interrupted = async () => {
    fresh();
    await train([], { after: started, act: (child) => child.kill('SIGTERM') });
    return contents();
  };

  it('a full disk', async () => {
    const before = await interrupted();
    // The policy's state does not fit under the limit, in units of 1024 bytes; the log does.
    const { code, output } = await train(['--resume'], {}, ['bash', '-c', 'ulimit -f 150; exec "$@"', '-']);
    expect(output).toMatch(
      /error: the checkpoint of step \d+ is not saved: .*cannot be written: File too large\n.*--resume/,
    );
    expect(code).toBe(1);
    expect(output).not.toMatch(/\n\s+at /);
    for (const [name, sum] of Object.entries(before)) if (name !== 'metrics.jsonl') expect(contents()[name]).toBe(sum);
    expect(checkpoints().every((name) => name.startsWith('step-'))).toBe(true);
    await endsInTheSameBytes();
  });

  it('an input that is gone', async () => {
    const before = await interrupted();
    renameSync(at('pairs.jsonl'), at('away.jsonl'));
    const { code, output } = await train(['--resume']);
    renameSync(at('away.jsonl'), at('pairs.jsonl'));
    expect(output).toMatch(/pairs\.jsonl: no such file/);
    expect(code).toBe(2);
    expect(contents()).toEqual(before);
  });

  /** The superuser may write everywhere, until that right is taken away. */
  const asAnyone = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override'] : [];
  const cannotAct = spawnSync('env', [...asAnyone, 'true']).status !== 0;
  it.skipIf(cannotAct)('a folder that may not be written', async () => {
    const before = await interrupted();
    chmodSync(at('run'), 0o555);
    const { code, output } = await train(['--resume'], {}, asAnyone);
    chmodSync(at('run'), 0o755);
    expect(output).toMatch(/cannot be written: EACCES/);
    expect(code).toBe(2);
    expect(contents()).toEqual(before);
    await endsInTheSameBytes();
  });
});
