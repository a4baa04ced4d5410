import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { ResourceLimits } from 'node:worker_threads';
import type { Piscina } from 'piscina';

export interface ParallelOptions {
  /** Number of worker threads; default one per core. The results do not depend on it. */
  workers?: number;
  /** Called as results arrive, with the number there are so far and the number of inputs. */
  onDone?: (done: number, total: number) => void;
}

/**
 * Maps `inputs` through a function that runs in worker threads; results come in the order of `inputs`.
 *
 * @param moduleUrl `import.meta.url` of the module that exports the function: compiled, or TypeScript source where `tsx`
 *   is installed
 * @param exportName the function's name there; it takes one input and returns a result or a promise of one, both of which
 *   must survive structured cloning
 * @throws the first error of any call; the other calls are abandoned
 */
export async function parallelMap<Input, Output>(
  moduleUrl: string,
  exportName: string,
  inputs: readonly Input[],
  { workers = availableParallelism(), onDone = () => {} }: ParallelOptions = {},
): Promise<Output[]> {
  const threads = Math.max(1, Math.min(workers, inputs.length));
  const pool = await threadPool(moduleUrl, { name: exportName, minThreads: threads, maxThreads: threads });
  try {
    let done = 0;
    return await Promise.all(
      inputs.map(async (input) => {
        const output: Output = await pool.run(input);
        onDone(++done, inputs.length);
        return output;
      }),
    );
  } finally {
    await pool.destroy();
  }
}

/**
 * Threads that run a function of a module.
 * @param moduleUrl of the compiled module; where it is run from its TypeScript source, either ending will do
 */
export async function threadPool(
  moduleUrl: string,
  options: { name: string; minThreads?: number; maxThreads: number; resourceLimits?: ResourceLimits },
): Promise<Piscina> {
  const { Piscina } = await import('piscina');
  const compiled = fileURLToPath(moduleUrl);
  const filename = existsSync(compiled) ? compiled : compiled.replace(/\.js$/, '.ts');
  // A worker starts without its parent's loader hooks, so it must be told how to read TypeScript.
  return new Piscina({ ...options, filename, execArgv: filename.endsWith('.ts') ? ['--import', tsxLoader()] : [] });
}

function tsxLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
