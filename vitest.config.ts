import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const long = /test\/(soak\/|install\/package|policy\/(gemma-transformers|real-gemma)|cli\/interrupt|readme)/;

/** Vitest begins with large files; small ones that take minutes would leave one worker without work at the end. */
class LongFilesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]) {
    const sorted = await super.sort(files);
    return [
      ...sorted.filter((file) => long.test(file.moduleId)),
      ...sorted.filter((file) => !long.test(file.moduleId)),
    ];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/temporary-folder.ts'],
    setupFiles: ['test/setup.ts'],
    sequence: { sequencer: LongFilesFirst },
    // The addon keeps one LibTorch per process and has two cores to share: forks isolate it, two at a time.
    pool: 'forks',
    maxWorkers: 2,
    // Threads that wait for others must not keep the cores from them: two workers have more of them than there are cores.
    env: { GOMP_SPINCOUNT: '0' },
    // Whole commands and trainings, on a machine that may have other work; what hangs still ends.
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
