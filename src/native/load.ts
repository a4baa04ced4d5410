import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { GroupRobustError } from '../errors.js';
import { BUILD_COMMAND, PACKAGE_ROOT } from '../package.js';
import { detectLibc } from './libc.js';
import type { NativeAddon } from './types.js';

/** The addon is not built, or does not load here; the message lists what was tried and says what to run. */
export class NativeUnavailableError extends GroupRobustError {
  constructor(message: string, options?: ErrorOptions) {
    super('NATIVE_UNAVAILABLE', message, options);
  }
}

/** Where the addon may be, in the order in which the places are tried. */
export function addonCandidates(root: string = PACKAGE_ROOT): string[] {
  return [join(root, 'build/Release/group_robust.node'), join(root, 'build/Debug/group_robust.node')];
}

/** What to do about a message of the dynamic loader. */
export function loaderAdvice(message: string): string {
  if (/static TLS block/.test(message)) {
    const library = /(\/\S*?\.so[.\d]*)/.exec(message)?.[1] ?? 'the libgomp.so.1 in lib/ of LibTorch';
    return `load that library first: LD_PRELOAD=${library} node ...`;
  }
  const symbolVersion = /version [`']((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found/.exec(message)?.[1];
  if (symbolVersion)
    return `LibTorch or the addon was built for a newer system (${symbolVersion}): rebuild here with ${BUILD_COMMAND}, or use a newer distribution (Debian 12 or later)`;
  if (/lib(torch|c10)\w*\.(so|dylib)\S*: cannot open shared object|Library not loaded: \S*lib(torch|c10)/.test(message))
    return `the LibTorch this addon was built against has been moved or removed: run ${BUILD_COMMAND}`;
  if (/group_robust\.node: cannot open shared object file/.test(message))
    return `the addon is there, but for another kind of machine: run ${BUILD_COMMAND}`;
  if (/cannot open shared object file/.test(message))
    return `a shared library is missing: install it, or run ${BUILD_COMMAND} to build against another LibTorch`;
  if (/undefined symbol/.test(message))
    return `the addon does not fit the LibTorch that is loaded: run ${BUILD_COMMAND}, and unset LD_LIBRARY_PATH and LD_PRELOAD`;
  if (/invalid ELF header|wrong architecture|not a valid Win32|file too short/.test(message))
    return `the addon was built for another system, or only in part: remove ${join(PACKAGE_ROOT, 'build')} and run ${BUILD_COMMAND}`;
  return `run ${BUILD_COMMAND}, then npx group-robust doctor`;
}

let loaded: NativeAddon | undefined;

/**
 * The C++ addon, loaded at the first call. Importing this module loads nothing.
 * @throws NativeUnavailableError when it is not built or does not load
 */
export function loadNative(): NativeAddon {
  loaded ??= loadAddon(addonCandidates());
  return loaded;
}

/** Loads the first of `candidates` that exists. @throws NativeUnavailableError */
export function loadAddon(candidates: string[]): NativeAddon {
  const system = [`${process.platform}-${process.arch}`, detectLibc(), `Node ${process.version}`]
    .filter(Boolean)
    .join(', ');
  const path = candidates.find((candidate) => existsSync(candidate));
  if (!path)
    throw new NativeUnavailableError(
      [
        `the C++ addon is not built (${system})`,
        ...candidates.map((candidate) => `  tried ${candidate}: no such file`),
        `  fix: run ${BUILD_COMMAND} in ${BUILD_COMMAND.startsWith('npm ') ? 'the checkout of group-robust-po' : 'your project'}`,
      ].join('\n'),
    );
  // OpenMP reads these when it is loaded. By default its threads spin for milliseconds after every operation: where other work needs the
  // cores, a training step of a small model then takes ten times as long. Asleep at once, they are slow to wake on an idle machine. So they
  // spin for some 30 µs, about what a wake-up costs, and sleep then. A worker thread can set them only where it has `env: SHARE_ENV`.
  if (process.env.OMP_WAIT_POLICY === undefined && process.env.GOMP_SPINCOUNT === undefined) {
    process.env.OMP_WAIT_POLICY = 'passive';
    process.env.GOMP_SPINCOUNT = '3000';
  }
  try {
    return createRequire(import.meta.url)(path) as NativeAddon;
  } catch (error) {
    const message = (error as Error).message;
    throw new NativeUnavailableError(
      [
        `the C++ addon does not load (${system})`,
        `  tried ${path}: ${message}`,
        `  fix: ${loaderAdvice(message)}`,
      ].join('\n'),
      { cause: error },
    );
  }
}
