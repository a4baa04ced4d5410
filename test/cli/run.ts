import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

/** Runs the built program as a user would; `json` is stdout parsed where it is one JSON object. */
export function groupRobust(args: string[], cwd = process.cwd()) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [resolve('dist/cli/main.js'), ...args], {
    cwd,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  return {
    status,
    stdout,
    stderr,
    get json() {
      return JSON.parse(stdout);
    },
  };
}
