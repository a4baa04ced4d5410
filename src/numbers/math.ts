import { createRequire } from 'node:module';

/**
 * The functions of mathjs that this package uses, from its single-file build: the modular one is a thousand files, which
 * costs every process and every worker thread a second of start-up.
 */
const math: typeof import('mathjs') = createRequire(import.meta.url)('mathjs/lib/browser/math.js');

export const { eigs, lup, lusolve, mean, std } = math;
