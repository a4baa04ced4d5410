import * as z from 'zod';
import { InputError, present } from '../errors.js';
import { fieldName, issueText } from '../files/read.js';
import { type Hub, hubFetch, notAHub, type Repository, refusal } from './client.js';
import { Budget, Passing, type Tell } from './patience.js';

/**
 * What the hub says of a repository. `@huggingface/hub` follows the Link headers of a listing wherever they lead, without end and with
 * the token, and trusts what the answers say; here all of it is checked.
 */

/** A file as the hub lists it. */
export interface RemoteFile {
  /** Inside the repository. */
  path: string;
  size: number;
  /** Of its content: SHA-256 for large files, git's SHA-1 for the others. Used as the name of a file. */
  digest: { algorithm: 'sha256' | 'git'; hex: string };
}

/** The hub's own rule is at most 100 000 files. A page has 1000, of some 300 bytes each. */
export const listingLimits = { seconds: 600, bytes: 64e6, answerBytes: 16e6, pages: 1000, files: 200_000 };

export const commitPattern = /^[0-9a-f]{40}$/;
const sha1 = z.string().regex(commitPattern, 'must be 40 hexadecimal digits');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits');

const infoSchema = z.object({ sha: sha1 });
const listSchema = z.array(z.looseObject({ type: z.string() }));
const fileSchema = z.object({
  path: z.string(),
  size: z.int().nonnegative(),
  oid: sha1,
  lfs: z.object({ oid: sha256 }).nullish(),
});

/** Asks the hub for the commit of a revision and the files of the commit. @throws InputError */
export async function remoteFiles(
  hub: Hub,
  repository: Repository,
  tell: Tell,
): Promise<{ commit: string; files: RemoteFile[] }> {
  const { type, name, revision } = repository;
  const api = `/api/${type}s/${name}`;
  const valid = <T>(schema: z.ZodType<T>, value: unknown, place: PropertyKey[] = []): T => {
    const parsed = schema.safeParse(value, { error: issueText });
    if (parsed.success) return parsed.data;
    const { message, path } = present(parsed.error.issues[0]);
    throw notAHub(hub, repository, `${fieldName([...place, ...path]) || 'an answer'} ${message}`);
  };
  const budget = new Budget(
    listingLimits,
    (reason, cause) =>
      new InputError(`is not a local folder or file, and ${hub.endpoint} cannot be reached: ${reason}`, {
        at: { file: name },
        fix: 'check the network, try again later, or name a local one',
        cause,
      }),
    tell,
  );
  const ask = (path: string) =>
    budget.run(async () => {
      const response = await hubFetch(hub, path, { accept: 'application/json' }, tell);
      if (!response.ok) throw await refusal(response, hub, repository);
      const text = await readText(response, budget, () => notAHub(hub, repository, 'an answer has no end'));
      budget.progressed();
      return { json: parsed(text, () => notAHub(hub, repository, 'an answer is not JSON')), headers: response.headers };
    });

  const info = await ask(`${api}/revision/${encodeURIComponent(revision)}?expand=sha`);
  const { sha: commit } = valid(infoSchema, info.json);
  const files = new Map<string, RemoteFile>();
  const asked = new Set<string>();
  for (let query: string | undefined = '?recursive=true&expand=false'; query !== undefined; ) {
    if (asked.has(query)) throw notAHub(hub, repository, 'a page of its listing names itself as the next one');
    asked.add(query);
    const page = await ask(`${api}/tree/${commit}${query}`);
    for (const [i, entry] of valid(listSchema, page.json).entries()) {
      if (entry.type !== 'file') continue;
      const { path, size, oid, lfs } = valid(fileSchema, entry, [i]);
      if (!isPlain(path)) continue;
      if (files.has(path)) throw notAHub(hub, repository, `${path} is in its listing twice`);
      const digest = lfs ? { algorithm: 'sha256' as const, hex: lfs.oid } : { algorithm: 'git' as const, hex: oid };
      files.set(path, { path, size, digest });
    }
    if (files.size > listingLimits.files || asked.size > listingLimits.pages)
      throw notAHub(hub, repository, `its listing has more than ${files.size} files on ${asked.size} pages`);
    query = nextQuery(page.headers, () => notAHub(hub, repository, 'the link to the next page is not an address'));
  }
  return { commit, files: [...files.values()] };
}

/**
 * The query of the next page. The rest of its address is ignored: another server would get the token, and a mirror may pass on the hub's
 * own address.
 */
function nextQuery(headers: Headers, refuse: () => InputError): string | undefined {
  const [, next] = /<([^<>]*)>\s*;\s*rel="?next"?/.exec(headers.get('link') ?? '') ?? [];
  if (next === undefined) return undefined;
  if (!URL.canParse(next, 'http://hub')) throw refuse();
  return new URL(next, 'http://hub').search;
}

/** Paths come from the network, are used as paths here and are printed: none may leave the snapshot or control a terminal. */
function isPlain(path: string): boolean {
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\:\p{C}]/u.test(part));
}

/** The text of an answer, within the limit on its length. */
async function readText(response: Response, budget: Budget, refuse: () => InputError): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body ?? []) {
      budget.spend(chunk.length);
      length += chunk.length;
      if (length > listingLimits.answerBytes) throw refuse();
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof InputError ? error : Passing.of(error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parsed(text: string, refuse: () => InputError): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuse();
  }
}
