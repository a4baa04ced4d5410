import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';

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
  const { Piscina } = await import('piscina');
  const pool = new Piscina({ ...startable(moduleUrl), name: exportName, minThreads: threads, maxThreads: threads });
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
 * What starts a module in a thread or process of its own: its file, and what Node has to be told.
 * @param moduleUrl of the compiled module; where that is run from its TypeScript source, either ending will do
 */
export function startable(moduleUrl: string): { filename: string; execArgv: string[] } {
  const compiled = fileURLToPath(moduleUrl);
  const filename = existsSync(compiled) ? compiled : compiled.replace(/\.js$/, '.ts');
  // It starts without this process's loader hooks, so it must be told how to read TypeScript.
  return { filename, execArgv: filename.endsWith('.ts') ? ['--import', tsxLoader()] : [] };
}

function tsxLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
