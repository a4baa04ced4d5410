import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { resolve } from 'node:path';

/** Several processes of the built program that do one job, as a launcher starts them. */

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface StartedProcess {
  child: ChildProcess;
  ended: Promise<Ended>;
}

const program = resolve('dist/cli/main.js');

/** A port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export function start(command: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): StartedProcess {
  const child = spawn(command, args, { env: { ...process.env, ...variables } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((done) => {
    child.on('close', (status) => done({ status, stdout, stderr }));
  });
  return { child, ended };
}

/**
 * Starts a process for each rank by plain variables.
 * @param argsOf the arguments of each
 * @param variables in place of those that a launcher sets
 * @param before what its command is put behind
 * @param how the command itself
 */
export async function startRanks(
  size: number,
  argsOf: (rank: number) => readonly string[],
  variables: (rank: number) => NodeJS.ProcessEnv = () => ({}),
  before: (rank: number) => readonly string[] = () => [],
  how: readonly string[] = [process.execPath, program],
): Promise<StartedProcess[]> {
  const port = await freePort();
  return Array.from({ length: size }, (_, rank) => {
    const [command = process.execPath, ...args] = [...before(rank), ...how, ...argsOf(rank)];
    return start(command, args, {
      RANK: `${rank}`,
      LOCAL_RANK: `${rank}`,
      WORLD_SIZE: `${size}`,
      MASTER_ADDR: '127.0.0.1',
      MASTER_PORT: `${port}`,
      ...variables(rank),
    });
  });
}

/** The same, to their end; with a size of 1 a process by itself. */
export async function job(size: number, args: readonly string[]): Promise<Ended[]> {
  const started = size === 1 ? [start(process.execPath, [program, ...args])] : await startRanks(size, () => args);
  return Promise.all(started.map(({ ended }) => ended));
}

/** A Python with torch, which brings torchrun. */
export function pythonWithTorch(): string | undefined {
  const python = process.env.PYTHON ?? 'python3';
  const { status } = spawnSync(python, ['-c', 'import torch.distributed.run']);
  return status === 0 ? python : undefined;
}

/** Starts a job by torchrun, which restarts all of it up to so many times where a process fails. */
export async function torchrun(
  python: string,
  size: number,
  args: readonly string[],
  { restarts = 0 }: { restarts?: number } = {},
): Promise<StartedProcess> {
  const launcher = ['-m', 'torch.distributed.run', '--no-python', '--nproc-per-node', `${size}`];
  const meeting = ['--master-addr', '127.0.0.1', '--master-port', `${await freePort()}`];
  const again = ['--max-restarts', `${restarts}`, '--monitor-interval', '0.1'];
  return start(python, [...launcher, ...meeting, ...again, process.execPath, program, ...args]);
}

/** A machine of its own as far as the network goes: `run` is what a command is put behind to run there. */
interface Host {
  run: readonly string[];
  address: string;
}

/** Two network namespaces and a cable between them; undefined where the system does not allow that. */
export function twoHosts(): { hosts: [Host, Host]; cut(): void; remove(): void } | undefined {
  const names = ['a', 'b'].map((end) => `group-robust-${process.pid}-${end}`);
  const ip = (...args: string[]) => spawnSync('ip', args).status === 0;
  const remove = () => {
    for (const name of names) ip('netns', 'delete', name);
  };
  const [a, b] = names;
  const made =
    ip('netns', 'add', a) &&
    ip('netns', 'add', b) &&
    ip('link', 'add', 'cable', 'netns', a, 'type', 'veth', 'peer', 'name', 'cable', 'netns', b) &&
    names.every(
      (name, i) =>
        ip('-n', name, 'address', 'add', `10.77.0.${i + 1}/24`, 'dev', 'cable') &&
        ip('-n', name, 'link', 'set', 'cable', 'up') &&
        ip('-n', name, 'link', 'set', 'lo', 'up'),
    );
  if (!made) {
    remove();
    return undefined;
  }
  const host = (name: string, i: number): Host => ({
    run: ['ip', 'netns', 'exec', name],
    address: `10.77.0.${i + 1}`,
  });
  return { hosts: [host(a, 0), host(b, 1)], cut: () => ip('-n', a, 'link', 'set', 'cable', 'down'), remove };
}
