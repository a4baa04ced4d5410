import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Report } from '../fuzz/program.js';
import { scratchFolder } from '../fuzz/target.js';
import { targets } from '../fuzz/targets.js';
import type { Attack, AttackOptions } from './attack.js';

/**
 * Readers on mutated inputs, each in a process of its own: every input is read or refused with an error for the user, within a
 * second and 256 MB, see test/fuzz/program.ts.
 */
export const inputs: Attack[] = Object.keys(targets).map((name) => ({
  name: `inputs: ${name}`,
  unit: 'inputs',
  full: 1_000_000,
  run: (count, options) => fuzz(name, count, options),
}));

/** Seconds without a word of the process after which it counts as hung. */
const SILENCE = 600;

async function fuzz(name: string, count: number, { first = 0, onDone = () => {} }: AttackOptions): Promise<string> {
  const began = Date.now();
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', 'test/fuzz/program.ts', name, String(first), String(count)],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let report: Report | undefined;
  let said = '';
  const hung = setTimeout(() => child.kill('SIGABRT'), 1000 * SILENCE);
  createInterface(child.stdout).on('line', (line) => {
    hung.refresh();
    report = JSON.parse(line) as Report;
    onDone(report.inputs);
  });
  child.stderr.on('data', (text) => {
    said += text;
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((done, fail) => {
    child.on('error', fail).on('close', (...end) => done(end));
  });
  clearTimeout(hung);
  rmSync(scratchFolder(child.pid), { recursive: true, force: true });
  const told = report?.inputs ?? 0;
  if (code !== 0 || said !== '' || !report || told !== count)
    throw new Error(
      `ends with ${signal ?? code} after about ${told} inputs: ${said}\n` +
        `  again: npx tsx test/fuzz/program.ts '${name}' INPUT 1`,
    );
  const { outcomes, slowest, megabytes } = report;
  // Mutations so mild that all are read, or so wild that none is, would test little.
  if (outcomes.refused < count / 10 || outcomes.read < count / 50)
    throw new Error(`of ${count} inputs ${outcomes.read} are read and ${outcomes.refused} refused`);
  return (
    `${outcomes.read} read, ${outcomes.refused} refused; the slowest ${slowest.toFixed(2)} s; ${megabytes} MB; ` +
    `${((Date.now() - began) / count).toFixed(1)} ms each`
  );
}
