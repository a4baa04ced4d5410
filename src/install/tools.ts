import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The programs a build needs, found the way CMake and the shell find them. */

/** Runs a program to the end; undefined when it is missing, fails or says nothing within `timeout` ms. */
export function capture(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
  timeout = 20_000,
): string | undefined {
  const { status, stdout } = spawnSync(command, args, {
    encoding: 'utf8',
    env,
    timeout,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return status === 0 ? stdout.trim() : undefined;
}

/** Runs a program with its output on our stderr. @throws Error where it cannot be started, or fails */
export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((done, fail) => {
    spawn(command, args, { env, stdio: ['ignore', 2, 2] })
      .on('error', fail)
      .on('close', (code, signal) =>
        code === 0
          ? done()
          : fail(new Error(`${command} ${signal ? `was ended by ${signal}` : `exited with ${code}`}`)),
      );
  });
}

export interface Tool {
  command: string;
  /** First line of `--version`, or the version itself. */
  version: string;
}

function firstOf(commands: (string | undefined)[], args: string[], env: NodeJS.ProcessEnv): Tool | undefined {
  for (const command of commands) {
    if (!command) continue;
    const text = capture(command, args, env);
    if (text !== undefined) return { command, version: text.replace(/\n.*/s, '') };
  }
  return undefined;
}

export const findCompiler = (env = process.env): Tool | undefined =>
  firstOf([env.CXX, 'c++', 'g++', 'clang++'], ['--version'], env);

/** Whether the first "major.minor" in a text is that version or a later one. */
export function isAtLeast(text: string, version: string): boolean {
  const parts = (one: string) => (/(\d+)\.(\d+)/.exec(one) ?? []).slice(1).map(Number);
  const [[foundMajor = 0, foundMinor = 0], [major = 0, minor = 0]] = [parts(text), parts(version)];
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

/** Where the shell would find a command. */
export const pathOf = (command: string, env = process.env): string =>
  capture('sh', ['-c', 'command -v "$1"', 'sh', command], env) ?? command;

export const findCmake = (env = process.env): Tool | undefined => firstOf(['cmake'], ['--version'], env);

/** What CMake's generated build runs with. */
export const findMake = (env = process.env): Tool | undefined => firstOf(['ninja', 'make'], ['--version'], env);

export const findPython = (env = process.env): Tool | undefined => firstOf(['python3', 'python'], ['--version'], env);

/** pip of that Python. */
export const findPip = (python: Tool, env = process.env): Tool | undefined =>
  firstOf([python.command], ['-m', 'pip', '--version'], env);

/** What the dynamic loader would load for a library, and from where, undefined where it finds none. Empty where it cannot be asked. */
export function neededLibraries(library: string, env = process.env): Map<string, string | undefined> {
  const lines = (capture('ldd', [library], env) ?? '').matchAll(/^\s*(\S+) => (?:not found|(\/.*) \(0x[0-9a-f]+\))$/gm);
  return new Map([...lines].map(([, name = '', path]) => [name, path]));
}

/** Driver version and card of each GPU, such as "580.95.05, NVIDIA H100"; undefined where there is no NVIDIA driver. */
export function findGpus(env = process.env): string[] | undefined {
  const text = capture('nvidia-smi', ['--query-gpu=driver_version,name', '--format=csv,noheader'], env);
  return text?.split('\n').filter(Boolean);
}

/** nvcc at a path or of a name, its `version` being CUDA's, like "13.0"; undefined where it is not there or does not run. */
export function nvccAt(command: string, env = process.env): Tool | undefined {
  if (command.includes('/') && !existsSync(command)) return undefined;
  const version = /release (\d+\.\d+)/.exec(capture(command, ['--version'], env) ?? '')?.[1];
  return version === undefined ? undefined : { command, version };
}

/** The nvccs of the system, in the order in which others look for one. */
export function findNvccs(env = process.env): Tool[] {
  const places = [env.CUDACXX, 'nvcc', join(env.CUDA_HOME ?? env.CUDA_PATH ?? '/usr/local/cuda', 'bin/nvcc')];
  return places.flatMap((command) => (command && nvccAt(command, env)) || []);
}
