import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, relative } from 'node:path';
import { filesBelow } from '../files/write.js';
import { PACKAGE_ROOT } from '../package.js';
import { readStamp, updateStamp } from './stamp.js';
import { digest, log, runScript } from './steps.js';

const require = createRequire(import.meta.url);

/** Compiles src/ into dist/, which npm packs; passed over where no source has changed. A checkout only: the packed package has no sources. */
export async function buildJavaScript(): Promise<void> {
  const source = join(PACKAGE_ROOT, 'src');
  const target = join(PACKAGE_ROOT, 'dist');
  const program = join(target, 'cli/main.js');
  const files = filesBelow(source);
  const dist = digest([...files, join(PACKAGE_ROOT, 'tsconfig.json'), join(PACKAGE_ROOT, 'tsconfig.build.json')]);
  if (readStamp().dist === dist && existsSync(program)) {
    log('JavaScript is up to date');
    return;
  }

  log('compiling TypeScript');
  // TypeScript's own notes would make it believe that files somebody removed are still there, and it removes none itself.
  if (!existsSync(program)) rmSync(target, { recursive: true, force: true });
  await runScript('TypeScript', join(dirname(require.resolve('typescript/package.json')), 'bin/tsc'), [
    '-p',
    join(PACKAGE_ROOT, 'tsconfig.build.json'),
  ]);
  for (const file of filesBelow(target).filter((name) => /\.(js|js\.map|d\.ts)$/.test(name)))
    if (!existsSync(join(source, relative(target, file).replace(/\.(js|js\.map|d\.ts)$/, '.ts')))) rmSync(file);
  for (const file of files.filter((name) => extname(name) !== '.ts')) {
    const copy = join(target, relative(source, file));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(file, copy);
  }
  chmodSync(program, 0o755);
  updateStamp({ dist });
}
