import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This package's own folder, seen from src as from dist. */
export const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** What a message tells people to run: in a checkout, and where npm has installed the package, which then has no sources. */
export const BUILD_COMMAND = existsSync(join(PACKAGE_ROOT, 'src')) ? 'npm run build' : 'npx group-robust build';

/** This package's version, from its package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string }).version;
}
