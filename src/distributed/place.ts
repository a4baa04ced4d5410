import { InputError } from '../errors.js';

/** Where this process stands among those of its job, as torchrun and every launcher like it say in the environment. */
export interface Place {
  rank: number;
  /** Number of processes, at least 2. */
  size: number;
  /** Rank among the processes of this machine. */
  localRank: number;
  /** Where the store is. */
  address: string;
  port: number;
  /** Whether this process keeps the store. torchrun's agent has one already, and says so. */
  serves: boolean;
  /** What the launcher calls the job, which may share its store with others. */
  job: string;
  /** The network interface to speak through, where the user names one. */
  interface?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads RANK, WORLD_SIZE, LOCAL_RANK (default 0), MASTER_ADDR and MASTER_PORT, the contract of torchrun.
 * @returns undefined where this process is alone: neither RANK nor WORLD_SIZE is set, or WORLD_SIZE is 1, whatever RANK is
 * @throws InputError naming a variable that is missing or wrong
 */
export function placeOf(environment: Environment): Place | undefined {
  if (environment.WORLD_SIZE === undefined && environment.RANK === undefined) return undefined;
  const size = readCount(environment, 'WORLD_SIZE', 1, 1 << 20);
  if (size === 1) return undefined;
  const rank = readCount(environment, 'RANK', 0, size - 1);
  return {
    rank,
    size,
    localRank: environment.LOCAL_RANK === undefined ? 0 : readCount(environment, 'LOCAL_RANK', 0, size - 1),
    address: read(environment, 'MASTER_ADDR'),
    port: readCount(environment, 'MASTER_PORT', 1, 65535),
    serves: rank === 0 && environment.TORCHELASTIC_USE_AGENT_STORE !== 'True',
    // Not the number of the restart: of nodes that join or leave, each counts its own.
    job: environment.TORCHELASTIC_RUN_ID ?? '',
    interface: environment.GLOO_SOCKET_IFNAME || undefined,
  };
}

/**
 * For a command that one process runs.
 * @throws InputError where a launcher has started several
 */
export function refuseSeveral(command: string, environment: Environment = process.env): void {
  if (placeOf(environment) === undefined) return;
  throw new InputError(
    `is ${environment.WORLD_SIZE}, and ${command} is for one process, which starts others by itself where it needs them`,
    {
      at: { field: 'WORLD_SIZE' },
      fix: 'start it without a launcher, or unset RANK and WORLD_SIZE',
    },
  );
}

function read(environment: Environment, name: string): string {
  const value = environment[name];
  if (value === undefined || value === '')
    throw new InputError('is not set, though RANK or WORLD_SIZE is', {
      at: { field: name },
      fix: 'launch with torchrun, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; for a process by itself unset them',
    });
  return value;
}

function readCount(environment: Environment, name: string, minimum: number, maximum: number): number {
  const text = read(environment, name);
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < minimum || value > maximum)
    throw new InputError(`is "${text}", not a whole number from ${minimum} to ${maximum}`, {
      at: { field: name },
      ...(name === 'RANK' && { fix: 'number the processes from 0 to WORLD_SIZE - 1' }),
    });
  return value;
}
