import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll } from 'vitest';

// Local runs explore with new random inputs every time; a run that decides on a change has to be repeatable.
if (process.env.CI) fc.configureGlobal({ seed: 20240530 });

// Tests neither use nor fill the user's cache; each file starts with an empty one.
const cache = mkdtempSync(join(tmpdir(), 'cache-'));
process.env.GROUP_ROBUST_CACHE = cache;
afterAll(() => rmSync(cache, { recursive: true, force: true }));
