import { GroupRobustError, InterruptedError, messageOf } from '../errors.js';
import { writeRunReport } from '../report/run-report.js';
import { loadConfig } from '../train/config-file.js';
import { runTraining } from '../train/run.js';

/** The program of a process that makes one run of a sweep, as `group-robust train --resume` does; started by run-cells.ts. */

/** What it is told. */
export interface CellRequest {
  base: string;
  overrides: readonly string[];
  from: string;
}

/** What it tells: warnings and steps as they come, and then how it ended. */
export type CellReply = { log: string } | { taken: number; planned: number } | { outcome: CellOutcome };
export type CellOutcome = { done: true } | { failed: string } | { interrupted: string };

// Where the sweep is killed, its runs save and end too: a second sweep would find them in its way.
const orphaned = () => process.kill(process.pid, 'SIGTERM');
process.once('disconnect', orphaned);
process.once('message', async (request: CellRequest) => {
  const outcome = await train(request);
  process.removeListener('disconnect', orphaned);
  process.send?.({ outcome } satisfies CellReply, () => process.disconnect());
});

async function train({ base, overrides, from }: CellRequest): Promise<CellOutcome> {
  try {
    // Where the sweep is gone there is nobody to tell.
    const tell = (reply: CellReply) => process.send?.(reply, () => {});
    const log = (text: string) => tell({ log: text });
    const onProgress = (taken: number, planned: number) => tell({ taken, planned });
    const options = { resume: true, again: 'the same sweep', report: writeRunReport, onProgress };
    await runTraining(loadConfig(base, overrides, from), { quiet: true, log }, options);
    return { done: true };
  } catch (error) {
    if (error instanceof InterruptedError) return { interrupted: error.message };
    const text = error instanceof Error && !(error instanceof GroupRobustError) ? error.stack : undefined;
    return { failed: text ?? messageOf(error) };
  }
}
