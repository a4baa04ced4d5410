import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/temporary-folder.ts'],
    setupFiles: ['test/setup.ts'],
    // The addon keeps one LibTorch per process and has two cores to share: forks isolate it, two at a time.
    pool: 'forks',
    maxWorkers: 2,
    // Whole commands and trainings, on a machine that may have other work; what hangs still ends.
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
