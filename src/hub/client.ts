import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { InputError, type InputLocation } from '../errors.js';
import { fetchWithin } from '../files/download.js';
import { readText } from '../files/read.js';
import { duration } from '../terminal/progress.js';
import { Passing, patience, type Tell, tellIfLong } from './patience.js';

/** A repository of the hub at one revision. */
export interface Repository {
  type: 'model' | 'dataset';
  /** "google/gemma-2b" */
  name: string;
  /** Branch, tag or commit. */
  revision: string;
}

/** The hub as the environment names it; the variables are those of the hub's own tools. */
export interface Hub {
  /** HF_ENDPOINT, for mirrors; no slash at the end. */
  endpoint: string;
  /** HF_TOKEN, or the token that `hf auth login` has left in HF_HOME. It is never printed. */
  token: string | undefined;
  /** HF_HUB_OFFLINE: only what is in the cache. */
  offline: boolean;
  /** Where downloads lie, in the layout of huggingface_hub: HF_HUB_CACHE, or in HF_HOME. */
  cache: string;
}

/** @throws InputError where a variable cannot be right; the message leaves out its value, which may be a secret */
export function hubOfEnvironment(): Hub {
  const { HF_HOME, HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HUB_OFFLINE, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
  return {
    endpoint: readEndpoint(),
    token: readToken(join(home, 'token')),
    offline: /^(1|on|yes|true)$/i.test(HF_HUB_OFFLINE ?? ''),
    cache: HF_HUB_CACHE ?? HUGGINGFACE_HUB_CACHE ?? join(home, 'hub'),
  };
}

function readEndpoint(): string {
  const text = process.env.HF_ENDPOINT?.trim() || 'https://huggingface.co';
  const refuse = (problem: string) => {
    const fix = 'set it to an address such as https://huggingface.co, or unset it';
    // No cause: the error of a wrong URL quotes the text.
    return new InputError(problem, { at: { field: 'HF_ENDPOINT' }, fix });
  };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) throw refuse('must be an address that begins with https:// or http://');
  if (url.username || url.password) throw refuse('must not contain a user name or a password');
  if (url.search || url.hash) throw refuse('must not contain "?" or "#"');
  return url.href.replace(/\/+$/, '');
}

function readToken(file: string): string | undefined {
  const own = process.env.HF_TOKEN?.trim();
  const token = own || (existsSync(file) ? readText(file).trim() : '');
  const at: InputLocation = own ? { field: 'HF_TOKEN' } : { file };
  if (/[^\x21-\x7e]/.test(token))
    throw new InputError('contains a character that no token has, such as a line break or a space', {
      at,
      fix: 'copy the token again; it is one word of letters, digits and "_"',
    });
  return token || undefined;
}

/**
 * One request for a path of the hub. Its address always begins with the endpoint, whatever the hub has answered before, so the token goes
 * nowhere else: fetch drops it when a redirect leads to another origin.
 * @throws Passing where the connection fails, or the server has a problem that may pass
 */
export async function hubFetch(
  { endpoint, token }: Hub,
  path: string,
  headers: Record<string, string>,
  tell: Tell,
): Promise<Response> {
  const authorization = token && { authorization: `Bearer ${token}` };
  const { answer, silence } = patience;
  const response = await tellIfLong(
    `waiting for ${endpoint} to answer, at most ${duration(answer / 1000)}`,
    tell,
    fetchWithin(`${endpoint}${path}`, { headers: { ...headers, ...authorization } }, { answer, silence }),
  ).catch((error) => {
    throw Passing.of(error);
  });
  const { status } = response;
  if (status !== 408 && status !== 429 && status < 500) return response;
  await discard(response);
  throw new Passing(`the server answered with status ${status}`, { wait: retryAfter(response) });
}

/** Ends a connection whose body nobody will read. */
export async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => {});
}

/** Seconds that a busy server asks to wait. */
function retryAfter({ headers }: Response): number | undefined {
  const text = headers.get('retry-after') ?? '';
  if (/^\d+$/.test(text)) return Number(text);
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, (date - Date.now()) / 1000);
}

/**
 * A refusal of the hub, explained to the user: 401, 403 and 404 have one usual cause each.
 * @param path the file that was asked for, where it was one
 */
export async function refusal(
  response: Response,
  { endpoint, token }: Hub,
  { type, name, revision }: Repository,
  path?: string,
): Promise<InputError> {
  await discard(response);
  const { status } = response;
  const page = `${endpoint}/${type === 'dataset' ? 'datasets/' : ''}${name}`;
  const known = token !== undefined;
  const problems: Record<number, [problem: string, fix: string]> = {
    401: known
      ? ['the hub does not know your token (401)', `make a new one at ${endpoint}/settings/tokens and set HF_TOKEN`]
      : [
          `the hub shows it only with a token (401): it is gated or private, or there is no such ${type}`,
          `check the spelling; accept the terms at ${page}, make a token at ${endpoint}/settings/tokens, and set HF_TOKEN`,
        ],
    403: [
      `your account or token may not read it (403): the ${type} is gated`,
      `accept the terms at ${page} with the account of the token, and let a fine-grained token read gated repositories`,
    ],
    404:
      path === undefined
        ? [
            `the hub has no such ${type}, or not at revision ${revision} (404)`,
            `check the spelling${known ? '' : '; if it is private, set HF_TOKEN'}; a local folder must exist under this name`,
          ]
        : [
            `the hub lists ${path} among its files, but does not have it (404)`,
            'try again later; behind a mirror, check that it has the file',
          ],
  };
  // The servers that hold large files know nothing of accounts.
  const elsewhere = response.redirected && new URL(response.url).origin !== new URL(endpoint).origin;
  const [problem, fix] = (!elsewhere && problems[status]) || [
    `${elsewhere ? new URL(response.url).host : 'the hub'} answered with status ${status}${path ? ` for ${path}` : ''}`,
    'try again later; what has been downloaded is kept',
  ];
  return new InputError(problem, { at: { file: name }, fix });
}

export function notAHub({ endpoint }: Hub, { name }: Repository, problem: string): InputError {
  return new InputError(`${endpoint} does not answer like the hub: ${problem}`, {
    at: { file: name },
    fix: 'try again; if that does not help, check HF_ENDPOINT, or name a local one',
  });
}
