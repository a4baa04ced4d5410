import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { GroupRobustError, messageOf, present } from '../errors.js';
import { PACKAGE_ROOT } from '../package.js';
import { type MachineRecord, machineRecord } from './measure.js';
import type { StepExchange, TrainStepBenchmark } from './train-step.js';

export interface DistributedSettings {
  /** Processes that share the threads and each step. */
  processes: number;
  /** Threads of the one process. */
  threads: number;
  /** Times that both are measured, in turn. */
  rounds: number;
  /** Arguments of `bench train-step`. */
  step: readonly string[];
}

export interface DistributedBenchmark {
  machine: MachineRecord;
  processes: number;
  threads: number;
  /** Of a step: medians over the rounds. */
  alone_seconds: number;
  shared_seconds: number;
  /** One process's time over that of all: 1 where nothing is lost. Median over the rounds. */
  efficiency: number;
  /** Of rank 0 in the round of the median; seconds over shared_seconds is its share. */
  exchange: StepExchange;
  exchange_share: number;
  /** Arithmetic, not measured. */
  arithmetic: Projection[];
}

/** Seconds that a ring takes at least to sum the gradient of Gemma-2B's adapter of rank 8 in float32: 2 (N − 1)/N of it over each link. */
interface Projection {
  cards: number;
  gigabits_per_second: number;
  seconds: number;
}

/** 18 layers of rank · (in + out), 4 bytes each. */
const gemma2bGradientBytes = 4 * 18 * 8 * (2048 + 2048 + 2 * (2048 + 256) + (2048 + 2048) + 3 * (2048 + 16384));

export function projections(bytes = gemma2bGradientBytes): Projection[] {
  return [2, 8, 64].flatMap((cards) =>
    [10, 100].map((rate) => ({
      cards,
      gigabits_per_second: rate,
      seconds: (2 * (cards - 1) * bytes) / (cards * (rate / 8) * 1e9),
    })),
  );
}

/**
 * Times the same training steps on one process with all threads and on several that share these, each a process of its own.
 * @throws GroupRobustError where one of them fails
 */
export async function benchmarkDistributed(
  { processes, threads, rounds, step }: DistributedSettings,
  log: (text: string) => void = () => {},
): Promise<DistributedBenchmark> {
  const measured: { alone: number; shared: TrainStepBenchmark }[] = [];
  for (let round = 1; round <= rounds; round++) {
    log(`round ${round} of ${rounds}`);
    const alone = await measure([...step, '--threads', `${threads}`], {});
    const port = await freePort();
    const ranks = Array.from({ length: processes }, (_, rank) =>
      measure([...step, '--threads', `${threads / processes}`], {
        RANK: `${rank}`,
        LOCAL_RANK: `${rank}`,
        WORLD_SIZE: `${processes}`,
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: `${port}`,
      }),
    );
    const [shared] = await Promise.all(ranks);
    measured.push({ alone: present(alone).seconds_per_step, shared: present(shared) });
  }
  const median = (values: number[]) => present(values.sort((a, b) => a - b)[Math.floor(values.length / 2)]);
  const shared = median(measured.map((one) => one.shared.seconds_per_step));
  const { exchange } = present(measured.find((one) => one.shared.seconds_per_step === shared)).shared;
  return {
    machine: machineRecord(),
    processes,
    threads,
    alone_seconds: median(measured.map((one) => one.alone)),
    shared_seconds: shared,
    efficiency: median(measured.map((one) => one.alone / one.shared.seconds_per_step)),
    exchange: present(exchange),
    exchange_share: present(exchange).seconds / shared,
    arithmetic: projections(),
  };
}

/** `bench train-step --json` in a process of its own; undefined where that is of another rank than 0, which prints nothing. */
async function measure(
  args: readonly string[],
  variables: Record<string, string>,
): Promise<TrainStepBenchmark | undefined> {
  const program = join(PACKAGE_ROOT, 'dist/cli/main.js');
  const child = spawn(process.execPath, [program, 'bench', 'train-step', ...args, '--json'], {
    env: { ...process.env, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text: Buffer) => {
    stdout += text.toString();
  });
  child.stderr.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  const status = await new Promise((done) => child.once('close', done));
  if (status !== 0) throw new GroupRobustError('BENCH', `bench train-step ${args.join(' ')} failed: ${stderr}`);
  if (stdout === '') return undefined;
  try {
    return JSON.parse(stdout) as TrainStepBenchmark;
  } catch (cause) {
    throw new GroupRobustError('BENCH', `bench train-step printed no JSON: ${messageOf(cause)}`, { cause });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new GroupRobustError('BENCH', 'the system gives no port');
  return address.port;
}
