import { createRequire } from 'node:module';

let loaded: typeof import('mathjs') | undefined;

/**
 * mathjs, from its single-file build: the modular one is a thousand files. Reading either takes half a second or more, which no
 * command or worker thread should spend that does not compute with it, so it is read at the first call.
 */
export function math(): typeof import('mathjs') {
  loaded ??= createRequire(import.meta.url)('mathjs/lib/browser/math.js') as typeof import('mathjs');
  return loaded;
}
