import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubApiError } from '@huggingface/hub';
import { fetchWithin } from '../download.js';
import { InputError } from '../errors.js';

/** A repository of the hub at one revision. */
export interface Repository {
  type: 'model' | 'dataset';
  /** "google/gemma-2b" */
  name: string;
  /** Branch, tag or commit. */
  revision: string;
}

const isTrue = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? '');

/** What the hub's own tools take from the environment too. */
export const environment = {
  /** HF_ENDPOINT, for mirrors. */
  endpoint: () => (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
  /** HF_HUB_OFFLINE: only what is in the cache. */
  offline: () => isTrue(process.env.HF_HUB_OFFLINE),
  /** HF_TOKEN, or the token that `hf auth login` has left in HF_HOME. */
  token(): string | undefined {
    const own = process.env.HF_TOKEN?.trim();
    if (own) return own;
    const home = process.env.HF_HOME ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
    const file = join(home, 'token');
    return (existsSync(file) && readFileSync(file, 'utf8').trim()) || undefined;
  },
};

/** Statuses that may pass: too many requests, and the server's own failures. */
const passing = (status: number) => status === 429 || status >= 500;

export const attempts = 5;
/** Seconds to wait before the attempts after the first. */
export const delays = [0.5, 1, 2, 4];

/**
 * fetch with the user's token, repeated where the connection fails or the server has a passing problem. The token goes to
 * the hub alone: fetch takes it out when a redirect leads to another host.
 */
export const hubFetch: typeof fetch = async (input, init) => {
  const token = environment.token();
  const headers = new Headers(init?.headers);
  if (token) headers.set('authorization', `Bearer ${token}`);
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetchWithin(input, { ...init, headers });
      if (!passing(response.status) || attempt === attempts) return response;
      await response.body?.cancel();
    } catch (error) {
      if (attempt === attempts) throw error;
    }
    await sleep(1000 * delays[attempt - 1]);
  }
};

/** Turns what the library or fetch throws into an error that says what to do; other errors stay as they are. */
export function hubError(error: unknown, repository: Repository): unknown {
  if (error instanceof HubApiError) return statusError(error.statusCode, repository, error);
  if (error instanceof SyntaxError) return notAHub(repository, error);
  // fetch fails with a TypeError whose cause is the network's error.
  if (error instanceof TypeError && error.cause)
    return new InputError(
      `is no local folder or file, and ${environment.endpoint()} cannot be reached: ${networkReason(error.cause)}`,
      { at: { file: repository.name }, fix: 'check the network, or name a local one', cause: error },
    );
  return error;
}

/** A refusal of the hub, for people: 401, 403 and 404 have one usual cause each. */
export function statusError(status: number, repository: Repository, cause?: unknown): InputError {
  const page = `${environment.endpoint()}/${repository.type === 'dataset' ? 'datasets/' : ''}${repository.name}`;
  const known = environment.token() !== undefined;
  const kind = repository.type;
  const problems: Record<number, [problem: string, fix: string]> = {
    401: known
      ? [
          'the hub does not know your token (401)',
          `make a new one at ${environment.endpoint()}/settings/tokens and set HF_TOKEN`,
        ]
      : [
          `the hub shows it to nobody without a token (401): it is gated or private, or there is no such ${kind}`,
          `check the spelling; accept the terms at ${page}, make a token at ${environment.endpoint()}/settings/tokens, and set HF_TOKEN`,
        ],
    403: [
      `your account or token may not read it (403): the ${kind} is gated`,
      `accept the terms at ${page} with the account of the token, and let a fine-grained token read gated repositories`,
    ],
    404: [
      `the hub has no such ${kind}, or not at revision ${repository.revision} (404)`,
      `check the spelling${known ? '' : '; if it is private, set HF_TOKEN'}; a local folder must exist under this name`,
    ],
  };
  const [problem, fix] = problems[status] ?? [
    `the hub answered with status ${status}`,
    'try again later; what has been downloaded is kept',
  ];
  return new InputError(problem, { at: { file: repository.name }, fix, cause });
}

export function notAHub({ name }: Repository, cause?: unknown): InputError {
  return new InputError(`${environment.endpoint()} does not answer as the hub does`, {
    at: { file: name },
    fix: 'check HF_ENDPOINT',
    cause,
  });
}

export function networkReason(cause: unknown): string {
  const { code, message } = cause as { code?: string; message?: string };
  return message || code || String(cause);
}
