import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Random } from '../../src/numbers/random.js';
import { FakeHub } from '../hub/fake-hub.js';
import { writeFakeRuns } from '../report/fake-runs.js';
import {
  type Attack,
  type AttackOptions,
  contents,
  doCases,
  type Ended,
  expectSame,
  sha256,
  start,
  timed,
} from './attack.js';

/**
 * `kill -9` at a random moment of any command that writes, up to four times before it may come to its end: what it leaves is
 * nothing or all of its output, and what is there at the end has the bytes of a run that nobody killed, with nothing beside it.
 */
export const kills: Attack = { name: 'kills', unit: 'kills', full: 1000, run };

/** A command, in a folder of its own. */
interface Command {
  args: string[];
  /** What it writes; undefined where that is stdout alone. A run is gone on with, anything else is made anew. */
  out?: string;
}

/** What a command does when nobody kills it. */
interface Straight {
  contents: Record<string, string>;
  /** Seconds to the first thing that it writes, and to its end; of its last run, since the machine may have other work. */
  writes: number;
  ends: number;
}

function commandsOn(inputs: string): Record<string, Command> {
  const at = (...names: string[]) => join(inputs, ...names);
  const [run] = writeFakeRuns(inputs, [0], ['ipo']);
  cpSync('test/fixtures/gemma-tiny', at('model'), { recursive: true });
  const random = Random.stream(3, 'pairs to score');
  const ids = (length: number) => Array.from({ length }, () => 3 + random.integer(180));
  const pairs = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ group: i % 3 ? 'a' : 'b', prompt_ids: [2, ...ids(5)], chosen_ids: ids(2), rejected_ids: ids(3) }),
  );
  writeFileSync(at('pairs.jsonl'), pairs.join('\n'));
  const splits = ['train', 'validation', 'test'].map((split) => `data.${split}=${at('survey', `${split}.jsonl`)}`);
  const settings = ['adapter=null', 'output=run', 'checkpoint.every=3', 'batch.size=16', 'epochs=1', ...splits];
  const scored = ['--pairs', at('pairs.jsonl'), '--quiet'];
  const opinions = ['data', 'global-opinions', '--groups', 'Avaland,Elmark', '--out', 'out', '--file'];
  return {
    train: {
      args: [
        ...['train', resolve('experiments/survey/gr-ipo.yaml'), '--quiet', '--resume'],
        ...settings.flatMap((setting) => ['--set', setting]),
      ],
    },
    'data survey': { args: ['data', 'survey', '--rows', '400', '--out', 'out'], out: 'out' },
    'data global-opinions': { args: [...opinions, at('survey', 'survey.csv')], out: 'out' },
    'data global-opinions of the hub': { args: [...opinions, 'Some/survey'], out: 'out' },
    bandit: {
      args: ['bandit', '--seeds', '1-2', '--methods', 'ipo,gr-ipo', '--iterations', '50', '--quiet', '--out', 'out'],
      out: 'out',
    },
    converge: {
      args: ['converge', '--loss', 'dpo', '--horizons', '10,100', '--runs', '2', '--quiet', '--out', 'out'],
      out: 'out',
    },
    logprobs: { args: ['logprobs', '--model', at('model'), ...scored, '--out', 'out'], out: 'out' },
    'logprobs of a model of the hub': {
      args: ['logprobs', '--model', 'google/tiny', ...scored, '--out', 'out'],
      out: 'out',
    },
    sample: { args: ['sample', '--model', at('model'), ...scored, '--max-tokens', '9', '--out', 'out'], out: 'out' },
    eval: { args: ['eval', '--model', at('model'), '--adapter', at('model', 'adapter'), ...scored, '--json'] },
    merge: {
      args: ['merge', '--model', at('model'), '--adapter', at('model', 'adapter'), '--quiet', '--out', 'out'],
      out: 'out',
    },
    report: { args: ['report', run, '--out', 'out'], out: 'out' },
  };
}

async function run(count: number, options: AttackOptions): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'kills-'));
  const hub = new FakeHub();
  const file = (path: string) => readFileSync(join(folder, 'inputs', path));
  try {
    mkdirSync(join(folder, 'inputs'));
    const made = await start(['data', 'survey', '--rows', '400', '--out', 'survey'], join(folder, 'inputs')).ended;
    if (made.code !== 0) throw new Error(`no survey to begin with: ${made.output}`);
    const commands = commandsOn(join(folder, 'inputs'));
    hub.repositories.set('models/google/tiny', {
      commit: 'c'.repeat(40),
      files: {
        'config.json': { content: file('model/config.json') },
        'model.safetensors': { content: file('model/model.safetensors'), large: true },
      },
    });
    hub.repositories.set('datasets/Some/survey', {
      commit: 'd'.repeat(40),
      files: { 'data/survey.csv': { content: file('survey/survey.csv'), large: true } },
    });
    hub.faults.pieces = 4000;
    await hub.start();
    return await killCommands(folder, commands, hub.endpoint, count, options);
  } finally {
    await hub.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function killCommands(
  folder: string,
  commands: Record<string, Command>,
  endpoint: string,
  count: number,
  options: AttackOptions,
): Promise<string> {
  const names = Object.keys(commands);
  const straight = new Map<string, Promise<Straight>>();
  const killed = Object.fromEntries(names.map((name) => [name, 0]));

  const begin = (place: string, args: string[]) =>
    start(args, place, {
      // What a command tells of its files names none but its folder's.
      GROUP_ROBUST_CACHE: 'cache',
      HF_HOME: 'hub',
      HF_ENDPOINT: endpoint,
      HF_TOKEN: 'hf_granted',
    });
  const found = (place: string, { out, args }: Command, { stdout }: Ended) => ({
    ...contents(place, timed),
    ...(out === undefined && !args.includes('train') && { stdout: sha256(stdout) }),
  });

  const goStraight = async (name: string): Promise<Straight> => {
    const place = join(folder, name);
    mkdirSync(place);
    const begun = performance.now();
    const running = begin(place, commands[name].args);
    const writes = firstEntry(place).then(() => (performance.now() - begun) / 1000);
    const ended = await running.ended;
    const { code, output } = ended;
    if (code !== 0) throw new Error(`${name} ends with ${code}: ${output}`);
    const ends = (performance.now() - begun) / 1000;
    const first = await Promise.race([writes, ends]);
    const result = { contents: found(place, commands[name], ended), writes: first, ends };
    rmSync(place, { recursive: true });
    return result;
  };

  const one = async (index: number): Promise<number> => {
    const random = Random.stream(options.seed, 'kill', index);
    const name = names[index % names.length];
    const command = commands[name];
    if (!straight.has(name)) straight.set(name, goStraight(name));
    const expected = await straight.get(name)!;
    const place = join(folder, `${index}`);
    mkdirSync(place);
    let wanted = 1;
    while (wanted < 4 && random.integer(2) === 0) wanted++;
    for (let kills = 0; ; ) {
      const there = command.out !== undefined && existsSync(join(place, command.out));
      const begun = performance.now();
      const running = begin(place, [...command.args, ...(there ? ['--force'] : [])]);
      if (kills < wanted) {
        const kill = (seconds: number) => setTimeout(() => running.child.kill('SIGKILL'), 1000 * seconds);
        // Every other one while it writes.
        if (random.integer(2) === 0) kill(1.1 * random.uniform() * expected.ends);
        else {
          const seconds = 1.1 * random.uniform() * (expected.ends - expected.writes);
          firstEntry(place).then(() => kill(kills === 0 ? seconds : seconds + expected.writes));
        }
      }
      const ended = await running.ended;
      if (ended.signal === 'SIGKILL') {
        kills++;
        if (command.out !== undefined && existsSync(join(place, command.out)))
          expectSame(outputOf(contents(place), command.out), outputOf(expected.contents, command.out));
        continue;
      }
      const problem = `${name}, after ${kills} kills`;
      if (ended.code !== 0) throw new Error(`${problem}, ends with ${ended.signal ?? ended.code}: ${ended.output}`);
      try {
        expectSame(found(place, command, ended), expected.contents);
      } catch (error) {
        throw new Error(`${problem}: ${(error as Error).message}`);
      }
      expected.ends = (performance.now() - begun) / 1000;
      rmSync(place, { recursive: true });
      killed[name] += kills;
      return kills;
    }
  };

  await doCases(kills, count, options, one);
  return Object.entries(killed)
    .map(([name, times]) => `${name} ${times}`)
    .join(', ');
}

/** Those of the output alone. */
function outputOf(all: Record<string, string>, out: string): Record<string, string> {
  return Object.fromEntries(Object.entries(all).filter(([path]) => path === out || path.startsWith(`${out}/`)));
}

/** Resolves when something appears in an empty folder, at once where something is there. */
async function firstEntry(folder: string): Promise<void> {
  const watcher = watch(folder, { persistent: false });
  await new Promise<void>((done) => {
    watcher.once('change', () => done());
    if (readdirSync(folder).length > 0) done();
  });
  watcher.close();
}
