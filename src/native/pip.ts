import { findPip, findPython, run } from './tools.js';

/** Minor versions of Python 3 that PyPI's torch has wheels for. The C++ libraries are the same in all of them. */
const WHEEL_MINORS: readonly [number, number] = [10, 14];
const WHEEL_PYTHON = '3.12';

/**
 * Has pip install packages into `folder`, with nothing written elsewhere. Index, mirror, wheel folders, proxy, time-outs and
 * cache are those that the user's pip is configured for; pip checks hashes and says sizes before it downloads, on stderr.
 * @param folder a new or empty one: pip does not merge into what is there
 * @param options for pip, besides those that this needs
 * @throws Error that says why, where there is no Python, no pip, or pip fails; its own messages are on stderr then
 */
export async function pipInstall(
  folder: string,
  requirements: readonly string[],
  env: NodeJS.ProcessEnv,
  options: readonly string[] = [],
): Promise<void> {
  const python = findPython(env);
  if (!python) throw new Error('there is no python3 on PATH (Debian: apt-get install python3 python3-pip)');
  if (!findPip(python, env)) throw new Error(`${python.command} has no pip (Debian: apt-get install python3-pip)`);
  const minor = Number(/^Python 3\.(\d+)/.exec(python.version)?.[1]);
  const [oldest, newest] = WHEEL_MINORS;
  await run(
    python.command,
    [
      ...['-m', 'pip', 'install', '--target', folder, '--no-user', '--no-compile', '--only-binary=:all:'],
      ...['--disable-pip-version-check', '--no-warn-script-location', '--root-user-action=ignore'],
      ...(minor >= oldest && minor <= newest ? [] : ['--python-version', WHEEL_PYTHON, '--ignore-requires-python']),
      ...options,
      ...requirements,
    ],
    env,
  );
}
