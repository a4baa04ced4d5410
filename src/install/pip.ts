import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { findPip, findPython, run } from './tools.js';

/** Minor versions of Python 3 that PyPI's torch has wheels for. The C++ libraries are the same in all of them. */
const WHEEL_MINORS: readonly [number, number] = [10, 14];
const WHEEL_PYTHON = '3.12';

/**
 * Has pip install packages into a new folder below `work`, with nothing written elsewhere but to pip's own cache. Index, mirror,
 * wheel folders, proxy, time-outs and cache are those that the user's pip is configured for; pip checks hashes, and says sizes
 * on stderr before it downloads.
 * @param options for pip, besides those that this needs
 * @returns the folder
 * @throws Error that says why, where there is no Python, no pip, or pip fails; its own messages are on stderr then
 */
export async function pipInstall(
  work: string,
  requirements: readonly string[],
  env: NodeJS.ProcessEnv,
  options: readonly string[] = [],
): Promise<string> {
  const python = findPython(env);
  if (!python) throw new Error('there is no python3 on PATH (Debian: apt-get install python3 python3-pip)');
  if (!findPip(python, env))
    throw new Error(
      `the ${python.command} on PATH has no pip (Debian: apt-get install python3-pip; in a virtual environment: ${python.command} -m ensurepip)`,
    );
  const minor = Number(/^Python 3\.(\d+)/.exec(python.version)?.[1]);
  const [oldest, newest] = WHEEL_MINORS;
  const [site, scratch] = [join(work, 'site'), join(work, 'scratch')];
  await mkdir(scratch);
  await run(
    python.command,
    [
      ...['-m', 'pip', 'install', '--target', site, '--no-user', '--no-compile', '--only-binary=:all:'],
      ...['--disable-pip-version-check', '--no-warn-script-location'],
      ...(minor >= oldest && minor <= newest ? [] : ['--python-version', WHEEL_PYTHON, '--ignore-requires-python']),
      ...options,
      ...requirements,
    ],
    // Gigabytes are unpacked, for which a /tmp in memory has no room. What old versions of pip do not know, they ignore here.
    { ...env, TMPDIR: scratch, PIP_ROOT_USER_ACTION: 'ignore', PIP_REQUIRE_VIRTUALENV: '0' },
  );
  return site;
}
