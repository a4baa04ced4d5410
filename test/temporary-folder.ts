import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject } from 'vitest';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** Folder of the whole run, which holds the temporary folders of its tests. */
    temporary: string;
  }
}

/**
 * Vitest's global setup: makes the folder of the run and removes it at the end. Hooks alone would not do: vitest runs none in a file
 * all of whose tests are skipped.
 */
export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'group-robust-tests-'));
  project.provide('temporary', folder);
  return () => rmSync(folder, { recursive: true, force: true });
}

const made: string[] = [];

/** A new, empty folder, which is removed after the tests of the file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(inject('temporary'), 'folder-'));
  made.push(folder);
  return folder;
}

/** Called after the tests of each file. */
export function removeTemporaryFolders(): void {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
}
