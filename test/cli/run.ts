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
      return parsedOutput({ status, stdout, stderr });
    },
  };
}

/** The one JSON object on stdout; where there is none, what the program said instead. */
export function parsedOutput({ status, stdout, stderr }: { status: number | null; stdout: string; stderr: string }) {
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`no JSON on stdout, exit ${status}: ${stdout}\nstderr: ${stderr}`);
  }
}
