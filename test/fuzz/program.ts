import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type Outcome, scratchFolder } from './target.js';
import { targets } from './targets.js';

/**
 * Tries inputs of one target in this process, each of which has 1 second and, with all the others, 256 MB:
 *
 *   npx tsx test/fuzz/program.ts TARGET FIRST COUNT
 *
 * Says on stdout now and then how far it is, as one JSON object a line. An input that takes longer is tried again at the end,
 * alone, since others, or other work on the machine, may have taken its time. Memory is what Linux tells.
 */
const limits = { seconds: 1, megabytes: 256 };

/** A line of stdout; `inputs` are those that have been tried. */
export interface Report {
  inputs: number;
  outcomes: Record<Outcome, number>;
  slowest: number;
  megabytes: number;
}

const [name, first, count] = process.argv.slice(2);
process.on('exit', () => rmSync(scratchFolder(), { recursive: true, force: true }));
const { atOnce, attempt } = await targets[name]();

const report: Report = { inputs: 0, outcomes: { read: 0, refused: 0 }, slowest: 0, megabytes: 0 };
const memory = memoryGrowth();
const end = Number(first) + Number(count);
const slow: number[] = [];
let told = Date.now();
// Each slot goes on as soon as it is done: one that waits holds up no other.
await Promise.all(
  Array.from({ length: atOnce }, async (_, slot) => {
    for (let i = Number(first) + slot; i < end; i += atOnce) {
      const { outcome, seconds } = await timed(i);
      if (seconds > limits.seconds) slow.push(i);
      else report.slowest = Math.max(report.slowest, seconds);
      report.outcomes[outcome]++;
      report.inputs++;
      if (Date.now() - told > 500) tell();
    }
  }),
);
for (const i of slow) {
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 3 && least > limits.seconds; tries++) least = Math.min(least, (await timed(i)).seconds);
  if (least > limits.seconds) throw new Error(`input ${i} of ${name} takes ${least.toFixed(1)} s, alone too`);
  report.slowest = Math.max(report.slowest, least);
}
tell();

async function timed(i: number): Promise<{ outcome: Outcome; seconds: number }> {
  const start = performance.now();
  try {
    const outcome = await attempt(i);
    return { outcome, seconds: (performance.now() - start) / 1000 };
  } catch (error) {
    throw new Error(`input ${i} of ${name}`, { cause: error });
  }
}

function tell(): void {
  told = Date.now();
  report.megabytes = Math.max(report.megabytes, memory());
  if (report.megabytes > limits.megabytes)
    throw new Error(
      `${name}: ${report.megabytes} MB more than at first, after ${report.inputs} inputs from ${first} on`,
    );
  console.log(JSON.stringify(report));
}

/** How much more memory than now this process, or one that it has started to read with, has had at any time, in MB. */
function memoryGrowth(): () => number {
  // What it took to start is no part of the peak.
  writeFileSync('/proc/self/clear_refs', '5');
  const before = new Map([[String(process.pid), peakOf('self') ?? 0]]);
  return () => {
    let most = 0;
    for (const pid of [String(process.pid), ...helperProcesses()]) {
      const peak = peakOf(pid);
      if (peak === undefined) continue;
      if (!before.has(pid)) before.set(pid, peak);
      most = Math.max(most, peak - before.get(pid)!);
    }
    return Math.ceil(most);
  };
}

/** The most memory that a process has had, in MB; undefined where it has ended. */
function peakOf(pid: string): number | undefined {
  const kilobytes = /VmHWM:\s*(\d+) kB/.exec(readIfThere(`/proc/${pid}/status`))?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) / 1024;
}

function helperProcesses(): string[] {
  const threads = readdirSync('/proc/self/task');
  return threads.flatMap((thread) => readIfThere(`/proc/self/task/${thread}/children`).split(' ').filter(Boolean));
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
