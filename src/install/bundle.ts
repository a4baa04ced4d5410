import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { arch, platform } from 'node:os';
import { join } from 'node:path';
import { GroupRobustError, reportError } from '../errors.js';
import { PACKAGE_ROOT, packageVersion } from '../package.js';
import { type LockedPackage, neededFolders } from './needed-folders.js';
import { run } from './tools.js';

/**
 * `npm run bundle`: one archive for machines without network, as GPU clusters often are: Node itself, this package built for it, what
 * both need of node_modules, the C++ sources, and the tests that native/gpu-check.sh runs. LibTorch, a compiler and CMake are to be there.
 */

/** Of the checkout. Tests and sources are for native/gpu-check.sh, which also measures. */
const PARTS = [
  ...['bin', 'dist', 'experiments', 'native', 'schema', 'src', 'test', 'docs'],
  ...[
    'CMakeLists.txt',
    'LICENSE',
    'README.md',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'vitest.config.ts',
  ],
];

/** What the tests need besides the package's own dependencies. */
const TEST_TOOLS = ['vitest', 'tsx', 'fast-check'];

async function bundle(): Promise<void> {
  const name = `group-robust-po-${packageVersion()}-${platform()}-${arch()}`;
  const file = join(PACKAGE_ROOT, 'build', `${name}.tar.xz`);
  const work = mkdtempSync(join(PACKAGE_ROOT, 'build/bundle-'));
  try {
    const root = join(work, name);
    for (const part of PARTS) cpSync(join(PACKAGE_ROOT, part), join(root, part), { recursive: true });
    const lock = readFileSync(join(PACKAGE_ROOT, 'package-lock.json'), 'utf8');
    const { packages } = JSON.parse(lock) as { packages: Record<string, LockedPackage> };
    // Some are for other systems, and not installed. Packages within a package are listed by themselves.
    for (const folder of neededFolders(packages, TEST_TOOLS)) {
      const source = join(PACKAGE_ROOT, folder);
      const isNested = (path: string) => path.slice(source.length).split('/').includes('node_modules');
      if (existsSync(source))
        cpSync(source, join(root, folder), { recursive: true, filter: (path) => !isNested(path) });
    }
    mkdirSync(join(root, 'node/bin'), { recursive: true });
    // Some distributions' Node is a small program beside a library that would stay behind.
    if (lstatSync(realpathSync(process.execPath)).size < 20e6)
      throw new GroupRobustError(
        'BUNDLE',
        `${process.execPath} does not run by itself: take a Node of nodejs.org or npm`,
      );
    cpSync(process.execPath, join(root, 'node/bin/node'), { dereference: true });
    process.stderr.write('bundle: packing\n');
    await run('tar', ['-cJf', join(work, 'archive'), '-C', work, name], { XZ_OPT: '-6 -T0', ...process.env }).catch(
      (error: Error) => {
        throw new GroupRobustError('BUNDLE', `tar and xz are needed (Debian: xz-utils): ${error.message}`);
      },
    );
    renameSync(join(work, 'archive'), file);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  process.stdout.write(`${file}: ${(lstatSync(file).size / 1e6).toFixed(1)} MB\n`);
}

await bundle().catch(reportError);
