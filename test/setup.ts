import fc from 'fast-check';
import { afterAll } from 'vitest';
import { removeTemporaryFolders, temporaryFolder } from './temporary-folder.js';

// Local runs explore with new random inputs every time; a run that decides on a change has to be repeatable.
if (process.env.CI) fc.configureGlobal({ seed: 20240530 });

// Tests neither use nor fill the user's cache; each file starts with an empty one.
process.env.GROUP_ROBUST_CACHE = temporaryFolder();
afterAll(removeTemporaryFolders);
