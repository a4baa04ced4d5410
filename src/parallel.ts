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
  const { Piscina } = await import('piscina');
  const filename = fileURLToPath(moduleUrl);
  const threads = Math.max(1, Math.min(workers, inputs.length));
  const pool = new Piscina({
    filename,
    name: exportName,
    minThreads: threads,
    maxThreads: threads,
    // A worker starts without its parent's loader hooks, so it must be told how to read TypeScript.
    execArgv: filename.endsWith('.ts') ? ['--import', tsxLoader()] : [],
  });
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

function tsxLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}
